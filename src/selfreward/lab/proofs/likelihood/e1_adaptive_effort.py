"""e1 (019) on EFF: a share of the usual length, asked for by one sign before the question.

Rules are those of the method card, written down before the run. Few prompts, often: the running mean
length per prompt is what the method lives on.

Chosen on development prompts: T_avg is the mean at the largest effort. Over all efforts, with a mean effort
of 0.8, the target shrank with every visit: after 40 steps the largest effort gave 7 tokens and half of the
answers right, where the anchored average gave 10 tokens and eight in ten. And the base is one to which signs
mean a little (10 tokens at the smallest effort, 13 at the largest): on a base to which they mean nothing the
model became shorter at all efforts alike before it could tell them apart. What training adds to that little
is measured against signs drawn without regard to what is paid, which start from the same base. No rule reads
the two arms with other averages (of the same effort, of all efforts); they were added after the others had run.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from selfreward.lab.proofs.common.efficiency import Point, as_accurate
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval, spearman
from selfreward.training.comparison import Arm

RECIPE = "e1-adaptive-effort"


EFFORTS = (0.25, 0.5, 0.75, 1.0, 1.5)


def curve(results: Results, arm: str, metric: str) -> list[list[float]]:
    """Per seed, ``metric`` at every effort, ascending."""
    columns = [results.values(arm, f"{metric} at {r:g}") for r in EFFORTS]
    return [list(row) for row in zip(*columns, strict=True)]


def obedience(results: Results, arm: str) -> Estimate:
    """Spearman's correlation of the effort and the mean length at it, per seed."""
    return mean_interval([spearman(EFFORTS, row) for row in curve(results, arm, "length")])


def smallest_step(results: Results, arm: str) -> Estimate:
    """The smallest step of accuracy from one effort to the next (mean over seeds)."""
    rows = curve(results, arm, "pass@1")
    found = [mean_interval([row[j] - row[i] for row in rows]) for i, j in pairwise(range(len(EFFORTS)))]
    return min(found, key=lambda e: e.value)


def gap(mine: Sequence[Point], theirs: Sequence[Point]) -> float:
    """How far my accuracy lies above theirs at equal length, averaged over the lengths that both reach.

    Points are joined by straight lines; where they share no length, the nearest ends are compared.
    Example: ``[(4, .4), (8, .8)]`` against ``[(6, .5), (10, .5)]``: from 6 to 8 it is .6 to .8 against .5, .2.
    """
    a, b = sorted(mine), sorted(theirs)
    low, high = max(a[0][0], b[0][0]), min(a[-1][0], b[-1][0])
    at = np.linspace(min(low, high), max(low, high), 51)
    lines = [np.interp(at, np.array([n for n, _ in p]), np.array([y for _, y in p])) for p in (a, b)]
    return float((lines[0] - lines[1]).mean())


def matched(results: Results, arm: str, other: str) -> Estimate:
    """:func:`gap` of two arms over their efforts, per seed."""
    sides = []
    for label in (arm, other):
        rows = zip(curve(results, label, "length"), curve(results, label, "pass@1"), strict=True)
        sides.append([list(zip(x, y, strict=True)) for x, y in rows])
    return mean_interval([gap(a, b) for a, b in zip(*sides, strict=True)])


def spread(results: Results, arm: str) -> list[float]:
    """Length at the largest effort above that at the smallest, per seed."""
    return [row[-1] - row[0] for row in curve(results, arm, "length")]


PROOF = Proof(
    slug="e1-adaptive-effort",
    id="019",
    claim="Paying right answers only below an asked share of the prompt's usual length teaches a dial: length and "
    "accuracy rise with the number in the prompt, better than with absolute budgets.",
    task="embedded:eff-signs",
    main="aec",
    arms=(
        Arm("aec", RECIPE, {"average": "top"}),
        Arm("same-effort", RECIPE, {"average": "same"}),
        Arm("all-efforts", RECIPE, {"average": "all"}),
        Arm("correct-only", RECIPE, {"reward": "correct"}),
        Arm("budget", RECIPE, {"reward": "budget"}),
        Arm("permuted", RECIPE, {"average": "top", "shown": "permuted"}),
    ),
    reason="The dial became a switch: 4 to 5 tokens (guesses) at efforts up to 1, 11 to 12 (worked, without filler) at "
    "1.5, so that the order of the lower four is noise. A worked answer here has one length that cannot be cut: at "
    "effort 1.5 it is reached (17 tokens for six operations), and effort 1 asks for strictly less than that. Absolute "
    "budgets end in the same switch. The lower four pay guesses only, and 41 to 45 % of the groups earned nothing. "
    "At 1.5 guesses (2 to 12 %, 3 % without the gate), broken answers and slips are what accuracy lacks; that they "
    "leak in from the other efforts is likely and was not tested, nor was a task with right answers of many lengths. "
    "What the length is compared with matters: with an average over all efforts the model ends at 4 tokens whatever is "
    "asked, and 0.30 right at the largest effort; an average of the same effort serves as well as that of the "
    "largest (0.91).",
    settings={"model": "embedded:eff-signs", "limit": 64, "steps": 80, "eval_every": 0, "log_groups": 1},
    rules=(
        Rule(
            "effort sets length",
            "Spearman's correlation of the effort and the mean length at it is at least 0.9 (mean over seeds)",
            lambda r: obedience(r, "aec"),
            lambda e: e.value >= 0.9,
        ),
        Rule(
            "more effort is no worse",
            "no step to the next effort lowers pass@1 by more than 1 point (smallest step, mean over seeds)",
            lambda r: smallest_step(r, "aec"),
            lambda e: e.value >= -0.01,
        ),
        Rule(
            "above absolute budgets",
            "at equal length aec is more accurate than absolute budgets (mean over shared lengths and seeds above 0)",
            lambda r: matched(r, "aec", "budget"),
            lambda e: e.value > 0,
        ),
        as_accurate("aec", "correct-only", 0.01),
        Rule(
            "with fewer tokens",
            "at the largest effort aec is shorter than correct-only (mean over seeds)",
            lambda r: r.lead("aec", "correct-only", "length"),
            lambda e: e.value < 0,
        ),
        Rule(
            "the sign carries it",
            "length spreads further over the efforts than where the sign shown is not the one paid for "
            "(lower end of the paired interval above 0)",
            lambda r: mean_interval([a - b for a, b in zip(spread(r, "aec"), spread(r, "permuted"), strict=True)]),
            lambda e: e.low > 0,
        ),
    ),
)
