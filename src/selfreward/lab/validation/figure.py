"""A figure of watched runs: truth, what a run shows of itself, and what other views say, over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from selfreward.errors import DataError, nearest
from selfreward.evaluation.report.static import INK, LINE, MUTED, OUTSIDE, OWN, SELF, save_figure
from selfreward.lab.validation.records import WatchedRun
from selfreward.lab.validation.run_verdicts import judge


def watched_figure(runs: Sequence[WatchedRun], names: Sequence[str], path: str | Path) -> Path:
    """Runs of the collapse zoo side by side: the truth, what the run shows of itself, and what other views say.

    Args:
        names: ``SPECIES/SEED`` of the runs to show, in order.

    Raises:
        DataError: for a run that is not there.
    """
    known = {f"{r.name}/{r.seed}": r for r in runs}
    for name in names:
        if name not in known:
            raise DataError(f"There is no run {name!r} of the zoo.{nearest(name, known)}")

    def series(records: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
        found = [(r["step"], r[key]) for r in records if key in r]
        return [s for s, _ in found], [v for _, v in found]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(3, len(names), sharex="col", sharey="row", squeeze=False)
        for column, name in zip(grid.T, names, strict=True):
            records = known[name].records
            verdict = judge(name, records)
            column[0].plot(*series(records, "truth"), color=INK, lw=1.8)
            for key, colour in OWN.items():
                column[1].plot(*series(records, key), color=colour, lw=1.4, label=key)
            for key, (colour, label) in OUTSIDE.items():
                steps, values = series(records, key)
                if values:
                    column[2].plot(steps, values, color=colour, lw=1.4, label=label)
            said = f"called by {verdict.alarm}" if verdict.alarm else "not called"
            column[0].set_title(f"{name}\n{verdict.kind}\n{said}", fontsize=9.5)
            for ax in column:
                ax.grid(axis="y", color=LINE, lw=0.6)
                ax.tick_params(length=0, labelsize=9)
                if verdict.fell is not None:
                    ax.axvline(verdict.fell, color=MUTED, lw=1, ls=(0, (2, 2)))
                if verdict.called is not None:
                    ax.axvline(verdict.called, color=SELF, lw=1.6)
            column[2].set_xlabel("training step")
        grid[0][0].set_ylabel("held-out truth")
        grid[1][0].set_ylabel("of itself")
        grid[2][0].set_ylabel("other views")
        handles = [
            Line2D([], [], color=SELF, lw=1.6, label="first severe alarm"),
            Line2D([], [], color=MUTED, lw=1, ls=(0, (2, 2)), label="truth 3 points below its best"),
            *(Line2D([], [], color=c, lw=1.4, label=f"of itself: {k}") for k, c in OWN.items()),
            *(Line2D([], [], color=c, lw=1.4, label=w) for c, w in list(OUTSIDE.values())[:3]),
            Line2D([], [], color=INK, lw=1.4, label="reward confirmed by the twin (or the way back)"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)

    return save_figure(draw, (3.0 * len(names), 7.0), path)
