"""Trees of prefixes: what begins alike is computed once, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from selfreward.policy.batching import right_pad
from selfreward.policy.protocol import Wanted
from selfreward.policy.scoring import prefix_trees
from selfreward.policy.scoring.forward import forward_tokens, score_tokens, sharing
from tests.support.models import odd_model

SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


def model(kind: str = "llama", **options):
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3)).eval()
    config, cls = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
    }[kind]
    return cls(config(**SMALL, **options)).eval()


def test_a_tree_worked_by_hand():
    # 1 2 3 | 1 2 4 5 | 1 2 3 again: six distinct prefix_trees.
    (tree,) = prefix_trees.build_trees([[1, 2, 3], [1, 2, 4, 5], [1, 2, 3]], width=64)
    assert tree.tokens == [1, 2, 3, 4, 5]
    assert tree.depths == [0, 1, 2, 2, 3]
    assert dict(zip(tree.members, tree.paths, strict=True)) == {0: [0, 1, 2], 2: [0, 1, 2], 1: [0, 1, 3, 4]}
    assert tree.ancestry().int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def test_sharing_is_refused_where_it_would_cost_more():
    long = [[7] * 4 + [k] * 4000 for k in range(3)]
    assert [len(t.members) for t in prefix_trees.build_trees(long, width=16)] == [1, 1, 1]
    many = [[7] * 400 + [k] * 4 for k in range(3)]
    assert [len(t.members) for t in prefix_trees.build_trees(many, width=16)] == [3]
    assert [len(t.members) for t in prefix_trees.build_trees(many, width=16, largest=410)] == [2, 1]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_likelihoods_and_gradients_are_those_of_the_plain_forward(kind, monkeypatch):
    policy = model(kind)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, 40, (n,), generator=generator) for n in (5, 9)]
    tails = [
        torch.randint(0, 4, (int(n),), generator=generator) for n in torch.randint(1, 6, (10,), generator=generator)
    ]
    sequences = [torch.cat([prompts[i % 2], t]) for i, t in enumerate(tails)]
    sequences[3] = sequences[1].clone()
    tokens = right_pad(sequences)
    wanted = torch.zeros(tokens.shape, dtype=torch.bool)
    for i, s in enumerate(sequences):
        wanted[i, 5 + 4 * (i % 2) : len(s)] = True
    weight = torch.rand(tokens.shape, generator=generator)

    def run():
        policy.zero_grad()
        out = forward_tokens(policy, tokens, Wanted(wanted, ("self_certainty",)), stats=("entropy", "rank"))
        ((out["logprob"] + 0.3 * out["self_certainty"]) * weight).sum().backward()
        return out, [p.grad.clone() for p in policy.parameters()]

    assert prefix_trees.takes_trees(policy)
    assert len(prefix_trees.build_trees([s.tolist() for s in sequences], 32)) < len(sequences)
    shared, gradients = run()
    monkeypatch.setattr(prefix_trees, "takes_trees", lambda _: False)
    plain, expected = run()
    for name, values in plain.items():
        torch.testing.assert_close(shared[name], values, atol=2e-5, rtol=1e-4)
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=5e-5, rtol=1e-3)


def test_scores_with_candidates_and_top_tokens(monkeypatch):
    policy = model()
    sequences = [torch.tensor(s) for s in ([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 9], [5, 6, 7, 8, 9])]
    options = {
        "stats": ("entropy",),
        "top_k": 3,
        "candidates": [torch.tensor([[i, 1]] * (len(s) - 2)) for i, s in enumerate(sequences)],
    }
    shared = score_tokens(policy, sequences, [2] * 4, **options)
    assert [sorted(members) for members, _ in sharing(policy, sequences)] == [[0, 1, 2], [3]]
    monkeypatch.setattr(prefix_trees, "takes_trees", lambda _: False)
    for mine, theirs in zip(shared, score_tokens(policy, sequences, [2] * 4, **options), strict=True):
        assert mine.keys() == theirs.keys() == {"logprob", "entropy", "top_logprobs", "top_tokens", "candidates"}
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], atol=2e-5, rtol=1e-4)


def test_models_that_cannot_are_left_alone():
    assert not prefix_trees.takes_trees(model("mistral", sliding_window=4))
    assert prefix_trees.takes_trees(model("mistral", sliding_window=None))
    blind = model()
    blind.config._attn_implementation = "flash_attention_2"
    assert not prefix_trees.takes_trees(blind)


@pytest.mark.parametrize("windows", ["global", "local"])
def test_masks_of_an_attention_s_own_are_left_alone(windows):
    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 24, "window_size": 8}
    neo = odd_model("gpt_neo", **shape, attention_types=[[["global", windows], 1]])
    head = torch.arange(5, 17)
    sequences = [torch.cat([head, torch.tensor([k, 9 - k, 7, k])]) for k in range(8)]
    assert not prefix_trees.takes_trees(neo)
    for sequence, found in zip(sequences, score_tokens(neo, sequences, [12] * 8), strict=True):
        with torch.no_grad():
            own = neo(input_ids=sequence[None], use_cache=False).logits[0].log_softmax(-1)
        torch.testing.assert_close(found["logprob"], own[11:-1].gather(-1, sequence[12:, None])[:, 0])


def test_hidden_states_keep_to_the_memory_of_a_batch():
    policy = model()
    sequences = [torch.cat([torch.arange(30), torch.tensor([k, 39 - k])]) for k in range(16)]
    read = []
    policy.base_model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    scored = score_tokens(policy, sequences, [30] * 16, max_tokens=64, hidden_at=[-1] * 16)
    assert max(read) <= 64
    with torch.no_grad():
        whole = policy.base_model(input_ids=sequences[3][None]).last_hidden_state[0, -1]
    torch.testing.assert_close(scored[3]["hidden"], whole, atol=1e-5, rtol=1e-5)


def test_small_trees_share_a_row():
    trees = prefix_trees.build_trees([[1, 2, 3, 4, 5], [6, 7], [8, 9, 10], [11, 12, 13, 14]], width=64)
    packed = prefix_trees.pack(trees)
    assert packed.tokens.tolist() == [[1, 2, 3, 4, 5], [11, 12, 13, 14, 0], [8, 9, 10, 6, 7]]
    assert packed.positions[2].tolist() == [0, 1, 2, 0, 1]
    assert packed.mask[2, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert [packed.tokens.flatten()[path].tolist() for path in packed.paths] == [
        [1, 2, 3, 4, 5],
        [6, 7],
        [8, 9, 10],
        [11, 12, 13, 14],
    ]
