"""A figure of the memory that a soak used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from selfreward.errors import DataError
from selfreward.evaluation.report.static import LINE, METHOD, save_figure


def memory_figure(soak: Mapping[str, Any], path: str | Path) -> Path:
    """Resident memory over a soak, from the content of its evidence file.

    Raises:
        DataError: if the soak has no points.
    """
    points = soak.get("points") or []
    if not points:
        raise DataError("The soak holds no points; run `selfreward campaign soak` for some minutes.")

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        ax.plot([p["seconds"] / 60 for p in points], [p["mb"] for p in points], color=METHOD, linewidth=1.5)
        ax.set_ylim(0, 1.15 * max(p["mb"] for p in points))
        ax.set_xlim(0, points[-1]["seconds"] / 60)
        ax.set_xlabel("minutes")
        ax.set_ylabel("resident memory, MB")
        ax.grid(axis="y", color=LINE)
        ax.set_title(f"{soak['steps']:,} steps in {soak['minutes']} minutes, growth {100 * soak['growth']:+.1f} %")

    return save_figure(draw, (7.0, 2.6), path)
