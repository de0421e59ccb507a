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

import numpy as np

from selfreward.lab.proofs.common.efficiency import LENGTH, Point
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import PASS_AT_1, POINTS, measured, not_below, trails, weakest
from selfreward.statistics import Estimate, mean_interval, spearman
from selfreward.training.comparison import Arm

RECIPE = "e1-adaptive-effort"
EFFORTS = (0.25, 0.5, 0.75, 1.0, 1.5)


def by_effort(results: Results, arm: str, metric: str) -> Values:
    """``[S, R]``: the metric at every effort, ascending."""
    return np.stack([results.values(arm, f"{metric} at {r:g}") for r in EFFORTS], axis=1)


def obedience(results: Results) -> list[float]:
    """Spearman's correlation of the effort and the mean length at it, per seed."""
    return [spearman(EFFORTS, lengths) for lengths in by_effort(results, "aec", "length")]


def smallest_step(results: Results) -> Estimate:
    """The step of accuracy from one effort to the next that is smallest in the mean over seeds."""
    return weakest(mean_interval(step) for step in np.diff(by_effort(results, "aec", "pass@1"), axis=1).T)


def gap(mine: Sequence[Point], theirs: Sequence[Point]) -> float:
    """How far my accuracy lies above theirs at equal length, averaged over the lengths that both reach.

    Points are joined by straight lines; where they share no length, the nearest ends are compared.
    Example: ``[(4, .4), (8, .8)]`` against ``[(6, .5), (10, .5)]``: from 6 to 8 it is .6 to .8 against .5, .2.
    """
    a, b = np.array(sorted(mine)), np.array(sorted(theirs))
    low, high = max(a[0, 0], b[0, 0]), min(a[-1, 0], b[-1, 0])
    at = np.linspace(min(low, high), max(low, high), 51)
    return float((np.interp(at, *a.T) - np.interp(at, *b.T)).mean())


def matched(results: Results) -> list[float]:
    """:func:`gap` of aec and absolute budgets over their efforts, per seed."""

    def points(arm: str) -> list[list[Point]]:
        rows = zip(by_effort(results, arm, "length"), by_effort(results, arm, "pass@1"), strict=True)
        return [list(zip(x, y, strict=True)) for x, y in rows]

    return [gap(*sides) for sides in zip(points("aec"), points("budget"), strict=True)]


def spread(results: Results, arm: str) -> Values:
    """``[S]``: length at the largest effort above that at the smallest."""
    lengths = by_effort(results, arm, "length")
    return lengths[:, -1] - lengths[:, 0]


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
        measured(
            "effort sets length",
            "Spearman's correlation of the effort and the mean length at it",
            obedience,
            at_least=0.9,
        ),
        measured(
            "more effort is no worse",
            "the smallest change in pass@1 from one effort to the next",
            smallest_step,
            at_least=-0.01,
            unit=POINTS,
        ),
        measured(
            "above absolute budgets",
            "the lead in accuracy of aec over absolute budgets at equal length, averaged over the lengths of both,",
            matched,
            above=0,
        ),
        not_below("as accurate", "aec", "correct-only", PASS_AT_1, within=0.01, note="both at the largest effort"),
        trails("with fewer tokens", "aec", "correct-only", LENGTH, end="mean", note="both at the largest effort"),
        measured(
            "the sign carries it",
            "how much further length spreads over the efforts in aec than in permuted",
            lambda r: spread(r, "aec") - spread(r, "permuted"),
            above=0,
            end="low",
            note="permuted: the sign shown is not the one paid for",
        ),
    ),
)
