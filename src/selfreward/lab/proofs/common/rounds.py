"""What proofs of methods in rounds look at: values after each round, and means of what a run recorded in a round."""

from __future__ import annotations

from collections.abc import Callable

from selfreward.lab.proofs.results import Record, Results, Values
from selfreward.statistics import Estimate, mean_interval


def records(results: Results, arm: str) -> list[list[Record]]:
    """The step records of every seed, in the order of the seeds; step 0 is the start."""
    return [results.records(arm, seed) for seed in results.seeds(arm)]


def measured(results: Results, arm: str, metric: str) -> list[list[float]]:
    """Per seed the held-out values of ``metric`` in the order of the evaluations, the start first."""
    return results.steps(arm, f"eval/{metric}")


def between(arm: str, metric: str, first: int, second: int) -> Callable[[Results], Estimate]:
    """The value after round ``second`` minus that after round ``first``, paired by seed (0 is the start)."""
    return lambda results: mean_interval([v[second] - v[first] for v in measured(results, arm, metric)])


def in_round(results: Results, arm: str, name: str, number: float) -> Values:
    """``[S]``: the mean of a recorded value over the steps of one round.

    Raises:
        DataError: where a run recorded no such value in that round.
    """
    return results.step_mean(arm, name, lambda record: record.get("round") == number)


def lead(arm: str, other: str, metric: str) -> Callable[[Results], Estimate]:
    """How far ``arm`` ends above ``other``, paired by seed."""
    return lambda results: results.lead(arm, other, metric)
