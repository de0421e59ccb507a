"""A sampler is believed when its steps have the logits that the model gives to whole sequences."""

from __future__ import annotations

import pytest
import torch

from selfreward.errors import ModelError
from selfreward.policy.architecture import alike
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.default import default_sampler
from selfreward.policy.sampling.hf_sampler import HFSampler
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.sampling.torch_sampler import TorchSampler
from selfreward.types import Prompt
from tests.support.models import make_model, make_policy, odd_model, tokenizer

MPT = {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64, "expansion_ratio": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}


@pytest.mark.parametrize(
    ("name", "shape", "sampler"),
    [
        ("rwkv", {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}, HFSampler),  # ignores the cache
        ("openai-gpt", GPT, HFSampler),  # has none
        ("mpt", MPT, TorchSampler),
    ],
)
def test_what_is_drawn_has_the_probabilities_of_the_model(name, shape, sampler):
    model = odd_model(name, **shape)
    policy = Policy(model, tokenizer(), chat="never")
    assert type(policy.sampler) is sampler
    groups = policy.sample([Prompt("a", text="1+2="), Prompt("b", text="3=")], 2, SamplingParams(6, stats=()))
    for trajectory in (t for g in groups for t in g):
        ids, start = trajectory.tokens, len(trajectory.segments[0])
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
        own = logits.log_softmax(-1)[start - 1 : -1].gather(-1, ids[start:, None])[:, 0]
        torch.testing.assert_close(trajectory.last.logprobs, own, atol=1e-4, rtol=1e-4)


def test_a_model_that_no_sampler_is_true_to_is_refused():
    with pytest.raises(ModelError, match="XLNetLMHeadModel cannot be sampled"):
        default_sampler(odd_model("xlnet", d_model=32, n_layer=2, n_head=4, d_inner=64))


def test_the_choice_is_made_once_and_holds_in_half_precision():
    model = make_model().to(torch.bfloat16)
    assert type(default_sampler(model)) is TorchSampler
    model.forward = None
    assert type(default_sampler(model)) is TorchSampler


def test_rounding_is_no_difference_and_another_token_is():
    logits = torch.randn(2, 3, 50)
    other = logits.roll(1, -1)
    assert alike(logits * 1.001, logits) and not alike(other, logits)
    half, mixed = logits.bfloat16(), logits.bfloat16()
    mixed[1, 2] = other[1, 2]  # one step of a row
    assert alike(half, logits.bfloat16()) and alike(mixed, half) and not alike(mixed.float(), half.float())
    mixed[1, 1] = other[1, 1]
    assert not alike(mixed, half)


def test_generate_does_not_obey_what_came_with_the_model():
    params = SamplingParams(max_new_tokens=8, stats=())
    prompts = [Prompt("a", text="7+5-3=")]
    drawn = []
    for settings in ({}, {"repetition_penalty": 100.0, "min_p": 0.9, "no_repeat_ngram_size": 1}):
        policy = make_policy(sampler=HFSampler())
        policy.model.generation_config.update(**settings)
        drawn.append(policy.sample(prompts, 4, params)[0].completions)
        assert all(getattr(policy.model.generation_config, k) == v for k, v in settings.items())
    assert drawn[0] == drawn[1]
