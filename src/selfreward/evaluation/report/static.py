"""Figures for documents: arms with intervals, and truth against self-made reward, as SVG or PNG files.

Unlike the figures of the HTML report these stand alone, in colours of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from selfreward.errors import ConfigError, DataError, nearest
from selfreward.statistics import Estimate, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, PAPER = "#1c2330", "#667085", "#d9dee7", "#ffffff"
METHOD, CONTROL, SELF = "#1f6feb", "#8a94a6", "#d9480f"
RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "selfreward",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10.5,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "savefig.facecolor": PAPER,
}


@dataclass(frozen=True)
class Dot:
    """One arm of a dot plot: where it ends, over seeds, and whether it is a control."""

    label: str
    after: Estimate
    control: bool = False


def comparison_dots(compare: Mapping[str, Any], metric: str) -> tuple[list[Dot], Estimate]:
    """The arms of a comparison and their common start.

    Raises:
        ConfigError: for a metric that the arms do not have, with the nearest one.
    """
    dots, starts = [], []
    for label, arm in compare["arms"].items():
        seeds = arm["seeds"]
        if any(metric not in s["after"] for s in seeds):
            raise ConfigError(f"Arm {label!r} has no metric {metric!r}.{nearest(metric, seeds[0]['after'])}")
        dots.append(Dot(label, mean_interval([float(s["after"][metric]) for s in seeds]), bool(arm["control"])))
        starts += [float(s["before"][metric]) for s in seeds if metric in s["before"]]
    return dots, mean_interval(starts[:1] * 2 if starts else [float("nan")] * 2)


@dataclass(frozen=True)
class Panel:
    """One comparison: its arms and where all of them started."""

    title: str
    dots: Sequence[Dot]
    start: Estimate


def rows_of(panels: Sequence[Panel]) -> list[str]:
    """Labels of all arms, best first in the first panel; what it lacks follows in the order of the others."""
    labels: list[str] = []
    for panel in panels:
        for dot in sorted(panel.dots, key=lambda d: -d.after.value):
            if dot.label not in labels:
                labels.append(dot.label)
    return labels


def arms_figure(panels: Sequence[Panel], metric: str, path: str | Path, share: bool = True) -> Path:
    """Arms from best to worst with 95 % intervals over seeds, and the common start as a line; a panel each."""
    labels = rows_of(panels)[::-1]
    controls = {d.label for p in panels for d in p.dots if d.control}
    scale = 100 if share else 1

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(panels), sharey=True, sharex=share, squeeze=False)[0]
        for ax, panel in zip(axes, panels, strict=True):
            for dot in sorted(panel.dots, key=lambda d: labels.index(d.label)):
                y, colour = labels.index(dot.label), CONTROL if dot.control else METHOD
                low, high = (min(max(v, 0.0), 1.0) if share else v for v in (dot.after.low, dot.after.high))
                ax.plot([scale * low, scale * high], [y, y], color=colour, lw=2, alpha=0.45, solid_capstyle="round")
                ax.plot(scale * dot.after.value, y, "D" if dot.control else "o", color=colour, ms=7, mec=PAPER)
            if np.isfinite(panel.start.value):
                ax.axvline(scale * panel.start.value, color=MUTED, lw=1, ls=(0, (4, 3)))
                ax.text(scale * panel.start.value, len(labels) - 0.35, " start", color=MUTED, va="bottom", size=9)
            ax.set_ylim(-0.7, len(labels) - 0.1)
            ax.tick_params(length=0)
            ax.grid(color=LINE, lw=0.7)
            ax.set_axisbelow(True)
            ax.set_title(panel.title)
        axes[0].set_yticks(range(len(labels)), labels)
        for label, name in zip(axes[0].get_yticklabels(), labels, strict=True):
            label.set_color(MUTED if name in controls else INK)
        unit = " (%)" if share else ""
        figure.supxlabel(f"held-out {metric}{unit}, mean and 95% interval over seeds", size=10.5, color=MUTED)

    return save_figure(draw, (2.9 + 4.3 * len(panels), 1.3 + 0.3 * len(labels)), path)


def arms_table(panels: Sequence[Panel], share: bool = True) -> str:
    """The same as a Markdown table: a row per arm, a column per comparison, mean and interval."""

    def cell(panel: Panel, label: str) -> str:
        found = [d.after for d in panel.dots if d.label == label]
        if not found:
            return "–"
        low, high = (min(max(v, 0.0), 1.0) if share else v for v in (found[0].low, found[0].high))
        return f"{number(found[0].value)} ({number(low)} to {number(high)})"

    def number(value: float) -> str:
        return f"{100 * value:.1f}" if share else f"{value:.3g}"

    controls = {d.label for p in panels for d in p.dots if d.control}
    lines = ["| reward | " + " | ".join(p.title for p in panels) + " |", "|---" * (len(panels) + 1) + "|"]
    lines.append("| *start* | " + " | ".join(number(p.start.value) for p in panels) + " |")
    for label in rows_of(panels):
        name = f"*{label}*" if label in controls else label
        lines.append(f"| {name} | " + " | ".join(cell(p, label) for p in panels) + " |")
    return "\n".join(lines) + "\n"


def curves_figure(
    curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    truth: str,
    own: str,
    path: str | Path,
    arms: Sequence[str] = (),
    columns: int = 3,
) -> Path:
    """A panel per arm: the truth (left axis) and what the arm says of itself (right axis, dashed), each seed a line.

    Args:
        curves: arm -> seed -> name -> values, as evidence keeps them; ``step`` among the names.
        truth, own: names of the two quantities.

    Raises:
        DataError: for an arm or a quantity that is not there.
    """
    chosen = list(arms) or [a for a, seeds in curves.items() if all(truth in c for c in seeds.values())]
    for arm in chosen:
        if arm not in curves:
            raise DataError(f"The evidence has no curves of arm {arm!r}.{nearest(arm, curves)}")
        missing = truth not in next(iter(curves[arm].values()))
        if missing:
            raise DataError(f"Arm {arm!r} has no curve {truth!r}.{nearest(truth, next(iter(curves[arm].values())))}")
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)

    def draw(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True, squeeze=False)).ravel()
        values = [v for a in chosen for c in curves[a].values() for v in c[truth]]
        low, high = min(values), max(values)
        for ax, arm in zip(axes, chosen, strict=False):
            _panel(ax, curves[arm], truth, own)
            ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
            ax.set_title(arm)
        for ax in axes[len(chosen) :]:
            ax.set_visible(False)
        figure.supxlabel("training step", size=10, color=MUTED)
        handles = [
            Line2D([], [], color=METHOD, lw=2, label=f"{truth} (left)"),
            Line2D([], [], color=SELF, lw=1.6, ls=(0, (3, 1.5)), label=f"{own} (right)"),
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)

    return save_figure(draw, (3.1 * columns, 0.5 + 2.1 * rows), path)


def _panel(ax: Axes, seeds: Mapping[str, Mapping[str, Sequence[float]]], truth: str, own: str) -> None:
    other = ax.twinx()
    other.spines["right"].set_visible(False)
    for curve in seeds.values():
        steps = curve["step"]
        ax.plot(steps, curve[truth], color=METHOD, lw=1.6, alpha=0.8)
        if own in curve:
            n = len(curve[own])
            other.plot(steps[-n:], curve[own], color=SELF, lw=1.2, alpha=0.7, ls=(0, (3, 1.5)))
    ax.tick_params(length=0, labelsize=9)
    other.tick_params(length=0, labelsize=9, colors=SELF)
    ax.grid(axis="y", color=LINE, lw=0.6)


OWN = {"agreement": METHOD, "entropy": SELF}
OUTSIDE = {
    "probe/cross_agreement": (METHOD, "agreement with the twin"),
    "probe/judge": (SELF, "the start's judge"),
    "probe/start_support": (CONTROL, "the start's support"),
    "probe/reward_twin": (INK, "reward confirmed by the twin"),
    "probe/reward_back": (INK, "reward confirmed by the way back"),
}


def save_figure(draw: Any, size: tuple[float, float], path: str | Path) -> Path:
    """Draw into a file whose ending says the format.

    Raises:
        ConfigError: for an ending that is no figure's.
    """
    target = Path(path)
    if target.suffix not in (".svg", ".png", ".pdf"):
        raise ConfigError(f"{target}: a figure ends in .svg, .png or .pdf.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(target, dpi=160, metadata={"Date": None} if target.suffix == ".svg" else None)
    return target
