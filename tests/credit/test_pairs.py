"""Pair builders on groups of four, by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfreward.credit.pairs import IndexPair, all_above, pool_shares, provenance, random_pairs, top_bottom, vote_pairs
from selfreward.errors import RecipeError
from selfreward.types import Group, Prompt, Segment, Trajectory


def group(texts: list[str], rewards: list[float] | None = None) -> Group:
    prompt = Prompt("p1", text="?")
    made = Group(
        "p1/solver",
        prompt,
        [Trajectory(prompt, [Segment("solver", torch.zeros(len(t)), t, trainable=True)]) for t in texts],
    )
    if rewards:
        made.reward_with(rewards)
    return made


FOUR = ["aaaa", "bbb", "cc", "d"]


def test_top_bottom_prefers_the_first_best_over_the_worst() -> None:
    assert top_bottom(group(FOUR), [3, 5, 5, 1]) == [(1, 3, 1.0, 0.0)]
    assert top_bottom(group(FOUR, [3, 5, 5, 1])) == [(1, 3, 1.0, 0.0)]


def test_top_bottom_makes_no_pair_of_equals() -> None:
    assert top_bottom(group(FOUR), [2, 2, 2, 2]) == []
    assert top_bottom(group(FOUR), [2, 2, 2, 1], min_gap=1) == []
    assert top_bottom(group(["x", "x", "x", "x"]), [1, 2, 3, 4]) == []


def test_what_could_not_be_judged_is_in_no_pair() -> None:
    """A failed verdict is not a bad score."""
    assert top_bottom(group(FOUR), [None, 5, 4, float("nan")]) == [(1, 2, 1.0, 0.0)]
    assert top_bottom(group(FOUR), [None, 5, None, float("nan")]) == []


def test_a_tier_prefers_short_among_the_good() -> None:
    """Scores within a tenth of the range of the best are 10 and 9.5: the shorter of them is chosen."""
    assert top_bottom(group(FOUR), [10, 0, 9.5, 5], tier=0.1, margin_scale=0.1) == [
        (2, 1, 1.0, pytest.approx(0.95)),
    ]


def test_all_above_crosses_right_with_wrong() -> None:
    assert all_above(group(FOUR), [1, 0, 1, 0], floor=1) == [(0, 1, 1, 0), (0, 3, 1, 0), (2, 1, 1, 0), (2, 3, 1, 0)]
    assert all_above(group(FOUR), [1, 1, 1, None], floor=1) == []
    assert len(all_above(group(FOUR), [1, 0, 1, 0], floor=1, most=3)) == 3
    drawn = all_above(group(FOUR), [1, 0, 1, 0], floor=1, most=2, generator=torch.Generator().manual_seed(0))
    assert len(set(drawn)) == 2


def test_vote_pairs_weigh_by_the_margin_of_the_vote() -> None:
    assert vote_pairs(group(FOUR), [0, 0, 1, None]) == [(0, 2, 0.25, 0.0)]
    assert vote_pairs(group(FOUR), [0, 0, 1, None], missing="reject") == [(0, 3, 0.5, 0.0)]
    assert vote_pairs(group(FOUR), [0, 0, 1, 0], weighted=False) == [(0, 2, 1.0, 0.0)]


def test_vote_pairs_need_a_winner() -> None:
    assert vote_pairs(group(FOUR), [0, 0, 1, 1]) == []
    assert vote_pairs(group(FOUR), [None] * 4, missing="reject") == []
    assert vote_pairs(group(FOUR), [0, 0, 1, 2], quorum=0.6) == []
    assert vote_pairs(group(FOUR), [0, 0, 1, 2], quorum=0.5) == [(0, 2, 0.25, 0.0)]


@given(st.lists(st.none() | st.integers(0, 3), min_size=2, max_size=8), st.integers(0, 99))
def test_vote_pairs_follow_the_vote(classes: list[int | None], seed: int) -> None:
    made = group([str(i) for i in range(len(classes))])
    for pair in vote_pairs(made, classes, generator=torch.Generator().manual_seed(seed)):
        high, low = (classes.count(classes[i]) for i in (pair.chosen, pair.rejected))
        assert None not in (classes[pair.chosen], classes[pair.rejected])
        assert pair.weight == (high - low) / len(classes) > 0
        assert high == max(classes.count(c) for c in classes if c is not None)


def test_random_pairs_are_seeded_distinct_and_blind() -> None:
    made = group(["a", "a", "b", "c"])
    first, again = (random_pairs(made, torch.Generator().manual_seed(5), count=3) for _ in range(2))
    assert first == again
    assert len({frozenset(p[:2]) for p in first}) == 3
    assert frozenset((0, 1)) not in {frozenset(p[:2]) for p in first}
    assert len(random_pairs(made, torch.Generator(), count=99)) == 5
    assert random_pairs(group(["a", "a"]), torch.Generator()) == []
    flips = [random_pairs(group(["a", "b"]), torch.Generator().manual_seed(s))[0].chosen for s in range(200)]
    assert 70 < sum(flips) < 130


def test_provenance_is_plain() -> None:
    assert provenance(group(FOUR), [IndexPair(1, 3, 0.5)], "top_bottom", [3, 5, 5, 1]) == [
        {
            "group": "p1/solver",
            "prompt": "p1",
            "builder": "top_bottom",
            "chosen": 1,
            "rejected": 3,
            "weight": 0.5,
            "margin": 0.0,
            "pools": [None, None],
            "scores": [5, 1],
        }
    ]


def test_shares_of_pools_by_hand() -> None:
    mixed = group(["a", "b", "c"])
    for trajectory, pool in zip(mixed, ("future", "past", "past"), strict=True):
        trajectory.meta["pool"] = pool
    entries = provenance(mixed, [IndexPair(0, 1), IndexPair(0, 2)], "cross_pool")
    entries += provenance(group(FOUR), [IndexPair(1, 3)], "top_bottom")
    assert pool_shares(entries) == {"pairs/future_over_past": 2 / 3, "pairs/own_over_own": 1 / 3}
    assert pool_shares([]) == {}


def test_a_wrong_number_of_scores_is_named() -> None:
    with pytest.raises(RecipeError, match="4 trajectories but was given 2 scores"):
        top_bottom(group(FOUR), [1, 2])
    with pytest.raises(RecipeError, match="3 classes"):
        vote_pairs(group(FOUR), [1, 2, 3])
