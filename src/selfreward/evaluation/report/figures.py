"""Figures of runs and comparisons as inline SVG, with the pens and frames of ``drawing``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from selfreward.evaluation.report.digest import ComparedArm, Curve, is_share
from selfreward.evaluation.report.drawing import (
    BAD,
    GOOD,
    INK,
    MUTED,
    PAPER,
    Pen,
    as_svg,
    frame,
    line,
    pens,
    spread_labels,
    thin,
)

# ---------------------------------------------------------------- comparisons


def truth_figure(arms: Sequence[ComparedArm], truth: str) -> str:
    """Held-out truth by step for all arms, labelled at their ends, with a ring at each best step."""
    pen = pens(arms)

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        ends = []
        for arm in reversed(arms):
            c = arm.truth_curve
            if not c:
                continue
            line(ax, c, pen[arm.index], arm.index, width=2.6 if not arm.control else 1.9)
            ends.append((arm, float(c.steps[-1]), float(c.mean[-1])))
            if arm.gave_back:
                ring = ax.plot(*arm.peak, "o", ms=11, mfc="none", mec=pen[arm.index].colour, mew=1.8)[0]
                ring.set_gid(f"arm-{arm.index}-best")
        frame(ax, "training step", is_share(truth))
        if is_share(truth):
            ax.set_ylim(-0.02, 1.02)
        right = ax.get_xlim()[1]
        spread = spread_labels([y for _, _, y in ends], gap=0.062 * (ax.get_ylim()[1] - ax.get_ylim()[0]))
        for (arm, _, _), y in zip(ends, spread, strict=True):
            label = ax.text(
                right,
                y,
                f"  {_short(arm.name)}",
                color=pen[arm.index].colour,
                va="center",
                weight="bold",
                clip_on=False,
            )
            label.set_gid(f"arm-{arm.index}-label")

    return as_svg(draw, (500, 345), f"Held-out {truth} by training step. " + _in_words(arms))


def compass_figure(arms: Sequence[ComparedArm], truth: str) -> str:
    """Each arm's path from the common start: right is more of its own reward, up is more truth."""
    pen = pens(arms)

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        paths = []
        for arm in arms:
            t, gain = arm.truth_curve, arm.reward_gain
            if not (t and gain):
                continue
            later = t.steps > 0
            x = np.concatenate([[0.0], gain.at(t.steps[later])])
            y = np.concatenate([[0.0], t.mean[later] - t.mean[0]])
            paths.append((arm, x, y))
        every_x = np.concatenate([x for _, x, _ in paths] or [np.array([0.0, 1.0])])
        every_y = np.concatenate([y for _, _, y in paths] or [np.array([0.0, 0.1])])
        wide, tall = float(np.abs(every_x).max()) or 1.0, float(np.abs(every_y).max()) or 0.1
        left, right = min(-0.38 * wide, every_x.min() * 1.2), 1.5 * max(every_x.max(), 0.2 * wide)
        low, high = min(-0.2 * tall, every_y.min() * 1.25), max(0.2 * tall, every_y.max() * 1.18)
        ax.set_xlim(left, right)
        ax.set_ylim(low, high)
        ax.fill_between([0, right], low, 0, color=BAD, alpha=0.09, lw=0)
        ax.fill_between([0, right], 0, high, color=GOOD, alpha=0.08, lw=0)
        note: dict[str, Any] = {"size": 11.5, "style": "italic", "alpha": 0.95}
        ax.text(right, -0.02 * (high - low), "earns more, knows less ", color=BAD, ha="right", va="top", **note)
        ax.text(right, 0.02 * (high - low), "earns more, knows more ", color=GOOD, ha="right", va="bottom", **note)
        ax.axhline(0, color=MUTED, lw=1)
        ax.axvline(0, color=MUTED, lw=1)
        for arm, x, y in paths:
            p = pen[arm.index]
            line = ax.plot(x, y, color=p.colour, ls=p.dash, lw=2.2 if not arm.control else 1.6)[0]
            line.set_gid(f"arm-{arm.index}-path")
            end = ax.plot(x[-1], y[-1], p.marker, color=p.colour, ms=9, mec=PAPER, mew=1.2)[0]
            end.set_gid(f"arm-{arm.index}-end")
        heights = spread_labels([float(y[-1]) for _, _, y in paths], gap=0.07 * (high - low))
        for (arm, x, y), height in zip(paths, heights, strict=True):
            # Arms that went nowhere are named on the empty side, away from those that pass by.
            stayed = abs(x[-1]) < 0.08 * wide and abs(y[-1]) < 0.08 * tall
            label = ax.text(
                float(x[-1]) + (-0.04 if stayed else 0.03) * (right - left),
                height,
                _short(arm.name),
                color=pen[arm.index].colour,
                va="center",
                ha="right" if stayed else "left",
                weight="bold",
            )
            label.set_gid(f"arm-{arm.index}-name")
        ax.plot(0, 0, "o", color=INK, ms=6)
        ax.set_xlabel("own reward, rise in starting spreads")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:+.0f}" if is_share(truth) else f"{v:+g}"))
        ax.set_ylabel("change of truth" + (" (points)" if is_share(truth) else ""))

    words = ". ".join(
        f"{a.name}: own reward {'rose' if a.rise > 0.2 else 'fell' if a.rise < -0.2 else 'stayed'}, "
        f"truth {_signed(a.change(truth).value, truth)}"
        for a in arms
    )
    return as_svg(draw, (500, 345), f"Change of the truth against the rise of each arm's own reward. {words}.")


def duel_figure(arm: ComparedArm, pen: Pen, truth: str) -> str:
    """One arm: the truth (solid, left axis) and its own reward (dotted, right axis); red where they part."""

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        t, r = arm.truth_curve, arm.reward_curve
        other = ax.twinx()
        other.grid(False)
        other.spines["right"].set_visible(False)
        if r:
            other.plot(*thin(r.steps, r.mean), color=MUTED, ls=(0, (1, 1.4)), lw=2.0)
            span = max(float(r.mean.max() - r.mean.min()), 0.5 * (arm.reward_unit if arm.reward_unit > 0 else 0), 1e-6)
            middle = (float(r.mean.max()) + float(r.mean.min())) / 2
            other.set_ylim(middle - 0.62 * span, middle + 0.62 * span)
        other.yaxis.set_major_locator(MaxNLocator(4))
        if t and r:
            parted = (t.mean - t.mean[0] < -0.02 * (1 if is_share(truth) else abs(t.mean[0]))) & (
                arm.reward_gain.at(t.steps) > 0.1
            )
            ax.fill_between(
                t.steps, 0, 1, where=parted, transform=ax.get_xaxis_transform(), color=BAD, alpha=0.14, lw=0
            )
        if t:
            line(ax, t, pen, None, width=2.8)
            if arm.gave_back:
                ax.plot(*arm.peak, "o", ms=10, mfc="none", mec=pen.colour, mew=1.7)
        frame(ax, None, is_share(truth))
        if is_share(truth):
            ax.set_ylim(-0.03, 1.03)

    c = arm.change(truth)
    return as_svg(
        draw, (360, 220), f"{arm.name}: held-out {truth} {_signed(c.value, truth)} while its own reward moved by "
        f"{arm.rise:+.1f} starting spreads."
    )  # fmt: skip


def panel_figure(arms: Sequence[ComparedArm], key: str, title: str) -> str | None:
    """Small multiple: one statistic by step for all arms. None where no arm has it."""
    pen = pens(arms)
    curves = [(a, a.reward_gain if key == "reward" else a.curve(key, a.smoothing)) for a in arms]
    curves = [(a, c) for a, c in curves if c]
    if not curves:
        return None

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        for arm, c in reversed(curves):
            line(ax, c, pen[arm.index], arm.index, width=2.0 if not arm.control else 1.6, dots=False)
        frame(ax, None, is_share(key))

    words = ". ".join(f"{a.name} from {c.mean[0]:.3g} to {c.mean[-1]:.3g}" for a, c in curves)
    return as_svg(draw, (360, 220), f"{title} by training step. {words}.")


# ---------------------------------------------------------------- one run


def run_figure(c: Curve, title: str, *, share: bool, alarms: Sequence[int] = (), big: bool = False) -> str:
    """One statistic of one run, with a tick at each step that raised an alarm."""

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        pen = Pen("#010100", "solid", "o")
        line(ax, c, pen, None, width=2.4 if big else 1.9, dots=big)
        for step in alarms:
            ax.axvline(step, color=BAD, lw=1.2, ls=(0, (2, 2)))
        if big and c.mean.argmax() not in (0, c.mean.size - 1):
            best = int(c.mean.argmax())
            ax.plot(c.steps[best], c.mean[best], "o", ms=11, mfc="none", mec=pen.colour, mew=1.8)
        frame(ax, "training step" if big else None, share)
        if share and big:
            ax.set_ylim(-0.02, 1.02)

    size = (500, 320) if big else (280, 175)
    return as_svg(draw, size, f"{title} by training step, from {c.mean[0]:.3g} to {c.mean[-1]:.3g}.")


# ---------------------------------------------------------------- words


def _short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _signed(value: float, metric: str) -> str:
    return f"{100 * value:+.1f} points" if is_share(metric) else f"{value:+.3g}"


def _in_words(arms: Sequence[ComparedArm]) -> str:
    parts = []
    for arm in arms:
        if c := arm.truth_curve:
            scale, unit = (100, "%") if is_share(arm.truth) else (1, "")
            parts.append(f"{arm.name} from {scale * c.mean[0]:.3g}{unit} to {scale * c.mean[-1]:.3g}{unit}")
    return ". ".join(parts) + "."
