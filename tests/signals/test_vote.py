"""Votes: worked examples first, then what must hold for every group."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfreward.data.answers import Number
from selfreward.signals.vote import (
    VoteResult,
    borda_vote,
    borda_weights,
    cluster_share_rewards,
    cluster_views,
    cross_vote_rewards,
    vote,
    vote_rewards,
)

CLASSES = st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=12)


def test_two_questions_of_four_answers():
    first = vote([0, 1, 0, 2])
    assert first == VoteResult(label=0, share=0.5, margin=0.25, counts={0: 2, 1: 1, 2: 1}, tie=False)
    assert vote_rewards([0, 1, 0, 2], first) == [1, 0, 1, 0]
    second = vote([0, 1, 1, None])
    assert (second.label, second.share) == (1, 2 / 3)
    assert vote_rewards([0, 1, 1, None], second) == [0, 1, 1, 0]


def test_missing_policies_on_a_group_that_mostly_fails():
    group = [0, 0, None, None, None, None]
    assert vote(group, missing="drop") == VoteResult(0, 1.0, 1.0, {0: 2})
    zero = vote(group, missing="zero")
    assert (zero.label, zero.share, zero.margin) == (0, 2 / 6, 2 / 6)
    own = vote(group, missing="own")
    assert (own.label, own.share, own.margin) == (None, 2 / 6, -2 / 6)
    assert vote(group, missing="zero", quorum=0.5).label is None
    assert vote([0, 0, None], missing="own").label == 0


def test_ties():
    assert vote([1, 0, 0, 1]) == VoteResult(1, 0.5, 0.0, {1: 2, 0: 2}, tie=True)
    assert vote([1, 0, 0, 1], ties="abstain").label is None
    draws = {vote([1, 0, 0, 1], ties="random", generator=torch.Generator().manual_seed(s)).label for s in range(20)}
    assert draws == {0, 1}
    with pytest.raises(ValueError, match="needs a generator"):
        vote([1, 0], ties="random")


def test_weights_and_quorum():
    assert vote([0, 1, 1], [5, 1, 2]).label == 0
    assert vote([0, 1, 1], [5, 1, 2]).share == 5 / 8
    assert vote([0, 1, 1], quorum=2 / 3).label == 1
    assert vote([0, 1, 1], quorum=0.7).label is None
    assert vote([0, 1], [0, 0]).label is None
    # .1 + .2 and .3 are the same weight.
    assert vote([0, 0, 1], [0.1, 0.2, 0.3]).tie
    for bad in ([-1, 1], [float("nan"), 1]):
        with pytest.raises(ValueError, match="finite and not negative"):
            vote([0, 1], bad)


def test_nobody_answers():
    nobody = vote([None, None])
    assert nobody == VoteResult(None, 0.0, 0.0, {})
    assert vote_rewards([None, None], nobody) == [0, 0]
    assert vote([]).label is None


def test_cross_vote_swaps_the_labels():
    a, b = cluster_views(["4", "4", "7"], ["7.0", "7", None], Number())
    assert (a, b) == ([0, 0, 1], [1, 1, None])
    # View a elects 4 and view b elects 7: each is paid for what the other believes.
    assert cross_vote_rewards(a, b) == ([0, 0, 1], [0, 0, 0])
    # Views clustered apart would both call their favourite "0" and agree about nothing at all.
    assert cross_vote_rewards([0, 0, 1], [0, 0, None]) == ([1, 1, 0], [1, 1, 0])


def test_cross_vote_without_any_label_pays_nobody():
    assert cross_vote_rewards([0, 0, 1], [None, None, None]) == ([0, 0, 0], [0, 0, 0])


def test_borda():
    assert borda_weights([9, 2, 1], power=2) == [9, 4, 1]
    assert borda_vote([0, 1, 1], [9, 2, 1], power=2).label == 0
    assert borda_vote([0, 1, 1], [9, 2, 1], power=0).label == 1
    # A missing answer keeps its rank (the best one here) and adds no weight.
    assert borda_vote([None, 0, 1], [9, 2, 1], power=1).counts == {0: 2, 1: 1}
    # Equal scores share ranks 1 and 2.
    assert borda_weights([5, 5, 1], power=1) == [2.5, 2.5, 1]


def test_cluster_share():
    assert cluster_share_rewards([0, 0, 1, None]) == [0.5, 0.5, 0.25, 0.0]


@given(CLASSES, st.sampled_from(["drop", "own", "zero"]), st.sampled_from(["first", "abstain"]), st.floats(0, 1))
def test_only_members_of_one_class_are_paid(classes, missing, ties, quorum):
    result = vote(classes, missing=missing, ties=ties, quorum=quorum)
    paid = {c for c, r in zip(classes, vote_rewards(classes, result), strict=True) if r}
    assert None not in paid
    assert paid == (set() if result.label is None else {result.label})
    assert 0 <= result.share <= 1
    if result.label is not None:
        assert result.counts[result.label] == max(result.counts.values())
        assert result.share >= quorum


@given(CLASSES, st.randoms(use_true_random=False))
def test_order_matters_only_for_ties(classes, rng):
    moved = list(classes)
    rng.shuffle(moved)
    a, b = vote(classes, ties="abstain"), vote(moved, ties="abstain")
    assert (a.label, a.share, a.margin, a.tie, a.counts) == (b.label, b.share, b.margin, b.tie, b.counts)
    scores = [float(hash((i, c)) % 7) for i, c in enumerate(classes)]
    order = list(range(len(classes)))
    rng.shuffle(order)
    x = borda_vote(classes, scores, ties="abstain")
    y = borda_vote([classes[i] for i in order], [scores[i] for i in order], ties="abstain")
    assert x.label == y.label


@given(CLASSES)
def test_power_zero_is_the_plain_vote(classes):
    assert borda_vote(classes, [float(i) for i in range(len(classes))], power=0) == vote(classes)
