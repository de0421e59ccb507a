"""``selfreward figure``: pictures and tables for documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.errors import ConfigError


def figure(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folders with compare.json, a panel each; or one evidence file.", metavar="SOURCE"),
    ],
    out: Annotated[Path, typer.Option("--out", help="FILE.svg, .png or .pdf; .md for a table.")],
    metric: Annotated[str, typer.Option("--metric", help="What to show; the task's own metric by default.")] = "",
    own: Annotated[str, typer.Option("--own", help="With --curves: what the arms say of themselves.")] = "reward/mean",
    arms: Annotated[str, typer.Option("--arms", help="Comma-separated; all by default.")] = "",
    curves: Annotated[bool, typer.Option("--curves", help="Truth against self-made reward, from evidence.")] = False,
    title: Annotated[list[str] | None, typer.Option("--title", help="One for each source, in their order.")] = None,
) -> None:
    """Draw the arms of comparisons with intervals, or truth against self-made reward over training."""
    from selfreward.evaluation.report.static import Panel, arms_figure, arms_table, comparison_dots, curves_figure

    wanted = [a.strip() for a in arms.split(",") if a.strip()]
    titles = title or []
    if curves:
        from selfreward.lab.evidence.record import Evidence

        if len(sources) > 1:
            raise ConfigError("--curves draws one evidence file.")
        found = Evidence.load(sources[0]).curves
        if not found:
            raise ConfigError(f"{sources[0]} holds no curves.")
        first = next(iter(next(iter(found.values())).values()))
        truth = metric or next(name for name in first if name.startswith("eval/"))
        print(curves_figure(found, truth, own, out, wanted))
        return
    from selfreward.evaluation.report.digest import is_share
    from selfreward.training.comparison import read_comparison

    if len(titles) > len(sources):
        raise ConfigError(f"{len(titles)} titles for {len(sources)} sources.")
    compared = [read_comparison(source) for source in sources]
    metric = metric or compared[0].get("metric", "pass@1")
    panels = []
    for i, comparison in enumerate(compared):
        dots, start = comparison_dots(comparison, metric)
        name = titles[i] if i < len(titles) else comparison.get("title", "")
        panels.append(Panel(name, [d for d in dots if not wanted or d.label in wanted], start))
    if out.suffix == ".md":
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(arms_table(panels, is_share(metric)), encoding="utf-8")
        print(out)
    else:
        print(arms_figure(panels, metric, out, is_share(metric)))
