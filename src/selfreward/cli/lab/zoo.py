"""``selfreward zoo``: the sentinel's test bed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from selfreward.cli.options import Jobs
from selfreward.errors import ConfigError


def zoo(
    part: Annotated[str, typer.Option("--part", help="choice, unseen, or none to judge what is there.")] = "none",
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds per animal.", min=1)] = 3,
    only: Annotated[str, typer.Option("--only", help="Species whose names match this pattern.")] = "",
    out: Annotated[Path, typer.Option("--out", help="Run folders go here.")] = Path("runs/zoo"),
    evidence: Annotated[Path, typer.Option("--evidence", help="The evidence file.")] = Path("evidence/sentinel.json"),
    replay: Annotated[bool, typer.Option("--replay", help="Judge the kept records again; trains nothing.")] = False,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw some runs: FILE.svg, .png or .pdf.")] = None,
    show: Annotated[str, typer.Option("--show", help="With --figure: runs, as NAME/SEED,NAME/SEED.")] = "",
    note: Annotated[str, typer.Option("--note", help="Recorded in the evidence.")] = "",
    jobs: Jobs = 1,
) -> None:
    """Train runs that collapse and healthy ones that look alarming, and ask whether the sentinel was right."""
    from selfreward.cli.progress import CompareProgress
    from selfreward.lab.validation import records, run_verdicts
    from selfreward.lab.validation.evidence import write_evidence
    from selfreward.lab.validation.zoo import SPECIES, run

    if part not in ("choice", "unseen", "none"):
        raise ConfigError(f"--part is {part!r}; it is choice (even seeds), unseen (odd seeds) or none.")
    if replay:
        runs = records.read_records(records.records_of(evidence))
        found: dict[str, Any] = {p: run_verdicts.summarise(v) for p, v in run_verdicts.judge_all(runs).items()}
    else:
        if part != "none":
            with CompareProgress() as progress:
                run("choice" if part == "choice" else "unseen", seeds, out, jobs, progress, only)
        runs = records.finished(out)
        found = write_evidence(runs, {s.name: s.expects for s in SPECIES}, evidence, note)
    judged = run_verdicts.judge_all(runs)
    for name in records.PARTS:
        table = Table("species", "called in time", "false alarms", "unclear, called", "first severe alarm", title=name)
        for row in run_verdicts.by_species(judged[name]):
            table.add_row(*row)
        if judged[name]:
            Console().print(table)
        print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in found[name].items()))
    if figure is not None:
        from selfreward.lab.validation.figure import watched_figure

        print(watched_figure(runs, [name for name in show.split(",") if name], figure))
    if not replay:
        print(evidence)
