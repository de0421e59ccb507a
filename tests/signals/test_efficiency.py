"""Efficiency rewards: every number here was worked out by hand."""

import math

import pytest
import torch

from selfreward.signals.efficiency import (
    efficiency_reward,
    effort_reward,
    question_overlap,
    relative_length_reward,
    self_aligned_reward,
    target_length_reward,
)


def test_self_aligned_reward_of_four_answers():
    # Perplexities with the question 2, 8, 4, 4 and without it 8, 2, 4, 16/3.
    given = [-math.log(2), -math.log(8), -math.log(4), -math.log(4)]
    alone = [-math.log(8), -math.log(2), -math.log(4), -math.log(16 / 3)]
    # (8-2)/8; (2-8)/2 = -3, cut to -1; 0; (16/3-4)/(16/3).
    assert self_aligned_reward(given, alone).tolist() == pytest.approx([0.75, -1.0, 0.0, 0.25], abs=1e-6)
    assert self_aligned_reward(given, alone, "difference").tolist() == pytest.approx([6, -6, 0, 4 / 3], abs=1e-5)
    logs = [math.log(4), -math.log(4), 0, math.log(4 / 3)]
    assert self_aligned_reward(given, alone, "log_difference").tolist() == pytest.approx(logs, abs=1e-6)
    assert self_aligned_reward(given, alone, "confidence").tolist() == pytest.approx([-2, -8, -4, -4], abs=1e-5)


def test_filler_dilutes_the_self_aligned_reward():
    # Two tokens that the question makes four times as likely, then two that are equally likely without it.
    short = self_aligned_reward([math.log(0.8)], [math.log(0.2)])
    long = self_aligned_reward(
        [(2 * math.log(0.8) + 2 * math.log(0.9)) / 4], [(2 * math.log(0.2) + 2 * math.log(0.9)) / 4]
    )
    assert short.item() == pytest.approx(0.75)  # 1 - 1/4
    assert long.item() == pytest.approx(0.5)  # 1 - sqrt(1/4)


def test_relative_length():
    assert relative_length_reward([2, 6]).tolist() == pytest.approx([1.0, -1 / 3])
    assert relative_length_reward([1, 9]).tolist() == pytest.approx([1.0, -4 / 9])  # (1-5)/1 = -4 is cut
    assert relative_length_reward([5, 5]).tolist() == [0, 0]


def test_the_groups_own_best_is_the_yardstick():
    # Right at 10, 20 and 30 tokens; a wrong one at 5 does not set the yardstick and earns nothing.
    found = efficiency_reward([1, 1, 1, 0], [10, 20, 30, 5], gamma=0.5)
    assert found.tolist() == [1.5, 1.25, 1.0, 0.0]
    # One right answer alone, and right answers of one length, are their own best.
    assert efficiency_reward([0, 1, 0], [5, 40, 9], gamma=0.5).tolist() == [0, 1.5, 0]
    assert efficiency_reward([1, 1], [7, 7], gamma=0.25).tolist() == [1.25, 1.25]
    assert efficiency_reward([0, 0], [3, 4]).tolist() == [0, 0]


def test_without_the_gate_a_short_wrong_answer_is_paid():
    found = efficiency_reward([1, 1, 0], [10, 30, 5], gamma=0.5, gated=False)
    assert found.tolist() == pytest.approx([1 + 0.5 * 20 / 25, 1.0, 0.5])


def test_a_fixed_target():
    found = target_length_reward([1, 1, 1, 0], [10, 15, 40, 5], target=10, weight=0.5)
    assert found.tolist() == [1.0, 0.75, -0.5, -0.25]


def test_effort():
    # Half of 20 tokens: 9 is below, 10 is not, and a wrong answer earns nothing however short.
    assert effort_reward([1, 1, 0], [9, 10, 2], 20, 0.5).tolist() == [1, 0, 0]
    assert effort_reward([1, 1], [9, 9], 20, [0.25, 0.5]).tolist() == [0, 1]
    # The floor lets 7 tokens pass where a quarter of 20 would not.
    assert effort_reward([1, 1], [7, 8], 20, 0.25, floor=8).tolist() == [1, 0]
    with pytest.raises(AssertionError, match="average length"):
        effort_reward([1], [3], 0, 1.0)


def test_copying_is_seen():
    assert question_overlap([1, 2, 3, 4], [2, 3, 4, 9]) == 0.5
    assert question_overlap([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert question_overlap([1, 2, 3], [1, 2]) == 0.0


def test_shapes_are_kept():
    for values in (self_aligned_reward([-1.0] * 3, [-2.0] * 3), relative_length_reward([1, 2, 3])):
        assert isinstance(values, torch.Tensor) and values.shape == (3,)
    with pytest.raises(AssertionError, match="conditional"):
        self_aligned_reward([-1.0], [-1.0, -2.0])
