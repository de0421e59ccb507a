"""Votes: rewards from agreement among the answers of one group.

All functions take *class ids* (see :func:`selfreward.data.answers.cluster`), one per trajectory of a
whole group, None where the answer is missing. A missing answer is never rewarded, under any policy.

Sources: majority vote as pseudo-label, TTRL (arXiv 2504.16084) and SRT; swapped labels of two views,
Co-Reward (2508.00410); Borda voting, Self-Certainty (2502.18581); cluster share, EMPO (2504.05812);
quorum and margin weight, ScPO (2411.04109).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from selfreward.data.answers import AnswerSpace, cluster

if TYPE_CHECKING:
    from torch import Generator

Missing = Literal["drop", "own", "zero"]
Ties = Literal["first", "random", "abstain"]


@dataclass(frozen=True)
class VoteResult:
    """The outcome of one vote.

    Attributes:
        label: the winning class, None when the vote abstains.
        share: weight of the heaviest class over the total weight (0 without answers).
        margin: share of the heaviest class minus share of the runner-up.
        counts: weight per class, in first-seen order.
        tie: whether two or more classes share the top weight.
    """

    label: int | None
    share: float
    margin: float
    counts: dict[int, float] = field(default_factory=dict)
    tie: bool = False


def vote(
    classes: Sequence[int | None],
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    ties: Ties = "first",
    quorum: float = 0.0,
    generator: Generator | None = None,
) -> VoteResult:
    """The class with the largest weight. Example: ``[0, 1, 0, None]`` elects 0 with share 2/3.

    Args:
        classes: class id per trajectory, None for a missing answer.
        weights: non-negative weight per trajectory; None means 1 each.
        missing: what a missing answer does to the vote. It takes a thought, because a group where
            3 of 16 answers can be read is either a clear vote (3 of 3) or no vote at all (3 of 16).

            - ``"drop"``: as if the trajectory were not there; shares are of those who answered
              (Co-Reward).
            - ``"zero"``: it votes for nothing but counts in the total, so share and quorum are of
              the whole group.
            - ``"own"``: as ``"zero"``, and all missing answers together are a class that can win;
              then nobody gets a label. A group that mostly fails to answer teaches nothing.
        ties: ``"first"`` elects the class seen first; ``"random"`` draws one with ``generator``;
            ``"abstain"`` elects none. First-seen is harmless for sampled groups, whose order is
            random, and wrong where the order carries meaning (a greedy sample in front).
        quorum: the label is None when ``share < quorum``.
        generator: needed for ``ties="random"``, so that a run can be resumed exactly.
    """
    values = [1.0] * len(classes) if weights is None else [float(w) for w in weights]
    assert len(values) == len(classes), f"{len(classes)} classes but {len(values)} weights"
    if any(w < 0 or not math.isfinite(w) for w in values):
        raise ValueError("Vote weights must be finite and not negative.")

    members: dict[int, list[float]] = {}
    for c, w in zip(classes, values, strict=True):
        if c is not None:
            members.setdefault(c, []).append(w)
    # fsum is exact, so equal classes tie whatever the order of their members.
    counts = {c: math.fsum(ws) for c, ws in members.items()}
    absent = math.fsum(w for c, w in zip(classes, values, strict=True) if c is None)
    total = math.fsum(counts.values()) + (0.0 if missing == "drop" else absent)
    if total == 0 or not counts:
        return VoteResult(None, 0.0, 0.0, counts)

    top = max(counts.values())
    winners = [c for c, w in counts.items() if math.isclose(w, top, rel_tol=1e-12)]
    rivals = [w for c, w in counts.items() if c != winners[0]]
    if missing == "own":
        rivals.append(absent)
    share = top / total
    margin = (top - max(rivals, default=0.0)) / total
    tie = len(winners) > 1

    label: int | None = winners[0]
    if tie and ties == "abstain":
        label = None
    elif tie and ties == "random":
        if generator is None:
            raise ValueError("ties='random' needs a generator: an unseeded draw could not be resumed.")
        import torch

        label = winners[int(torch.randint(len(winners), (1,), generator=generator))]
    if top == 0 or share < quorum or (missing == "own" and absent > top):
        label = None
    return VoteResult(label, share, margin, counts, tie)


def vote_rewards(classes: Sequence[int | None], result: VoteResult) -> list[float]:
    """1.0 for members of the elected class, 0.0 for the others; all 0.0 when the vote abstained."""
    return [float(result.label is not None and c == result.label) for c in classes]


def cluster_share_rewards(classes: Sequence[int | None]) -> list[float]:
    """Each answer earns its class's share of the group, ``|c_i| / G`` (EMPO).

    Example: ``[0, 0, 1, None]`` gives ``[0.5, 0.5, 0.25, 0.0]``. Softer than a vote: a minority that
    grows is rewarded before it leads.
    """
    counts = vote(classes).counts
    return [0.0 if c is None else counts[c] / len(classes) for c in classes]


def cluster_views(
    answers_a: Sequence[str | None], answers_b: Sequence[str | None], space: AnswerSpace
) -> tuple[list[int | None], list[int | None]]:
    """Class ids of two views of one question with shared numbering.

    Clustering each view alone would give both an unrelated class 0, and a swap would compare noise.
    """
    classes = cluster([*answers_a, *answers_b], space)
    return classes[: len(answers_a)], classes[len(answers_a) :]


def cross_vote_rewards(
    classes_view_a: Sequence[int | None],
    classes_view_b: Sequence[int | None],
    missing: Missing = "drop",
    ties: Ties = "first",
    quorum: float = 0.0,
    generator: Generator | None = None,
) -> tuple[list[float], list[float]]:
    """The label of one view rewards the answers of the other (Co-Reward).

    Example: ``[0, 0, 1]`` and ``[1, 1, 0]`` elect 0 and 1, and both views earn ``[0, 0, 1]``: each is
    paid only for what the other elected.

    Args:
        classes_view_a: class ids of the answers to the question, shape ``[G_a]``.
        classes_view_b: class ids of the answers to its rewrite, shape ``[G_b]``, numbered together
            with the first (:func:`cluster_views`).
        missing: see :func:`vote`, as are ``ties``, ``quorum`` and ``generator``.
    """
    label_a = vote(classes_view_a, None, missing, ties, quorum, generator)
    label_b = vote(classes_view_b, None, missing, ties, quorum, generator)
    return vote_rewards(classes_view_a, label_b), vote_rewards(classes_view_b, label_a)


def borda_weights(scores: Sequence[float], power: float = 0.5) -> list[float]:
    """Weight ``(N - rank + 1) ** power`` per sample, the best score having rank 1 (2502.18581).

    Equal scores share the mean of their weights, so that the order of the samples does not matter.
    ``power=0`` is the plain vote; a large power is best-of-N.
    """
    if any(math.isnan(s) for s in scores):
        raise ValueError("Borda scores must not be NaN.")
    n = len(scores)
    ranked = sorted(range(n), key=lambda i: -scores[i])
    shared: dict[float, list[float]] = {}
    for rank, i in enumerate(ranked, start=1):
        shared.setdefault(scores[i], []).append((n - rank + 1) ** power)
    return [math.fsum(shared[s]) / len(shared[s]) for s in scores]


def borda_vote(
    classes: Sequence[int | None],
    scores: Sequence[float],
    power: float = 0.5,
    missing: Missing = "drop",
    ties: Ties = "first",
    quorum: float = 0.0,
    generator: Generator | None = None,
) -> VoteResult:
    """A vote weighted by the rank of each sample's score (Self-Certainty, 2502.18581).

    A missing answer occupies its rank but adds no weight, as in the released code.
    Example: classes ``[0, 1, 1]``, scores ``[9, 2, 1]``, power 2: weights 9, 4, 1; class 0 wins.
    """
    assert len(scores) == len(classes), f"{len(classes)} classes but {len(scores)} scores"
    return vote(classes, borda_weights(scores, power), missing, ties, quorum, generator)
