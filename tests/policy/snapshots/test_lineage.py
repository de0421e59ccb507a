"""Named checkpoints of one run, rounds, and anchored pairs."""

from __future__ import annotations

import pytest
import torch

from selfreward.credit.rows import pair_experience
from selfreward.errors import ConfigError, RecipeError
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.snapshots.lineage import Lineage, anchored, phase_of, round_of
from selfreward.types import Prompt


def test_rounds_by_hand():
    """10 steps in 2 rounds after a warm-up of 2: 1-2 are round 0, 3-6 round 1, 7-10 round 2."""
    assert [round_of(s, 10, 2, 2) for s in range(1, 11)] == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert [round_of(s, 4, 2) for s in range(1, 5)] == [0, 0, 1, 1]
    assert round_of(1, 1, 2) == 0  # a run of one step is in the first of two rounds
    with pytest.raises(ConfigError, match="cannot be divided"):
        round_of(1, 4, 2, 4)


def test_phases_by_hand():
    """10 steps in 2 rounds of 2 phases: three and two steps each; one phase is rounds alone."""
    found = [phase_of(s, 10, 2, 2) for s in range(1, 11)]
    assert found[:5] == [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 1, 1), (0, 1, 2)]
    assert found[5:] == [(1, 0, 1), (1, 0, 2), (1, 0, 3), (1, 1, 1), (1, 1, 2)]
    assert [phase_of(s, 4, 2, 1) for s in range(1, 5)] == [(0, 0, 1), (0, 0, 2), (1, 0, 1), (1, 0, 2)]


def nudge(policy):
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.01)


def probability(policy):
    return float(policy.choose(["3+4="], ["w", "g"]).probs[0, 0])


def test_who_is_who_over_three_rounds():
    policy = load_policy("embedded:chain", device="cpu")
    base, lineage = policy.snapshot(), Lineage()
    zero = probability(policy)
    assert not lineage.enter(0, policy) and lineage.get("start", base) is base
    nudge(policy)
    one = probability(policy)
    assert lineage.enter(1, policy) and not lineage.enter(1, policy)
    assert probability(lineage.get("start", base)) == one and lineage.get("previous", base) is base
    nudge(policy)
    two = probability(policy)
    lineage.enter(2, policy)
    lineage.keep("future", policy)
    assert len({zero, one, two}) == 3
    assert probability(lineage.get("previous", base)) == one
    nudge(policy)
    kept = Lineage()
    kept.load_state_dict(lineage.state_dict())
    assert probability(kept.get("start", base)) == probability(kept.get("future", base)) == two
    kept.restart(policy, base, "previous")
    assert probability(policy) == one
    kept.forget("future")
    with pytest.raises(RecipeError, match="kept as 'future'"):
        kept.get("future", base)
    with pytest.raises(RecipeError, match="only go on"):
        kept.enter(1, policy)


def test_prompts_of_an_earlier_round_are_noticed():
    policy, lineage = load_policy("embedded:chain", device="cpu"), Lineage()
    assert lineage.fresh(["a", "b"]) == 1 and lineage.fresh(["a", "b"]) == 1
    lineage.enter(1, policy)
    assert lineage.fresh(["b", "c"]) == 0.5


def test_rows_carry_the_rounds_own_reference():
    policy = load_policy("embedded:chain", device="cpu")
    groups = policy.sample([Prompt("p", "3+4=")], 2, SamplingParams(6), seed=0)
    experience = anchored(pair_experience(groups, [[(0, 1, 1.0, 0.0)]]), policy.snapshot())
    for row, trajectory in zip(experience.rows, groups[0]):
        start = len(trajectory.tokens) - len(trajectory.last)
        torch.testing.assert_close(row.extra["reference"][start:], trajectory.last.logprobs, atol=1e-5, rtol=0)
