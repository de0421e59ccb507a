"""Budgets: values by hand, the knapsack against brute force, and budgets that are spent exactly."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfreward.errors import ConfigError
from selfreward.rollouts.allocation import (
    RULES,
    allocate,
    gradient_probability,
    hard_first,
    knapsack,
    proportional,
    rollout_value,
    sample_within,
    shuffled_counts,
    uniform,
)

RATES = st.lists(st.sampled_from([0.0, 0.03, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=4)


def test_values_by_hand():
    # (1 - 2/16) / 8 and (1 - 2/256) / 8; never above p (1 - p)^2.
    assert rollout_value(4, 0.5) == 0.109375
    assert rollout_value(8, 0.5) == 0.1240234375
    assert rollout_value(1000, 0.5) == pytest.approx(0.125)
    assert rollout_value(1, 0.3) == pytest.approx(0)  # one rollout has no spread
    assert rollout_value(0, 0.5) == rollout_value(9, 0.0) == rollout_value(9, 1.0) == 0
    assert gradient_probability(2, 0.5) == 0.5 and gradient_probability(0, 0.5) == 0
    best = max((rollout_value(10_000, p / 300), p / 300) for p in range(1, 300))
    assert best == pytest.approx((4 / 27, 1 / 3))


@given(RATES, st.integers(0, 2), st.integers(0, 5), st.floats(0, 1))
def test_the_knapsack_is_as_good_as_any_allocation(rates, low, room, at):
    high = low + room
    budget = round(len(rates) * (low + at * room))
    counts = knapsack(rates, budget, low, high)
    assert sum(counts) == budget and all(low <= n <= high for n in counts)

    def total(numbers):
        return sum(rollout_value(n, p) for n, p in zip(numbers, rates, strict=True))

    best = max(total(c) for c in product(range(low, high + 1), repeat=len(rates)) if sum(c) == budget)
    assert total(counts) == pytest.approx(best, abs=1e-12)


def test_solved_prompts_get_little_and_unsolved_ones_what_is_left():
    assert knapsack([0.5, 0.5, 1.0], 10) == [4, 4, 2]
    # The open prompt stops at 6; the rest goes to the unsolved, and to the solved only when those are full.
    assert knapsack([0.5, 0.0, 1.0], 14, 2, 6) == [6, 6, 2]
    assert knapsack([0.5, 0.0, 1.0], 16, 2, 6) == [6, 6, 4]
    # What gives most gradients is another question: it pays to watch the easy ones fail.
    assert knapsack([0.9, 0.5], 12, 1, 20, value=gradient_probability) == [7, 5]
    hard, medium, easy = knapsack([0.05, 0.5, 0.95], 48)
    assert hard > medium > easy == 2


@given(RATES, st.integers(0, 3), st.integers(0, 9), st.floats(0, 1), st.sampled_from(RULES))
def test_every_rule_spends_the_budget_exactly(rates, low, room, at, rule):
    budget = round(len(rates) * (low + at * room))
    counts = allocate(rule, rates, budget, low, low + room, torch.Generator().manual_seed(0))
    assert sum(counts) == budget and len(counts) == len(rates)
    if rule != "uniform":
        assert all(low <= n <= low + room for n in counts)


def test_the_rules_it_is_compared_with():
    assert uniform(3, 8) == [3, 3, 2]
    assert proportional([0.5, 0.5, 0.0], 12) == [5, 5, 2]
    assert hard_first([0.5, 0.1, 0.9], 16, 2, 10) == [4, 10, 2]
    counts = [2, 30, 8, 8]
    assert sorted(shuffled_counts(counts, torch.Generator().manual_seed(1))) == sorted(counts)


def test_errors_speak():
    with pytest.raises(ConfigError, match="between 2 and 4 for each: 4 to 8"):
        knapsack([0.5, 0.5], 9, 2, 4)
    with pytest.raises(ConfigError, match=r"1\.5 does not"):
        knapsack([1.5], 2)
    with pytest.raises(ConfigError, match="Did you mean 'knapsack'"):
        allocate("knapsak", [0.5], 2)
    with pytest.raises(ConfigError, match="needs a generator"):
        allocate("shuffled", [0.5], 2)


def test_a_limit_of_its_own_for_every_prompt():
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.types import Prompt
    from tests.support.models import make_policy

    prompts = [Prompt(str(i), "1+1=") for i in range(3)]
    groups = sample_within(make_policy(), prompts, 4, SamplingParams(9, stats=()), [2, 5, 2])
    assert [g.prompt.id for g in groups] == ["0", "1", "2"]
    assert [max(len(t.last) for t in g) for g in groups] == [2, 5, 2]
