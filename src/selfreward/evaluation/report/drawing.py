"""How every figure of a page is drawn: pens, lines, frames, and a Matplotlib figure as inline SVG.

Matplotlib draws with stand-in colours that are then replaced by CSS variables, so that one picture
fits a light and a dark page, and every line of an arm carries a class that the page's legend can
hide. Text stays text. Names in a figure may come from users and models; Matplotlib escapes them.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from selfreward.evaluation.report.digest import ComparedArm, Curve

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


def pens(arms: Sequence[ComparedArm]) -> dict[int, Pen]:
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


def line(ax: Axes, c: Curve, pen: Pen, index: int | None, *, width: float, dots: bool = True) -> None:
    """A curve with its band; with an ``index``, one that the legend of the page can hide."""
    artists: list[Any] = []
    if (c.high > c.low).any():
        steps, low, high = thin(c.steps, c.low, c.high)
        artists.append(ax.fill_between(steps, low, high, color=pen.colour, alpha=0.13, lw=0))
    steps, mean = thin(c.steps, c.mean)
    artists += ax.plot(steps, mean, color=pen.colour, ls=pen.dash, lw=width)
    if dots and steps.size <= 40:
        artists += ax.plot(steps, mean, pen.marker, color=pen.colour, ms=4.5, mec=PAPER, mew=0.8)
    if index is not None:
        for i, artist in enumerate(artists):
            artist.set_gid(f"arm-{index}-{i}")


def thin(*columns: np.ndarray) -> list[np.ndarray]:
    """Averages neighbours until a line has few enough points for its width on the page."""
    size = columns[0].size
    if size <= POINTS_PER_LINE:
        return list(columns)
    bins = np.array_split(np.arange(size), POINTS_PER_LINE)
    return [np.array([column[b].mean() for b in bins]) for column in columns]


def frame(ax: Axes, xlabel: str | None, share: bool) -> None:
    """Axes without ornament; shares in percent, at least a tenth high."""
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


def spread_labels(values: Sequence[float], gap: float) -> list[float]:
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


def as_svg(draw: Callable[[Figure], None], size: tuple[int, int], words: str) -> str:
    """What ``draw`` puts on a figure of ``size`` pixels, as SVG with ``words`` for those who cannot see it."""
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
