"""``selfreward audit``: which self-made reward can be believed here, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import Data, Seed, Set, SomeModel


def audit(
    model: SomeModel = None,
    data: Data = None,
    rollouts: Annotated[
        Path | None, typer.Option("--rollouts", help="JSONL with completions; needs no model for signals of text.")
    ] = None,
    signals: Annotated[
        str | None, typer.Option("--signals", help="Names, as in vote,borda:by=gap,length; default: all.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Completions per prompt.", min=2)] = 16,
    prompts: Annotated[int | None, typer.Option("--prompts", help="Prompts at most (64; all of --rollouts).")] = None,
    labels: Annotated[
        int | None, typer.Option("--labels", help="Look at the answers of so many prompts (0: none).", min=0)
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="audit.json and report.html go here.")] = Path("runs/audit"),
    set_: Set = None,
) -> None:
    """Score one set of rollouts with every signal and say which can be trusted here."""
    from rich.console import Console

    from selfreward.evaluation.report.audit import audit_table, audit_words, write_audit
    from selfreward.runtime.options import parse_settings
    from selfreward.signals.named import split_signals
    from selfreward.training.auditing import audit_of

    report = audit_of(
        model,
        data,
        rollouts=rollouts,
        signals=None if signals is None else split_signals(signals),
        n=n,
        prompts=prompts,
        labels=labels,
        seed=seed,
        settings=parse_settings(set_ or []),
    )
    console = Console()
    console.print(audit_table(report, console.width))
    for line in audit_words(report):
        console.print(line, markup=False, highlight=False)
    print(f"{report.save(out)}\n{write_audit(report, out)}")
