"""``selfreward report``: the page of a run or a comparison, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.errors import ConfigError


def report(folder: Annotated[Path, typer.Argument(help="A run folder, or a folder with compare.json.")]) -> None:
    """Write report.html of a run or a comparison (one file, opens offline)."""
    from selfreward.evaluation.report import write_comparison, write_report

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder.")
    if (folder / "compare.json").is_file():
        from selfreward.training.comparison import read_comparison

        print(write_comparison(read_comparison(folder), folder))
    elif (folder / "metrics.jsonl").is_file():
        print(write_report(folder))
    else:
        raise ConfigError(f"{folder} holds neither a run (metrics.jsonl) nor a comparison (compare.json).")
