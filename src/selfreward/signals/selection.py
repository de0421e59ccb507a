"""Selection at test time: several samples of one question in, one answer out.

Pure functions on answer classes (see :func:`selfreward.data.answers.cluster`) and scores, one per sample. Sources:
best-of-N and Borda voting by self-certainty (2502.18581); votes weighted by a score, LaSeR (2510.14943);
voting among accepted solutions, Self-PRM (2505.11227); plain majority, self-consistency (2203.11171).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from selfreward.errors import ConfigError, nearest
from selfreward.signals.vote import VoteResult, borda_vote, vote

Rule = Literal["majority", "best", "borda", "weighted", "accept-vote"]
RULES: tuple[str, ...] = get_args(Rule)
NEEDS_SCORES = frozenset(RULES) - {"majority"}


@dataclass(frozen=True)
class Selection:
    """What was chosen, and why.

    Attributes:
        index: the chosen sample: of the winning class the one with the best score (the first where there
            are no scores); None when no sample has an answer.
        label: its answer class.
        votes: weight per class.
        fallback: whether no sample was accepted, and the plain vote decided.
        why: one sentence.
    """

    index: int | None
    label: int | None
    votes: dict[int, float] = field(default_factory=dict)
    fallback: bool = False
    why: str = ""


def select(
    classes: Sequence[int | None],
    scores: Sequence[float | None] | None = None,
    rule: str = "majority",
    *,
    power: float = 0.5,
    threshold: float = 0.5,
) -> Selection:
    """One of ``N`` samples, by ``rule``. Ties go to the class seen first.

    Example, classes ``[0, 1, 1, 2]`` and scores ``[.9, .6, .2, None]``: ``majority`` elects 1 (2 votes),
    ``best`` takes sample 0, ``weighted`` elects 0 (.9 against .8), ``borda`` with power 1 elects 1 (weights
    4, 3, 2), ``accept-vote`` at .5 accepts samples 0 and 1, and the first of the two tied classes wins.

    Args:
        classes: answer class per sample; None where there is no answer. Such a sample is never chosen.
        scores: higher is better, any scale. None for a sample that has no score: it counts as the worst
            (``best``, ``borda``), as weight 0 (``weighted``), as not accepted (``accept-vote``).
        rule: ``majority`` counts; ``best`` takes the best-scored sample; ``borda`` weighs a vote by rank,
            ``(N - rank + 1) ** power``; ``weighted`` weighs it by the score itself; ``accept-vote`` counts
            the samples that score at least ``threshold``, and all of them if there is none.

    Raises:
        ConfigError: for an unknown rule, a rule without the scores that it needs, a NaN score, or negative
            scores as weights of a vote.
    """
    if rule not in RULES:
        raise ConfigError(f"There is no selection rule {rule!r}.{nearest(rule, RULES)}")
    if scores is None:
        if rule in NEEDS_SCORES:
            raise ConfigError(f"Rule {rule!r} needs a score for every sample; only 'majority' does without.")
        scores = [None] * len(classes)
    if len(scores) != len(classes):
        raise ConfigError(f"There are {len(classes)} samples but {len(scores)} scores.")
    if any(s is not None and math.isnan(s) for s in scores):
        raise ConfigError("A score is NaN; leave it out (None) where there is none.")
    if power < 0:
        raise ConfigError(f"power is {power}; it must be 0 (a plain vote) or more.")
    numbers = [-math.inf if s is None else float(s) for s in scores]

    if rule == "best":
        answered = [i for i, c in enumerate(classes) if c is not None]
        if not answered:
            return _no_answer()
        top = max(answered, key=lambda i: numbers[i])
        return Selection(top, classes[top], {}, why=f"best score of {len(answered)} answers ({_shown(scores[top])})")
    if rule == "borda":
        result = borda_vote(classes, numbers, power)
        return _elected(classes, numbers, result, f"Borda weight, power {power:g}")
    if rule == "weighted":
        return _elected(classes, numbers, vote(classes, _weights(scores)), "summed score")
    if rule == "accept-vote":
        accepted = [c if n >= threshold else None for c, n in zip(classes, numbers, strict=True)]
        kept = sum(c is not None for c in accepted)
        if kept:
            return _elected(accepted, numbers, vote(accepted), f"votes of {kept} accepted samples of {len(classes)}")
        return _elected(classes, numbers, vote(classes), "none accepted, so plain votes", fallback=True)
    return _elected(classes, numbers, vote(classes), "votes")


def _elected(
    classes: Sequence[int | None], scores: Sequence[float], result: VoteResult, words: str, fallback: bool = False
) -> Selection:
    if result.label is None:
        # All weights 0: the samples that have an answer are equal, and counting them is what is left.
        result = vote(classes)
        if result.label is None:
            return _no_answer()
        words, fallback = "no weight anywhere, so plain votes", True
    members = [i for i, c in enumerate(classes) if c == result.label]
    index = max(members, key=lambda i: scores[i])
    tie = ", first of a tie" if result.tie else ""
    total = math.fsum(result.counts.values())
    why = f"{result.counts[result.label]:.4g} of {total:.4g} {words}{tie}"
    return Selection(index, result.label, result.counts, fallback, why)


def _weights(scores: Sequence[float | None]) -> list[float]:
    weights = [0.0 if s is None else float(s) for s in scores]
    if min(weights, default=0.0) < 0 or any(math.isinf(w) for w in weights):
        raise ConfigError(
            "Rule 'weighted' adds up scores, so they must be finite and not negative (log-probabilities are not). "
            "Use rule 'borda', which looks at ranks only."
        )
    return weights


def _no_answer() -> Selection:
    return Selection(None, None, why="no sample has an answer")


def _shown(score: float | None) -> str:
    return "no score" if score is None else f"{score:.4g}"
