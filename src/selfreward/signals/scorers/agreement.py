"""Agreement within a group on whole groups: votes by answer, by another view, by rank, and by similarity.

See :mod:`selfreward.signals.vote` for the votes themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfreward.rollouts.run import RunContext
from selfreward.signals import certainty
from selfreward.signals.named import _tokens
from selfreward.signals.registry import Scores
from selfreward.signals.text_metrics import mean_similarity
from selfreward.signals.vote import borda_vote, cross_vote_rewards, vote_rewards
from selfreward.signals.vote import vote as elect
from selfreward.types import Group

# ---- agreement -----------------------------------------------------------------------------------


def vote(run: RunContext, groups: Sequence[Group], missing: Any = "drop", quorum: float = 0.0) -> Scores:
    """1 for members of the elected class of their group, else 0; see :func:`selfreward.signals.vote.vote`."""
    found = [run.classes(g) for g in groups]
    return [list(vote_rewards(c, elect(c, missing=missing, quorum=quorum))) for c in found]


def cross_vote(run: RunContext, groups: Sequence[Group]) -> Scores:
    """1 for members of the class that the other wording of the question elected, else 0 (Co-Reward, 2508.00410)."""
    run.views(groups)
    return [list(cross_vote_rewards(*run.shared_classes(g))[0]) for g in groups]


def borda(run: RunContext, groups: Sequence[Group], by: str = "self_certainty", power: float = 0.5) -> Scores:
    """1 for members of the class that a vote by rank of the certainty ``by`` elects, else 0 (2502.18581)."""
    stats = run.stats(groups, [certainty.needed_statistic(by)])
    result: Scores = []
    for group, own in zip(groups, stats, strict=True):
        scores = [float(certainty.sequence_score(by, t)) if _tokens(t) else float("-inf") for t in own]
        classes = run.classes(group)
        result.append(list(vote_rewards(classes, borda_vote(classes, scores, power))))
    return result


def mbr(run: RunContext, groups: Sequence[Group]) -> Scores:
    """Mean chrF of every answer to the others of its group (minimum Bayes risk), in [0, 1]."""
    from selfreward.signals.text_metrics import chrf

    return [list(mean_similarity(run.answers_of(g), chrf)) for g in groups]
