"""Auxiliary models: made once, kept by name, and back from a saved state when they are asked for again."""

from __future__ import annotations

import pytest
import torch

from selfreward.errors import ModelError, RecipeError
from selfreward.policy.critic import Critic
from selfreward.policy.language_model import Offloaded
from selfreward.policy.loading import load_policy
from selfreward.policy.reward_model import RewardModel
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.snapshots.auxiliary import AuxiliaryModels
from selfreward.policy.snapshots.frozen import weights_of
from selfreward.types import Prompt
from tests.support.models import make_policy


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:chain", device="cpu")


def test_made_once_and_replaced_on_purpose(policy):
    beside = AuxiliaryModels()
    assert "critic" not in beside
    first = beside.get("critic", lambda: Critic(policy))
    assert "critic" in beside and beside.get("critic", lambda: pytest.fail("made twice")) is first
    with pytest.raises(RecipeError, match="no 'model' yet"):
        beside.get("model", blank=lambda: RewardModel(policy))
    second = beside.put("critic", Critic(policy))
    assert beside.get("critic", lambda: pytest.fail("made again")) is second


def test_what_was_learnt_comes_back_when_it_is_asked_for(policy):
    beside = AuxiliaryModels()
    model = beside.get("model", lambda: RewardModel(policy))
    model.fit_labels([torch.tensor([1, 2, 3]), torch.tensor([2, 3])], [1.0, 0.0], updates=3)
    copy = beside.get("copy", policy.snapshot)
    with torch.no_grad():
        next(copy.model.parameters()).add_(1.0)
    saved = beside.state_dict()

    again = AuxiliaryModels()
    again.load_state_dict({**saved, "seen": 7}, ("model", "copy", "critic"))
    # A second checkpoint before anything was asked for holds the same.
    assert set(again.state_dict()) == {"model", "copy"} and "model" in again and "critic" not in again
    taught = again.get("model", lambda: pytest.fail("taught again"), blank=lambda: RewardModel(policy))
    assert torch.equal(taught.score([torch.tensor([1, 2, 3])]), model.score([torch.tensor([1, 2, 3])]))
    back = weights_of(again.get("copy", policy.snapshot))
    assert all(torch.equal(w, back[n]) for n, w in weights_of(copy).items())


def test_another_models_copy_is_refused(policy):
    beside = AuxiliaryModels()
    beside.load_state_dict({"copy": {"nowhere.weight": torch.zeros(2)}})
    with pytest.raises(ModelError, match=r"nowhere\.weight"):
        beside.get("copy", policy.snapshot)


def test_an_offloaded_copy_is_the_start_whenever_it_is_first_used():
    """The same draws and scores as a copy made at once, though nothing is on the device before."""
    policy = make_policy()
    policy.seed(3)
    at_once, waiting = policy.snapshot(), policy.snapshot()
    waiting._model = Offloaded(policy.model)
    with torch.no_grad():
        for p in policy.parameters():
            p.mul_(1.5)
    policy.seed(4)
    assert isinstance(waiting._model, Offloaded)
    sequence = [torch.tensor(policy.encode_text("1+1=2"))]
    first, second = (copy.score(sequence, [1])[0]["logprob"] for copy in (at_once, waiting))
    assert torch.equal(first, second) and not torch.equal(first, policy.score(sequence, [1])[0]["logprob"])
    drawn = [copy.sample([Prompt("p", "1+1=")], 4, SamplingParams(6))[0].completions for copy in (at_once, waiting)]
    assert drawn[0] == drawn[1] and waiting.counts is policy.counts
    assert waiting.model is waiting.model and not any(p.requires_grad for p in waiting.model.parameters())
    # In main memory there is nothing to be saved.
    assert not isinstance(policy.snapshot(offload=True)._model, Offloaded)
