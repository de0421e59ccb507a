"""What the proofs of the efficiency rewards share: points of accuracy and length over training."""

from __future__ import annotations

import json

from selfreward.lab.proofs.proof import Results, Rule
from selfreward.statistics import Estimate, mean_interval

Point = tuple[float, float]
"""(length, accuracy)"""


def points(results: Results, arm: str) -> list[list[Point]]:
    """Per seed, what the arm reached at every evaluation after its start."""
    found = []
    for seed in sorted(results.arms[arm]):
        lines = (results.root / arm / f"seed-{seed}" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [r for r in map(json.loads, lines) if r["step"] > 0 and "eval/length" in r]
        found.append([(r["eval/length"], r["eval/pass@1"]) for r in records])
    return found


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
    pairs = zip(results.values(arm, "length"), results.values(baseline, "length"), strict=True)
    return mean_interval([1 - a / b for a, b in pairs])


def as_accurate(arm: str, baseline: str, points_below: float) -> Rule:
    return Rule(
        "as accurate",
        f"{arm} ends at most {100 * points_below:g} point(s) of pass@1 below {baseline} (mean over seeds)",
        lambda r: r.lead(arm, baseline, "pass@1"),
        lambda e: e.value >= -points_below,
    )
