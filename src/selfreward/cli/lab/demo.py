"""``selfreward demo``: the idea of this package, and its limits, in three minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.compare import compare_and_show
from selfreward.cli.options import Jobs


def demo(
    out: Annotated[Path, typer.Option("--out", help="Replaced if it holds an earlier demo.")] = Path("runs/demo"),
    jobs: Jobs = 2,
) -> None:
    """See the story in minutes: a vote teaches, two tempting rewards mislead, and a trap for the vote has a way out."""
    import shutil

    from rich.console import Console

    from selfreward.cli.progress import CompareProgress
    from selfreward.evaluation.report import comparison_table
    from selfreward.lab.proofs.consensus import co_reward
    from selfreward.lab.proofs.consensus.vote import ARMS, DEMO_SETTINGS
    from selfreward.training.comparison import compare as run
    from selfreward.training.comparison import read_comparison

    if (out / "compare.json").exists() or (out / ARMS[0].label).exists():
        shutil.rmtree(out)
    trap, arms, settings = out / co_reward.DEMO_FOLDER, co_reward.DEMO_ARMS, co_reward.DEMO_SETTINGS
    with CompareProgress() as progress:
        run(arms, settings, seeds=(0,), out=trap, jobs=jobs, progress=progress, title=co_reward.DEMO_TITLE)
    compare_and_show(
        lambda progress: run(ARMS, DEMO_SETTINGS, seeds=(0,), out=out, jobs=jobs, progress=progress),
        out,
    )
    print(f"\n{co_reward.DEMO_TITLE} ({trap / 'compare.json'})")
    Console().print(comparison_table(read_comparison(trap), trap))
