"""The same results for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from selfreward.evaluation.report.digest import VERDICTS, digest
from selfreward.evaluation.report.words import printable, rows, show, show_change, show_interval
from selfreward.statistics import Estimate

STYLES = {"up": "bold green", "down": "bold red", "": ""}


def summary_table(before: Mapping[str, Any], after: Mapping[str, Any], title: str = "Held-out prompts") -> Table:
    """Before and after of one run: every metric with its interval, and the change."""
    table = Table(title=title, title_style="bold", caption="95% intervals over prompts", caption_style="dim")
    for column in ("metric", "before", "after", "change"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for metric, b, a, change, way in rows(before, after):
        table.add_row(
            metric, _estimate(b, metric), _estimate(a, metric), Text(show_change(change.value, metric), STYLES[way])
        )
    return table


def comparison_table(compare: Mapping[str, Any], out: str | Path | None = None) -> Table:
    """All arms before and after, methods above controls.

    Args:
        compare: the content of ``compare.json``.
        out: the folder of the comparison. With it, an arm whose own reward rose while the truth fell is
            told apart from one that merely got worse.
    """
    c = digest(compare, Path(out) if out is not None else None)
    n = len(c.seeds)
    second = "accuracy" if c.truth != "accuracy" else "pass@1"
    table = Table(
        title=f"Held-out {c.truth}" + (f", mean of {n} seeds" if n > 1 else ""),
        title_style="bold",
        caption="95% intervals over " + ("seeds" if n > 1 else "prompts"),
        caption_style="dim",
    )
    table.add_column("reward", no_wrap=True)
    for column in ("labels", "before", "after", "change", f"{second} after", ""):
        table.add_column(column, justify="left" if column in ("labels", "") else "right", no_wrap=column == "change")
    for i, arm in enumerate(c.arms):
        if arm.control and i and not c.arms[i - 1].control:
            table.add_section()
        way = {"learned": "up", "misled": "down", "fell": "down"}.get(arm.verdict, "")
        table.add_row(
            Text(printable(arm.name), "" if arm.control else "bold"),
            Text(printable(arm.labels)),
            show(arm.before(c.truth).value, c.truth),
            _estimate(arm.after(c.truth), c.truth),
            Text(show_change(arm.change(c.truth).value, c.truth), STYLES[way]),
            show(arm.after(second).value, second),
            Text(VERDICTS[arm.verdict], STYLES[way]),
            style="dim" if arm.control else None,
        )
    return table


def _estimate(e: Estimate, metric: str) -> Text:
    text = Text(show(e.value, metric))
    if not math.isnan(e.value) and (ends := show_interval(e, metric)):
        text.append(f"  {ends}", "dim")
    return text
