"""Many targets under one context: the numbers are those of scoring each concatenation."""

from __future__ import annotations

import pytest
import torch

from selfreward.errors import RecipeError
from selfreward.policy.scoring.targets import can_share, neighbours, plan
from tests.support.models import ARCHITECTURES, make_policy, odd_model

CONTEXTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 9, 8, 7, 6, 5, 4], [5, 6, 7, 11, 12], [5, 9], [5, 6, 7]]
TARGETS = [[[8]], [[5, 6], [5, 7], [30, 31, 32, 33]], [], [[4, 4, 4], [7]], [[8, 9], [8]]]


def test_what_is_read():
    found = plan([[1, 2], [1, 2, 3]], [[[7, 8], [7, 9]], [[7, 8], [7, 9]]])
    assert found.trunks == [(1, 2, 3)]
    assert [(b.length, b.tokens) for b in found.branches] == [(2, (7,)), (3, (7,))]
    assert found.tokens == 5


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_equal_to_scoring_the_concatenations(kind):
    policy = make_policy(kind)
    assert can_share(policy.model) == (kind not in ("gemma2", "gemma3_text", "mistral"))
    found = policy.score_targets(CONTEXTS, TARGETS, stats=("entropy",), temperature=0.8)
    pairs = [(c, t) for c, own in zip(CONTEXTS, TARGETS, strict=True) for t in own]
    plain = policy.score(
        [torch.tensor(c + t) for c, t in pairs], [len(c) for c, _ in pairs], stats=("entropy",), temperature=0.8
    )
    assert [len(own) for own in found] == [1, 3, 0, 2, 2]
    for ours, theirs in zip([s for own in found for s in own], plain, strict=True):
        torch.testing.assert_close(ours["logprob"], theirs["logprob"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours["entropy"], theirs["entropy"], atol=1e-5, rtol=1e-5)


def test_distances_that_are_counted_in_the_cache_are_noticed():
    from selfreward.policy.scoring.forward import score_tokens
    from selfreward.policy.scoring.targets import score_targets

    mpt = odd_model("mpt", d_model=32, n_layers=2, n_heads=4, max_seq_len=64, expansion_ratio=2)
    found, _ = score_targets(mpt, CONTEXTS[:3], [[[5, 6, 7]]] * 3)
    whole = score_tokens(mpt, [torch.tensor([*c, 5, 6, 7]) for c in CONTEXTS[:3]], [len(c) for c in CONTEXTS[:3]])
    for (ours,), theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours["logprob"], theirs["logprob"], atol=1e-5, rtol=1e-5)
    assert not can_share(mpt)


def test_small_batches_give_the_same_numbers():
    from selfreward.policy.scoring.targets import score_targets

    model = make_policy().model
    whole, _ = score_targets(model, CONTEXTS, TARGETS)
    cut, _ = score_targets(model, CONTEXTS, TARGETS, max_tokens=8)
    for a, b in zip([s for own in whole for s in own], [s for own in cut for s in own], strict=True):
        torch.testing.assert_close(a["logprob"], b["logprob"], atol=1e-5, rtol=1e-5)


def test_cost_is_counted_as_what_was_read():
    policy = make_policy()
    policy.score_targets([[5, 6, 7], [5, 6]], [[[8, 9], [8, 7]], [[4]]], role="probe")
    assert policy.counts.scored == {"probe": 4}
    assert policy.score_targets([], []) == []


def test_a_snapshot_scores_with_its_own_weights():
    policy = make_policy()
    frozen = policy.snapshot()
    before = policy.score_targets([[5, 6]], [[[7]]])[0][0]["logprob"]
    with torch.no_grad():
        next(iter(policy.parameters())).mul_(0.5)
    assert not torch.allclose(policy.score_targets([[5, 6]], [[[7]]])[0][0]["logprob"], before)
    torch.testing.assert_close(frozen.score_targets([[5, 6]], [[[7]]])[0][0]["logprob"], before)


def test_errors_name_what_is_empty():
    policy = make_policy()
    with pytest.raises(RecipeError, match="Context 1 is empty"):
        policy.score_targets([[1], []], [[], []])
    with pytest.raises(RecipeError, match="Context 0 has an empty target"):
        policy.score_targets([[1]], [[[2], []]])
    with pytest.raises(RecipeError, match="1 contexts were given with 0"):
        policy.score_targets([[1]], [])


def test_processes_get_contexts_that_begin_alike_and_give_the_same_numbers(monkeypatch):
    assert neighbours([[1, 2], [7], [1], [7, 8]], 2) == [[2, 0], [1, 3]]
    assert neighbours([[1]], 3) == [[0]] and neighbours([], 2) == [] and neighbours([[3], [2]], 1) == [[0, 1]]
    policy = make_policy()
    alone = policy.score_targets(CONTEXTS, TARGETS)
    monkeypatch.setattr("selfreward.policy.policy.size", lambda: 3)
    for ours, theirs in zip(policy.score_targets(CONTEXTS, TARGETS), alone, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a["logprob"], b["logprob"], atol=1e-5, rtol=1e-5)
