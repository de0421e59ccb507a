"""``selfreward zoo``: the sentinel's test bed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.errors import ConfigError


def zoo(
    part: Annotated[str, typer.Option("--part", help="choice, unseen, or none to judge what is there.")] = "none",
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds per animal.", min=1)] = 3,
    only: Annotated[str, typer.Option("--only", help="Species whose names match this pattern.")] = "",
    out: Annotated[Path, typer.Option("--out")] = Path("runs/zoo"),
    evidence: Annotated[Path, typer.Option("--evidence")] = Path("evidence/sentinel.json"),
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at once.", min=1)] = 1,
) -> None:
    """Runs that collapse in different ways and healthy ones that look alarming; was the sentinel right?"""
    from selfreward.cli.show import CompareProgress
    from selfreward.sentinel.zoo import run, write_evidence

    if part not in ("choice", "unseen", "none"):
        raise ConfigError(f"--part is {part!r}; it is choice (even seeds), unseen (odd seeds) or none.")
    if part != "none":
        with CompareProgress() as progress:
            run("choice" if part == "choice" else "unseen", seeds, out, jobs, progress, only)
    found = write_evidence(out, evidence)
    for name in ("choice", "unseen"):
        print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in found[name].items()))
    print(evidence)
