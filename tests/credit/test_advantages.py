"""Credit: hand-computed groups of four, then the invariants that training relies on."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfreward.credit.advantages import (
    EmaBaseline,
    constant_terms,
    group_normalised,
    leave_one_out,
    redistribute,
    return_to_go,
    reward_std,
    role_mask,
    spread_to_tokens,
    whiten,
)
from selfreward.types import Segment

REWARDS = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=8)


def same(actual, expected, **tolerance):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), **tolerance)


def test_two_groups_of_four():
    first, second = [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 4.0]
    # Sample std of the first: sqrt(4 * .25 / 3) = .57735; of the second: sqrt((3 * 1 + 9) / 3) = 2.
    a = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    same(group_normalised(first), [a, -a, -a, a])
    same(group_normalised(second, eps=1e-6), [-0.5, -0.5, -0.5, 1.5], atol=1e-5, rtol=0)
    same(group_normalised(second, scale="none"), [-1, -1, -1, 3])
    same(leave_one_out(first), [2 / 3, -2 / 3, -2 / 3, 2 / 3])
    same(leave_one_out(second), [-4 / 3, -4 / 3, -4 / 3, 4])


def test_batch_scale_divides_all_groups_by_one_spread():
    groups = [[1.0, 0.0], [3.0, 0.0]]
    std = reward_std(groups)
    assert std == pytest.approx(math.sqrt(2.0))  # mean 1, squares 0 + 1 + 4 + 1 over 3
    same(group_normalised(groups[0], scale="batch", batch_std=std, eps=0), [0.5 / std, -0.5 / std])
    same(group_normalised(groups[1], scale="batch", batch_std=std, eps=0), [1.5 / std, -1.5 / std])
    with pytest.raises(ValueError, match="needs batch_std"):
        group_normalised(groups[0], scale="batch")


def test_agrees_with_the_formula_of_trl():
    rewards = torch.randn(6, generator=torch.Generator().manual_seed(0))
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    torch.testing.assert_close(group_normalised(rewards), expected)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("rewards", [[0.1] * 7, [1.0], [0.0, 0.0]])
def test_a_constant_group_has_exactly_no_advantage(scale, rewards):
    assert not group_normalised(rewards, scale=scale, batch_std=1.0).any()
    assert not leave_one_out(rewards).any()


def test_a_spread_below_eps_is_noise():
    assert not group_normalised([1.0, 1.0 + 1e-6, 1.0]).any()
    assert group_normalised([1.0, 1.0 + 1e-6, 1.0], scale="none").any()


@given(REWARDS, st.sampled_from(["group", "none"]))
def test_advantages_of_a_group_cancel_and_keep_the_order(rewards, scale):
    for advantage in (group_normalised(rewards, scale=scale), leave_one_out(rewards)):
        assert abs(float(advantage.sum())) < 1e-3
        for i, a in enumerate(rewards):
            for j, b in enumerate(rewards):
                if a > b:
                    assert advantage[i] >= advantage[j]


@given(REWARDS)
def test_leave_one_out_is_its_definition(rewards):
    n = len(rewards)
    if n > 1:
        expected = [r - (sum(rewards) - r) / (n - 1) for r in rewards]
        same(leave_one_out(rewards), expected, atol=1e-4, rtol=1e-4)


def test_whiten():
    values, mask = torch.tensor([[1.0, 3.0], [99.0, 5.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    same(whiten(values, mask), [[-1.0, 0.0], [0.0, 1.0]])
    same(whiten(values, mask, centre=False), [[0.5, 1.5], [0.0, 2.5]])
    assert not whiten(torch.ones(3)).any()


def test_ema_baseline_is_of_the_past():
    baseline = EmaBaseline(decay=0.5)
    assert baseline.value("player") == 0
    same(baseline.advantages("player", [1.0, 3.0]), [-1.0, 1.0])
    assert baseline.value("player") == pytest.approx(2.0)
    same(baseline.advantages("player", [5.0]), [3.0])
    # Weights .25 of 2 and .5 of 5 over .75.
    assert baseline.value("player") == pytest.approx((0.25 * 2 + 0.5 * 5) / 0.75)
    assert baseline.value("other") == 0


def test_ema_baseline_resumes_exactly():
    whole, before = EmaBaseline(0.9), EmaBaseline(0.9)
    for b in (whole, before):
        b.update("a", [0.1, 0.7])
        b.update("b", [3.0])
    after = EmaBaseline(0.1)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    for b in (whole, after):
        b.update("a", [0.3])
    assert whole.state_dict() == after.state_dict()


def test_return_to_go():
    same(return_to_go([0, 1, 2], discount=0.5), [1, 2, 2])
    same(return_to_go([0, 0, 1]), [1, 1, 1])
    same(return_to_go([1, 2, 3], discount=0), [1, 2, 3])
    assert return_to_go([]).shape == (0,)


def test_from_steps_to_tokens():
    same(spread_to_tokens([1, -1, 5], [2, 1, 0]), [1, 1, -1])
    same(redistribute(1.0, [1, 3]), [0.25, 0.75])
    same(redistribute(1.0, [0, 0]), [0.5, 0.5])
    with pytest.raises(AssertionError, match="not be negative"):
        redistribute(1.0, [1, -1])


def test_role_mask():
    def segment(role, n, trainable):
        return Segment(role=role, tokens=torch.zeros(n, dtype=torch.long), trainable=trainable)

    segments = [segment("prompt", 2, False), segment("solver", 1, True), segment("judge", 2, True)]
    same(role_mask(segments, ["solver"]), [0, 0, 1, 0, 0])
    same(role_mask(segments), [0, 0, 1, 1, 1])
    same(role_mask(segments, ["prompt"]), [0, 0, 0, 0, 0])


def test_a_bonus_that_is_constant_in_its_group_is_reported():
    groups = [
        {"vote": [1, 0], "history": [0.5, 0.5], "length": [1, 1]},
        {"vote": [1, 1], "history": [0.9, 0.9], "length": [1, 2]},
        {"vote": [1], "history": [0.1], "length": [1]},
    ]
    # The history bonus differs between groups and still has no effect on any of them.
    assert constant_terms(groups) == {"vote": 0.5, "history": 1.0, "length": 0.5}
    for group in groups:
        with_bonus = [v + h for v, h in zip(group["vote"], group["history"], strict=True)]
        torch.testing.assert_close(group_normalised(with_bonus), group_normalised([float(v) for v in group["vote"]]))
