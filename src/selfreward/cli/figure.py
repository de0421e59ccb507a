"""``selfreward figure``: pictures for documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.errors import ConfigError


def figure(
    source: Annotated[Path, typer.Argument(help="A folder with compare.json, or an evidence file.")],
    out: Annotated[Path, typer.Option("--out", help="FILE.svg, .png or .pdf.")],
    metric: Annotated[str, typer.Option("--metric", help="What to show; the task's own metric by default.")] = "",
    own: Annotated[str, typer.Option("--own", help="With --curves: what the arms say of themselves.")] = "reward/mean",
    arms: Annotated[str, typer.Option("--arms", help="Comma-separated; all by default.")] = "",
    curves: Annotated[bool, typer.Option("--curves", help="Truth against self-made reward, from evidence.")] = False,
    title: Annotated[str, typer.Option("--title")] = "",
) -> None:
    """Draw the arms of a comparison with intervals, or truth against self-made reward over training."""
    from selfreward.report.static import arms_figure, comparison_dots, curves_figure

    wanted = [a.strip() for a in arms.split(",") if a.strip()]
    if curves:
        from selfreward.evidence import Evidence

        found = Evidence.load(source).curves
        if not found:
            raise ConfigError(f"{source} holds no curves.")
        first = next(iter(next(iter(found.values())).values()))
        truth = metric or next(name for name in first if name.startswith("eval/"))
        print(curves_figure(found, truth, own, out, wanted))
        return
    from selfreward.compare import read_comparison
    from selfreward.report.digest import is_share

    compared = read_comparison(source)
    metric = metric or compared.get("metric", "pass@1")
    dots, start = comparison_dots(compared, metric)
    if wanted:
        dots = [d for d in dots if d.label in wanted]
    print(arms_figure(dots, start, metric, out, title, is_share(metric)))
