"""What a run was paid against what it was worth: the figure that shows a reward being hacked."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from selfreward.evaluation.report.digest import Curve, is_share
from selfreward.evaluation.report.drawing import BAD, MUTED, Pen, as_svg, frame, line, thin

FALLEN = 0.03


def parted(truth: Curve, reward: Curve, metric: str) -> np.ndarray:
    """Steps of ``truth`` ``[T]`` at which it lies below its best so far while the reward lies above what it was then.

    Below means 3 points of a share, 3 % of anything else.
    """
    paid = reward.at(truth.steps)
    best = np.array([int(truth.mean[: i + 1].argmax()) for i in range(truth.mean.size)], dtype=int)
    allowed = FALLEN * (np.ones(best.size) if is_share(metric) else np.abs(truth.mean[best]))
    found: np.ndarray = (truth.mean <= truth.mean[best] - allowed) & (paid > paid[best])
    return found


def gap_figure(truth: Curve, reward: Curve, metric: str) -> str:
    """Held-out truth (solid, left) and the run's own reward (dotted, right); shaded where they have parted."""
    apart = parted(truth, reward, metric)

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        other = ax.twinx()
        other.grid(False)
        other.spines["right"].set_visible(False)
        other.plot(*thin(reward.steps, reward.mean), color=MUTED, ls=(0, (1, 1.4)), lw=2.0)
        other.yaxis.set_major_locator(MaxNLocator(4))
        line(ax, truth, Pen("#010100", "solid", "o"), None, width=2.4)
        if apart.any():
            ax.fill_between(
                truth.steps,
                0,
                1,
                where=apart,
                transform=ax.get_xaxis_transform(),
                color=BAD,
                alpha=0.14,
                lw=0,
                step="pre",
            )
        frame(ax, "training step", is_share(metric))

    words = f"Held-out {metric} {truth.mean[0]:.3g} to {truth.mean[-1]:.3g}, own reward {reward.mean[0]:.3g} to "
    words += f"{reward.mean[-1]:.3g}" + ("; they part." if apart.any() else "; they do not part.")
    return as_svg(draw, (500, 250), words)
