"""What the proofs of the efficiency rewards share: points of accuracy and length over training."""

from __future__ import annotations

from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import PASS_AT_1, Rule, not_below
from selfreward.statistics import Estimate, mean_interval

Point = tuple[float, float]
"""(length, accuracy)"""


def points(results: Results, arm: str) -> list[list[Point]]:
    """Per seed, what the arm reached at every evaluation after its start."""
    runs = [results.records(arm, seed) for seed in results.seeds(arm)]
    return [[(r["eval/length"], r["eval/pass@1"]) for r in run if r["step"] > 0 and "eval/length" in r] for run in runs]


def dominated(mine: list[Point], others: list[Point]) -> float:
    """Share of my points to which the others have one that is no longer and no less accurate.

    Example: ``[(10, .9), (8, .7)]`` against ``[(9, .8)]`` is 0; against ``[(8, .9)]`` it is 1.
    """
    beaten = [any(n <= length and a >= accuracy for n, a in others) for length, accuracy in mine]
    return sum(beaten) / len(beaten)


def share_dominated(results: Results, arm: str, other: str) -> Estimate:
    """:func:`dominated`, per seed."""
    pairs = zip(points(results, arm), points(results, other), strict=True)
    return mean_interval([dominated(mine, others) for mine, others in pairs])


def shortening(results: Results, arm: str, baseline: str) -> Estimate:
    """Share of the baseline's length that ``arm`` saves, per seed."""
    return mean_interval(1 - results.values(arm, "length") / results.values(baseline, "length"))


def as_accurate(arm: str, baseline: str, points_below: float) -> Rule:
    return not_below("as accurate", arm, baseline, PASS_AT_1, within=points_below)
