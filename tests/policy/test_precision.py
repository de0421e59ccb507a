"""What saves memory changes no number, and half-precision weights learn."""

from __future__ import annotations

import pytest
import torch

from selfreward.credit.rows import advantage_experience
from selfreward.losses import PolicyGradient
from selfreward.policy.loading import load_policy
from selfreward.policy.precision import MasterAdamW, adamw
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.scoring.forward import score_tokens
from selfreward.runtime.checkpoint import load_optimizer_state, optimizer_state
from selfreward.training.learner import Learner, make_schedule
from selfreward.types import Prompt
from tests.support.models import save_model

PROMPTS = [Prompt(str(i), text=f"{i}+{i}=") for i in range(3)]


def sampled(policy):
    groups = policy.sample(PROMPTS, 4, SamplingParams(12), seed=0)
    for group in groups:
        group.reward_with([float(len(c)) for c in group.completions])
    return groups


def gradients(policy, experience) -> tuple[float, list[torch.Tensor]]:
    learner = Learner(policy, adamw(policy.parameters(), lr=1e-3), make_schedule("constant", 1e-3, 0, 1))
    learner.optimizer.zero_grad()
    found = learner.accumulate(experience, range(len(experience.rows)), [PolicyGradient()])
    return found["loss"], [p.grad.float() for p in policy.parameters()]


def experience_of(groups):
    return advantage_experience(groups, lambda rewards: torch.linspace(-1.0, 1.0, len(rewards)))


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_recomputed_activations_change_neither_samples_nor_gradients(kind, tmp_path):
    folder = save_model(tmp_path / "m", kind)
    plain, saving = (load_policy(str(folder), gradient_checkpointing=on) for on in (False, True))
    one, two = sampled(plain), sampled(saving)
    assert [g.completions for g in one] == [g.completions for g in two]
    gradients(saving, experience_of(one))  # whatever is found out about a model is found out the first time
    calls = []
    layer = saving.model.base_model.layers[0]
    layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    loss, expected = gradients(plain, experience_of(one))
    again, found = gradients(saving, experience_of(one))
    assert len(calls) == 2  # once forward, once more in the backward
    assert loss == pytest.approx(again, abs=1e-6)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


def test_recomputed_activations_with_lora(tmp_path):
    folder = save_model(tmp_path / "m")
    found = []
    for on in (False, True):
        torch.manual_seed(0)
        policy = load_policy(str(folder), lora_rank=2, gradient_checkpointing=on)
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                if "lora_B" in name:
                    parameter.add_(0.1)
        found.append(gradients(policy, experience_of(sampled(policy))))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b)
    assert any(float(g.abs().sum()) > 0 for g in found[0][1])


def test_bfloat16_scores_and_gradients_are_close_to_those_of_float32(tmp_path):
    folder = save_model(tmp_path / "m")
    exact, half = (load_policy(str(folder), dtype=dtype) for dtype in ("float32", "bfloat16"))
    experience = experience_of(sampled(exact))
    sequences = [r.tokens for r in experience.rows]
    a, b = (score_tokens(p.model, sequences, [1] * len(sequences)) for p in (exact, half))
    gap = torch.cat([(x["logprob"] - y["logprob"]).abs() for x, y in zip(a, b, strict=True)])
    assert 0 < float(gap.mean()) < 0.05
    one, two = (torch.cat([g.flatten() for g in gradients(p, experience)[1]]) for p in (exact, half))
    assert float(torch.nn.functional.cosine_similarity(one, two, dim=0)) > 0.99


def test_updates_below_the_spacing_of_bfloat16_add_up():
    """0.02 lies between numbers 1.2e-4 apart: a step of 1e-5 is rounded away, thirty of them are not."""

    def steps(make):
        weight = torch.nn.Parameter(torch.full((4,), 0.02, dtype=torch.bfloat16))
        optimizer = make([weight], lr=1e-5, weight_decay=0.0)
        for _ in range(30):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        return weight.detach()

    start = torch.full((4,), 0.02, dtype=torch.bfloat16)
    assert torch.equal(steps(torch.optim.AdamW), start)
    exact = start.float() - 30 * 1e-5
    assert torch.equal(steps(adamw), exact.bfloat16())


def test_master_weights_resume_bit_by_bit_and_give_way_to_a_reset():
    def run(total: int, stop: int | None = None) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.linspace(-0.02, 0.02, 8).bfloat16())
        optimizer = adamw([weight], lr=1e-5)
        generator = torch.Generator().manual_seed(0)
        for k in range(total):
            if k == stop:  # through a checkpoint, into fresh objects
                state = optimizer_state(optimizer)
                weight = torch.nn.Parameter(weight.detach().clone())
                optimizer = adamw([weight], lr=1e-5)
                load_optimizer_state(optimizer, state)
            weight.grad = torch.randn(8, generator=generator).bfloat16()
            optimizer.step()
        assert isinstance(optimizer, MasterAdamW)
        return optimizer.masters[0].clone()

    assert torch.equal(run(20), run(20, stop=7))
    weight = torch.nn.Parameter(torch.zeros(2).bfloat16())
    optimizer = adamw([weight], lr=1e-3, weight_decay=0.0)
    for value in (0.0, 5.0):
        with torch.no_grad():
            weight.fill_(value)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert float(optimizer.masters[0][0]) == pytest.approx(4.999, abs=1e-5)
    assert isinstance(adamw([torch.nn.Parameter(torch.zeros(1))], lr=1e-3), torch.optim.AdamW)
