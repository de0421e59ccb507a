"""``selfreward select``: many samples of every prompt, one chosen answer each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import Limit, Model, Seed, Set


def select(
    model: Model = "embedded:chain",
    data: Annotated[str | None, typer.Option("--data", help="Prompts; answers, where there are any, grade.")] = None,
    completions: Annotated[
        str | None,
        typer.Option("--completions", help="JSONL of prompts with 'completions' (and 'scores') made elsewhere."),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Samples per prompt.", min=1)] = 16,
    rule: Annotated[str, typer.Option("--rule", help="majority, best, borda, weighted or accept-vote.")] = "majority",
    score: Annotated[
        str | None,
        typer.Option("--score", help="self-certainty, logprob, entropy, gini, gap, judge, last-token, self-prm, ..."),
    ] = None,
    power: Annotated[float, typer.Option("--power", help="Of the Borda weights; 0 is the plain vote.")] = 0.5,
    threshold: Annotated[float, typer.Option("--threshold", help="Least score that is accepted.")] = 0.5,
    limit: Limit = 200,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", help="JSONL of the chosen answers.")] = None,
    set_: Set = None,
) -> None:
    """Sample many answers per prompt and choose one: by vote, by score, or by both."""
    from rich.console import Console

    from selfreward.cli.tables import selection_table
    from selfreward.data import write_jsonl
    from selfreward.runtime.options import parse_settings
    from selfreward.training.test_time import select as run

    found = run(
        model,
        data,
        completions=completions,
        rule=rule,
        score=score,
        n=n,
        limit=limit,
        power=power,
        threshold=threshold,
        seed=seed,
        settings=parse_settings(set_ or []),
    )
    rows = list(found.records())
    if out:
        write_jsonl(out, rows)
    Console().print(selection_table(found))
    print(out if out else "\n".join(f"{row['prompt']} -> {row['answer']}  ({row['why']})" for row in rows[:10]))
