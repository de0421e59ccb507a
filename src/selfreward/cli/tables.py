"""What commands print at the end: tables of numbers with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from selfreward.signals.selection import Selection
    from selfreward.training.test_time import Selected


def print_summary(summary: Mapping[str, Any], out: Path) -> None:
    """Before/after table, alarms, and where things are; writes the report."""
    from selfreward.evaluation.report import summary_table, write_report

    Console().print(summary_table(summary["before"], summary["after"]))
    for alarm in summary["alarms"]:
        print(f"alarm at step {alarm['step']}: {alarm['name']}: {alarm['meaning']}")
    print(f"model   {out / 'model'}\nreport  {write_report(out)}")


def evaluation_table(result: Mapping[str, Any]) -> Table:
    """Every number of a measurement with its interval."""
    # A task that measures in its own way may not say on how many.
    counted = "prompts" in result and "samples" in result
    table = Table(title=f"{result['prompts']} prompts, {result['samples']} samples each" if counted else None)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    intervals = result.get("intervals", {})
    for name, value in result.items():
        if isinstance(value, float):
            low, high = intervals.get(name, (None, None))
            table.add_row(name, f"{value:.3f}", "" if low is None else f"{low:.3f} … {high:.3f}")
    return table


def recipes_table() -> Table:
    """A row per recipe: its source, what it may read, what it believes, and its own hyperparameters."""
    from selfreward.recipes.grpo import GRPO
    from selfreward.recipes.registry import RECIPES, hyperparameters, plugins, recipe_class

    table = Table()
    for column in ("recipe", "system", "labels", "what it believes", "hyperparameters"):
        table.add_column(column, overflow="fold")
    common = hyperparameters(GRPO).keys()
    for name in RECIPES:
        cls = recipe_class(name)
        own = {k: v for k, v in hyperparameters(name).items() if not (issubclass(cls, GRPO) and k in common)}
        first = (cls.__doc__ or "").strip().splitlines()[0]
        table.add_row(
            name,
            cls.system_id or ("control" if cls.control else ""),
            cls.labels,
            first,
            ", ".join(f"{k}={v}" for k, v in own.items()),
        )
    for name, points in plugins().items():
        owners = ", ".join(p.dist.name if p.dist else p.value for p in points)
        table.add_row(name, "", "", f"brought by {owners}", "")
    return table


def selection_table(chosen: Selected) -> Table:
    """The rule beside a random sample and the majority, on the prompts that have an answer."""
    from selfreward.signals.selection import select as pick
    from selfreward.statistics import paired_prompts, share

    right = {
        i: [chosen.answers.correct(c, g.prompt.answer) for c in g.completions]
        for i, g in enumerate(chosen.groups)
        if g.prompt.answer is not None
    }
    table = Table(title=f"{len(chosen.groups)} prompts, {len(right)} with an answer")
    for column in ("choice", "accuracy", "95% interval", "against the majority"):
        table.add_column(column)
    if not right:
        return table

    def graded(selections: Sequence[Selection]) -> list[float]:
        return [float(s.index is not None and right[i][s.index]) for i, s in enumerate(selections) if i in right]

    majority = graded([pick(c) for c in chosen.classes])
    sides = {
        "a random sample": [sum(r) / len(r) for r in right.values()],
        "majority": majority,
        chosen.rule: graded(chosen.selections),
        "any sample is right": [float(any(r)) for r in right.values()],
    }
    for name, values in sides.items():
        mean, lead = share(values), paired_prompts(majority, values)
        against = "" if name == "majority" else f"{lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]"
        table.add_row(name, f"{mean.value:.3f}", f"{mean.low:.3f} … {mean.high:.3f}", against)
    return table
