"""Figures as inline SVG: small, scalable, and coloured by the page's style sheet.

Matplotlib draws with stand-in colours that are then replaced by CSS variables, so that one picture
fits a light and a dark page, and every line of an arm carries a class that the page's legend can
hide. Text stays text. Names in a figure may come from users and models; Matplotlib escapes them.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from selfreward.evaluation.report.digest import Arm, Curve, is_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Stand-in colour -> CSS variable of the page.
STAND_IN = {f"#0101{i:02x}": f"var(--s{i})" for i in range(8)} | {f"#0102{i:02x}": f"var(--c{i})" for i in range(4)}


INK, MUTED, LINE, GOOD, BAD, PAPER = "#010301", "#010302", "#010303", "#010304", "#010305", "#010306"


STAND_IN |= {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    PAPER: "var(--card)",
}


# Dashes, so that nothing is told by colour alone: methods are solid, controls are not.
CONTROL_DASHES: list[Any] = [(0, (5, 2)), (0, (1, 1.6)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2))]


MARKERS = "osD^vPXp"


POINTS_PER_LINE = 160


RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "selfreward",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 12,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.4,
}


@dataclass(frozen=True)
class Pen:
    """How one arm is drawn, the same on every figure."""

    colour: str
    dash: Any
    marker: str

    @property
    def css(self) -> str:
        return STAND_IN[self.colour]


def pens(arms: Sequence[Arm]) -> dict[int, Pen]:
    """A pen for each arm by its index: colours for methods, dashed greys for controls."""
    chosen, methods, controls = {}, 0, 0
    for arm in arms:
        if arm.control:
            grey, dash = f"#0102{controls % 4:02x}", CONTROL_DASHES[controls % 4]
            chosen[arm.index] = Pen(grey, dash, MARKERS[-1 - controls % 4])
            controls += 1
        else:
            dash = "solid" if methods < 8 else (0, (6, 1.5))
            chosen[arm.index] = Pen(f"#0101{methods % 8:02x}", dash, MARKERS[methods % 8])
            methods += 1
    return chosen


# ---------------------------------------------------------------- comparisons


def truth_figure(arms: Sequence[Arm], truth: str) -> str:
    """Held-out truth by step for all arms, labelled at their ends, with a ring at each best step."""
    pen = pens(arms)

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        ends = []
        for arm in reversed(arms):
            c = arm.truth_curve
            if not c:
                continue
            _line(ax, c, pen[arm.index], arm.index, width=2.6 if not arm.control else 1.9)
            ends.append((arm, float(c.steps[-1]), float(c.mean[-1])))
            if arm.gave_back:
                ring = ax.plot(*arm.peak, "o", ms=11, mfc="none", mec=pen[arm.index].colour, mew=1.8)[0]
                ring.set_gid(f"arm-{arm.index}-best")
        _frame(ax, "training step", is_share(truth))
        if is_share(truth):
            ax.set_ylim(-0.02, 1.02)
        right = ax.get_xlim()[1]
        spread = _spread([y for _, _, y in ends], gap=0.062 * (ax.get_ylim()[1] - ax.get_ylim()[0]))
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

    return _svg(draw, (500, 345), f"Held-out {truth} by training step. " + _in_words(arms))


def compass_figure(arms: Sequence[Arm], truth: str) -> str:
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
        heights = _spread([float(y[-1]) for _, _, y in paths], gap=0.07 * (high - low))
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
    return _svg(draw, (500, 345), f"Change of the truth against the rise of each arm's own reward. {words}.")


def duel_figure(arm: Arm, pen: Pen, truth: str) -> str:
    """One arm: the truth (solid, left axis) and its own reward (dotted, right axis); red where they part."""

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        t, r = arm.truth_curve, arm.reward_curve
        other = ax.twinx()
        other.grid(False)
        other.spines["right"].set_visible(False)
        if r:
            other.plot(*_thin(r.steps, r.mean), color=MUTED, ls=(0, (1, 1.4)), lw=2.0)
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
            _line(ax, t, pen, None, width=2.8)
            if arm.gave_back:
                ax.plot(*arm.peak, "o", ms=10, mfc="none", mec=pen.colour, mew=1.7)
        _frame(ax, None, is_share(truth))
        if is_share(truth):
            ax.set_ylim(-0.03, 1.03)

    c = arm.change(truth)
    return _svg(
        draw, (360, 220), f"{arm.name}: held-out {truth} {_signed(c.value, truth)} while its own reward moved by "
        f"{arm.rise:+.1f} starting spreads."
    )  # fmt: skip


def panel_figure(arms: Sequence[Arm], key: str, title: str) -> str | None:
    """Small multiple: one statistic by step for all arms. None where no arm has it."""
    pen = pens(arms)
    curves = [(a, a.reward_gain if key == "reward" else a.curve(key, a.smoothing)) for a in arms]
    curves = [(a, c) for a, c in curves if c]
    if not curves:
        return None

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        for arm, c in reversed(curves):
            _line(ax, c, pen[arm.index], arm.index, width=2.0 if not arm.control else 1.6, dots=False)
        _frame(ax, None, is_share(key))

    words = ". ".join(f"{a.name} from {c.mean[0]:.3g} to {c.mean[-1]:.3g}" for a, c in curves)
    return _svg(draw, (360, 220), f"{title} by training step. {words}.")


# ---------------------------------------------------------------- one run


def run_figure(c: Curve, title: str, *, share: bool, alarms: Sequence[int] = (), big: bool = False) -> str:
    """One statistic of one run, with a tick at each step that raised an alarm."""

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        pen = Pen("#010100", "solid", "o")
        _line(ax, c, pen, None, width=2.4 if big else 1.9, dots=big)
        for step in alarms:
            ax.axvline(step, color=BAD, lw=1.2, ls=(0, (2, 2)))
        if big and c.mean.argmax() not in (0, c.mean.size - 1):
            best = int(c.mean.argmax())
            ax.plot(c.steps[best], c.mean[best], "o", ms=11, mfc="none", mec=pen.colour, mew=1.8)
        _frame(ax, "training step" if big else None, share)
        if share and big:
            ax.set_ylim(-0.02, 1.02)

    size = (500, 320) if big else (280, 175)
    return _svg(draw, size, f"{title} by training step, from {c.mean[0]:.3g} to {c.mean[-1]:.3g}.")


# ---------------------------------------------------------------- drawing


def _line(ax: Axes, c: Curve, pen: Pen, index: int | None, *, width: float, dots: bool = True) -> None:
    artists: list[Any] = []
    if (c.high > c.low).any():
        steps, low, high = _thin(c.steps, c.low, c.high)
        artists.append(ax.fill_between(steps, low, high, color=pen.colour, alpha=0.13, lw=0))
    steps, mean = _thin(c.steps, c.mean)
    artists += ax.plot(steps, mean, color=pen.colour, ls=pen.dash, lw=width)
    if dots and steps.size <= 40:
        artists += ax.plot(steps, mean, pen.marker, color=pen.colour, ms=4.5, mec=PAPER, mew=0.8)
    if index is not None:
        for i, artist in enumerate(artists):
            artist.set_gid(f"arm-{index}-{i}")


def _thin(*columns: np.ndarray) -> list[np.ndarray]:
    """Averages neighbours until a line has few enough points for its width on the page."""
    size = columns[0].size
    if size <= POINTS_PER_LINE:
        return list(columns)
    bins = np.array_split(np.arange(size), POINTS_PER_LINE)
    return [np.array([column[b].mean() for b in bins]) for column in columns]


def _frame(ax: Axes, xlabel: str | None, share: bool) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    if share:
        low, high = ax.get_ylim()
        # A tenth at least, or noise would fill the panel; and nothing beyond what a share can be.
        pad = max(0.0, 0.1 - (high - low)) / 2
        ax.set_ylim(max(-0.02, low - pad), min(1.02, high + pad))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g}%"))
    if xlabel:
        ax.set_xlabel(xlabel)
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Moves labels apart, as little as needed, until neighbours are ``gap`` away."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    blocks: list[tuple[float, list[int]]] = []  # centre, members from low to high
    for i in order:
        centre, members = values[i], [i]
        while blocks and blocks[-1][0] + gap * (len(blocks[-1][1]) + len(members)) / 2 > centre:
            c, m = blocks.pop()
            centre = (c * len(m) + centre * len(members)) / (len(m) + len(members))
            members = m + members
        blocks.append((centre, members))
    placed = list(values)
    for centre, members in blocks:
        for j, i in enumerate(members):
            placed[i] = centre + gap * (j - (len(members) - 1) / 2)
    return placed


def _short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _signed(value: float, metric: str) -> str:
    return f"{100 * value:+.1f} points" if is_share(metric) else f"{value:+.3g}"


def _in_words(arms: Sequence[Arm]) -> str:
    parts = []
    for arm in arms:
        if c := arm.truth_curve:
            scale, unit = (100, "%") if is_share(arm.truth) else (1, "")
            parts.append(f"{arm.name} from {scale * c.mean[0]:.3g}{unit} to {scale * c.mean[-1]:.3g}{unit}")
    return ". ".join(parts) + "."


def _svg(draw: Any, size: tuple[int, int], words: str) -> str:
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72, layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        for ax in figure.axes:
            ax.patch.set_alpha(0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _page_ready(buffer.getvalue(), words)


def _page_ready(svg: str, words: str) -> str:
    """Strips what a page does not need, unites colours with the style sheet, and makes ids unique to the figure."""
    mine = f"f{zlib.crc32(svg.encode()):x}"
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.S)
    viewbox = re.search(r'viewBox="[^"]*"', svg)
    assert viewbox is not None
    svg = re.sub(r"#010[1-3][0-9a-f]{2}", lambda m: STAND_IN.get(m[0], m[0]), svg)
    svg = re.sub(r'id="arm-(\d+)[^"]*"', r'class="arm-\1"', svg)
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", svg))
    used = {a or b for a, b in used}
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{mine}{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{mine}", svg)
    svg = re.sub(r"font(-family)?: [^;\"]*?'?sans-serif'?[^;\"]*", _font, svg)
    # Hundredths of a pixel are enough; the numbers that people read stand outside of tags.
    svg = re.sub(r"<[^>]*>", lambda m: re.sub(r"(\d\.\d\d)\d+", r"\1", m[0]), svg)
    head = f'<svg role="img" aria-label="{escape(words)}" {viewbox[0]}>'
    svg = re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1)
    return re.sub(r">\s+<", "><", svg).strip()


def _font(match: re.Match[str]) -> str:
    """``font: italic 700 12px 'sans-serif', …`` without the family, which the page sets."""
    size = re.search(r"([\d.]+)px", match[0])
    found = [f"font-size: {size[1]}px"] if size else []
    if re.search(r"\b(bold|700)\b", match[0]):
        found.append("font-weight: 700")
    if "italic" in match[0]:
        found.append("font-style: italic")
    return "; ".join(found)
