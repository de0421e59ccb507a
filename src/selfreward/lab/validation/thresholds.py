"""How thresholds are chosen on the choice part, and how far the choice depends on the species that it saw.

The shipped thresholds were set by hand, from few and explained rules, with the choice part in view. What this
module does by machine, coordinate by coordinate over a coarse grid, is there to check them: each species is
judged with thresholds that were chosen without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from selfreward.evaluation.sentinel.detector import Thresholds
from selfreward.lab.validation.records import WatchedRun
from selfreward.lab.validation.run_verdicts import RunVerdict, judge, summarise

GRID: dict[str, tuple[float, ...]] = {
    "against": (2.0, 2.5, 3.0),
    "confirmed": (0.1, 0.2, 0.3),
    "faded": (0.0, 0.05, 0.1),
    "drift": (0.01, 0.02, 0.04),
    "stride": (0.01, 0.02, 0.04),
    "cross_gap": (0.08, 0.12, 0.16),
    "view_fall": (0.15, 0.25, 0.4),
    "patience": (1, 2, 3),
}
FALSE_ALARM = 2.0  # a false alarm costs as much as two misses
OUTSIDE = re.compile(r"probe/(reward_|cross_|balance|compared|judge|back)")


def species_of(run: WatchedRun) -> str:
    """The species of a run: its name without the learning rate."""
    return re.sub(r"-\d[\d.e-]*$", "", run.name)


def cost(verdicts: Sequence[RunVerdict]) -> float:
    """Share missed, plus twice the share of false alarms, plus the mean gap after a roll-back."""
    bad = [v for v in verdicts if v.kind == "collapsing"]
    good = [v for v in verdicts if v.kind == "healthy"]
    gaps = [v.best - v.kept for v in bad if v.kept is not None]
    missed = fmean(float(not v.early) for v in bad) if bad else 0.0
    false = fmean(float(v.called is not None) for v in good) if good else 0.0
    return missed + FALSE_ALARM * false + (fmean(gaps) if gaps else 0.0)


def choose(runs: Sequence[WatchedRun], start: Thresholds | None = None) -> Thresholds:
    """The thresholds of least cost on ``runs``, one coordinate after the other; ties keep what is."""

    def price(t: Thresholds) -> float:
        return cost([judge(r.name, r.records, t) for r in runs])

    best = start or Thresholds()
    least = price(best)
    for name, values in GRID.items():
        for value in values:
            change: dict[str, Any] = {name: value}
            candidate = replace(best, **change)
            if (found := price(candidate)) < least - 1e-6:
                best, least = candidate, found
    return best


def leave_one_species_out(runs: Sequence[WatchedRun]) -> dict[str, Any]:
    """Every species judged with thresholds that were chosen on the others: what a new kind of run would meet."""
    verdicts: list[RunVerdict] = []
    for name in sorted({species_of(r) for r in runs}):
        thresholds = choose([r for r in runs if species_of(r) != name])
        verdicts += [judge(f"{r.name}/{r.seed}", r.records, thresholds) for r in runs if species_of(r) == name]
    return summarise(verdicts)


def without_views(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records as a run would leave them that has no other view: neither twin nor judge nor way back."""
    return [{k: v for k, v in r.items() if not OUTSIDE.match(k)} for r in records]
