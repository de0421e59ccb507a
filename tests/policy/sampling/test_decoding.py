"""The lean decoder: the model's own next tokens, or none of its business."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    DynamicCache,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from selfreward.policy.architecture import head_of
from selfreward.policy.sampling import decoding
from selfreward.policy.sampling.decoding import CacheDecoder, LeanDecoder, lean
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.sampling.torch_sampler import TorchSampler

SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
KINDS = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama-bias": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "scaled-rope": (
        LlamaConfig,
        LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
}


def model(kind: str):
    config, cls, options = KINDS[kind]
    torch.manual_seed(0)
    made = cls(config(**SMALL, **options)).eval()
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim == 1:  # norms and biases start at 1 and 0, which would hide mistakes
                p.add_(0.3 * torch.randn(p.shape))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_as_the_model_does(kind):
    policy = model(kind)
    assert lean(policy)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]])
    ids = torch.tensor([[0, 0, 7, 8], [9, 10, 11, 12], [0, 13, 14, 15]])
    decoders = []
    with torch.inference_mode():
        for cls in (LeanDecoder, CacheDecoder):
            cache = DynamicCache(config=policy.config)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            policy(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
            extra = (head_of(policy),) if cls is LeanDecoder else ()
            decoders.append(cls(policy, *extra, cache, mask, 6))
        rows = torch.arange(3)
        for t in range(6):
            tokens = (rows * 5 + t + 1) % 40
            mine, theirs = (d.step(tokens) for d in decoders)
            torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=1e-3)
            if t == 2:
                keep = torch.tensor([0, 2])
                rows = rows[keep]
                for d in decoders:
                    d.keep(keep)


def test_samples_and_their_likelihoods_are_the_same(monkeypatch):
    policy = model("llama")
    prompts = [[3, 4, 5], [6, 7], [8, 9, 10, 11, 12]]

    def sample():
        params = SamplingParams(max_new_tokens=12, stats=("entropy", "gap"))
        options = {"keys": ["a", "b", "c"], "seed": 1, "end_tokens": [0, 1, 2], "pad_token": 0}
        return [c for g in TorchSampler()(policy, prompts, [4, 0, 3], params, **options) for c in g]

    mine = sample()
    monkeypatch.setattr(decoding, "lean", lambda _: False)
    theirs = sample()
    assert len({len(c.tokens) for c in mine}) > 1  # rows left the batch at different times
    for a, b in zip(mine, theirs, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist() and a.finished == b.finished
        torch.testing.assert_close(a.logprobs, b.logprobs, atol=1e-4, rtol=1e-3)
        for name in ("entropy", "gap"):
            torch.testing.assert_close(a.stats[name], b.stats[name], atol=1e-4, rtol=1e-3)


def test_statistics_do_not_depend_on_how_many_steps_are_taken_together(monkeypatch):
    policy = model("llama")
    options = {"keys": ["a"], "seed": 2, "end_tokens": [0], "pad_token": 0}
    params = SamplingParams(max_new_tokens=9, temperature=0.7)
    (many,) = TorchSampler()(policy, [[3, 4]], [3], params, **options)
    monkeypatch.setattr("selfreward.policy.sampling.torch_sampler.WAITING_ELEMENTS", 1)
    (few,) = TorchSampler()(policy, [[3, 4]], [3], params, **options)
    for a, b in zip(many, few, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        torch.testing.assert_close(a.logprobs, b.logprobs)
        torch.testing.assert_close(a.stats["self_certainty"], b.stats["self_certainty"])


def test_it_keeps_away_from_what_it_does_not_compute():
    torch.manual_seed(0)
    gemma = Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8)).eval()
    assert not lean(gemma)
    half = model("llama").to(torch.bfloat16)
    assert not lean(half)
    hooked = model("llama")
    assert lean(hooked)
    handle = hooked.base_model.layers[0].register_forward_hook(lambda *_: None)
    assert not lean(hooked)  # asked again every time: a hook may come and go
    handle.remove()
    assert lean(hooked)
    wrapped = model("llama")
    assert lean(wrapped)
    wrapped.base_model.layers[0].self_attn.q_proj = torch.nn.Sequential(wrapped.base_model.layers[0].self_attn.q_proj)
    assert not lean(wrapped)
    scaled = model("llama")
    forward = scaled.base_model.layers[1].mlp.forward
    scaled.base_model.layers[1].mlp.forward = lambda x: 2 * forward(x)
    assert not lean(scaled)  # its parts look right, its logits are not
