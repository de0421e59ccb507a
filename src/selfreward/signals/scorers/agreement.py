"""Moved out of auditing.scorers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfreward.rollouts.run import RunContext
from selfreward.signals import certainty
from selfreward.signals.named import _tokens
from selfreward.signals.registry import Scores
from selfreward.signals.similarity import mean_similarity
from selfreward.signals.vote import borda_vote, cross_vote_rewards, vote_rewards
from selfreward.signals.vote import vote as elect
from selfreward.types import Group

# ---- agreement -----------------------------------------------------------------------------------


def vote(run: RunContext, groups: Sequence[Group], missing: Any = "drop", quorum: float = 0.0) -> Scores:
    found = [run.classes(g) for g in groups]
    return [list(vote_rewards(c, elect(c, missing=missing, quorum=quorum))) for c in found]


def cross_vote(run: RunContext, groups: Sequence[Group]) -> Scores:
    run.views(groups)
    return [list(cross_vote_rewards(*run.shared_classes(g))[0]) for g in groups]


def borda(run: RunContext, groups: Sequence[Group], by: str = "self_certainty", power: float = 0.5) -> Scores:
    stats = run.stats(groups, [certainty.needed_statistic(by)])
    result: Scores = []
    for group, own in zip(groups, stats, strict=True):
        scores = [float(certainty.sequence_score(by, t)) if _tokens(t) else float("-inf") for t in own]
        classes = run.classes(group)
        result.append(list(vote_rewards(classes, borda_vote(classes, scores, power))))
    return result


def mbr(run: RunContext, groups: Sequence[Group]) -> Scores:
    from selfreward.signals.text_metrics import chrf

    return [list(mean_similarity(run.answers_of(g), chrf)) for g in groups]
