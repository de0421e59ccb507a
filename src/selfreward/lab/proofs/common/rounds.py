"""What proofs of methods in rounds look at: values after each round, and means of what a run recorded in a round."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from selfreward.lab.proofs.proof import Results
from selfreward.statistics import Estimate, mean_interval


def records(results: Results, arm: str) -> list[list[dict[str, Any]]]:
    """The step records of every seed, in the order of the seeds; step 0 is the start."""
    found = []
    for seed in sorted(results.arms[arm]):
        text = (results.root / arm / f"seed-{seed}" / "metrics.jsonl").read_text(encoding="utf-8")
        found.append([json.loads(line) for line in text.splitlines()])
    return found


def measured(results: Results, arm: str, metric: str) -> list[list[float]]:
    """Per seed the held-out values of ``metric`` in the order of the evaluations, the start first."""
    key = f"eval/{metric}"
    return [[float(r[key]) for r in run if key in r] for run in records(results, arm)]


def between(arm: str, metric: str, first: int, second: int) -> Callable[[Results], Estimate]:
    """The value after round ``second`` minus that after round ``first``, paired by seed (0 is the start)."""
    return lambda results: mean_interval([v[second] - v[first] for v in measured(results, arm, metric)])


def in_round(results: Results, arm: str, name: str, number: float) -> list[float]:
    """Per seed the mean of a recorded value over the steps of one round."""
    found = []
    for run in records(results, arm):
        values = [float(r[name]) for r in run if r.get("round") == number and name in r]
        found.append(sum(values) / max(1, len(values)))
    return found


def lead(arm: str, other: str, metric: str) -> Callable[[Results], Estimate]:
    """How far ``arm`` ends above ``other``, paired by seed."""
    return lambda results: results.lead(arm, other, metric)
