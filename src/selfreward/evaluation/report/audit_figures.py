"""Figures of an audit: each signal against the truth, and what choosing by it is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from selfreward.evaluation.report.drawing import BAD, GOOD, INK, LINE, MUTED, PAPER, as_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from selfreward.evaluation.audit.record import AuditReport, SignalAudit

COLOURS = {"use": GOOD, "avoid": BAD}


def overview_figure(report: AuditReport) -> str:
    """Every candidate on one line: pairs rightly ordered (labels) beside the label-free estimate, with the gates."""
    rows = [s for s in report.ranked if s.scores and not s.control][::-1]

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        ax.axvspan(0, 0.5, color=BAD, alpha=0.07, lw=0)
        ax.axvline(0.5, color=MUTED, lw=1)
        ax.axvline(0.6, color=MUTED, lw=1, ls=(0, (2, 2)))
        for y, s in enumerate(rows):
            colour = COLOURS.get(s.verdict.call, MUTED)
            for name, marker, shift in (("pairs", "o", 0.16), ("view_pairs", "D", -0.16)):
                e = s.value(name)
                if math.isnan(e.value):
                    continue
                if not math.isnan(e.low):
                    ax.plot([e.low, e.high], [y + shift] * 2, color=colour, lw=2, alpha=0.6)
                fill = colour if name == "pairs" else PAPER
                ax.plot(e.value, y + shift, marker, color=fill, mec=colour, mew=1.6, ms=7)
        ax.set_yticks(range(len(rows)), [s.name for s in rows])
        ax.set_xlim(0, 1.02)
        ax.set_ylim(-0.7, len(rows) - 0.3)
        _percent_axis(ax, "x")
        ax.set_xlabel("pairs inside a group in the right order")
        ax.tick_params(length=0)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)

    words = ". ".join(f"{s.name}: {s.verdict.call}" for s in rows)
    return as_svg(
        draw, (560, 60 + 30 * max(1, len(rows))), f"Pairwise accuracy of every signal with the gates. {words}."
    )


def place_figure(s: SignalAudit) -> str | None:
    """Truth by place in the group, from what the signal likes least to what it likes best. None without truth."""
    if not s.bins:
        return None

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        colour = COLOURS.get(s.verdict.call, MUTED)
        ax.bar([b[0] for b in s.bins], [b[1] for b in s.bins], width=0.17, color=colour, alpha=0.75)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.02)
        ax.set_xticks([0.1, 0.9], ["scored lowest", "highest"])
        _percent_axis(ax, "y")
        _bare(ax)

    ends = f"from {s.bins[0][1]:.0%} right at the bottom to {s.bins[-1][1]:.0%} at the top"
    return as_svg(draw, (280, 175), f"Truth by place in the group, {s.name}: {ends}.")


def selection_figure(s: SignalAudit, report: AuditReport) -> str | None:
    """Truth of the best of k by the signal, between a random choice and the best possible one. None without truth."""
    if not s.curve or len(report.ks) < 2:
        return None
    low, high = _band(report)

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        colour = COLOURS.get(s.verdict.call, MUTED)
        ax.fill_between(report.ks, low, high, color=LINE, alpha=0.5, lw=0)
        ax.plot(report.ks, low, color=MUTED, ls=(0, (1, 1.6)), lw=1.6)
        ax.plot(report.ks, s.curve, color=colour, marker="o", ms=4.5, mec=PAPER, mew=0.8)
        ax.set_xscale("log", base=2)
        ax.set_xticks(report.ks, [str(k) for k in report.ks])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(0, 1.02)
        _percent_axis(ax, "y")
        _bare(ax)

    return as_svg(
        draw,
        (280, 175),
        f"Truth of the best of k by {s.name}: {s.curve[0]:.0%} for one, {s.curve[-1]:.0%} for {report.ks[-1]}.",
    )


def matrix_figure(report: AuditReport) -> str | None:
    """Rank correlation inside groups between every two signals; None for fewer than two."""
    keep = [i for i, s in enumerate(report.scored) if not np.isnan(report.matrix[i][i])]
    if len(keep) < 2:
        return None
    names = [report.scored[i].name for i in keep]
    values = np.array(report.matrix)[np.ix_(keep, keep)]

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        ax.grid(False)
        for y in range(len(names)):
            for x in range(len(names)):
                v = float(values[y, x])
                if not math.isnan(v):
                    colour = GOOD if v > 0 else BAD
                    ax.add_patch(_square(x, y, colour, abs(v)))
                    ax.text(x, y, f"{v:.1f}".replace("-", "−"), ha="center", va="center", size=9, color=INK)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xticks(range(len(names)), names, rotation=55, ha="right")
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)

    side = 120 + 34 * len(names)
    return as_svg(draw, (side + 40, side), "Rank correlation inside groups between every two signals.")


def _square(x: int, y: int, colour: str, strength: float):  # type: ignore[no-untyped-def]
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, color=colour, alpha=0.08 + 0.55 * min(1.0, strength), lw=0)


def _band(report: AuditReport) -> tuple[Sequence[float], Sequence[float]]:
    """What a random choice and the best possible choice of k get."""
    from selfreward.evaluation.audit import measures

    truths = [t for t in report.truths if not np.isnan(t).any()]
    flat = [np.zeros_like(t) for t in truths]
    return measures.selection_curve(flat, truths, report.ks), measures.selection_curve(truths, truths, report.ks)


def _percent_axis(ax: Axes, which: str) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g}%"))


def _bare(ax: Axes) -> None:
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)
