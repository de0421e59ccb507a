"""Reward model, critic, GAE and PPO's rewards: worked examples, then that they learn and come back whole."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest
import torch

from selfreward.credit.advantages import generalised_advantages
from selfreward.credit.ppo import climb, ppo_experience, ppo_rewards
from selfreward.errors import DataError, ModelError
from selfreward.losses.reward_model import bradley_terry
from selfreward.losses.value import clipped_value_loss
from selfreward.policy.critic import Critic
from selfreward.policy.reward_model import RewardModel
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.scalar_heads import ScalarModel
from selfreward.types import Prompt
from tests.support.models import make_policy


def test_bradley_terry_by_hand():
    # Equal rewards: log 2. One apart with margin 1: log 2 again. Three apart: log(1 + e^-3).
    found = bradley_terry(torch.tensor([0.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([math.log(2), math.log(2), math.log1p(math.exp(-3))]))
    with pytest.raises(ValueError, match="alike"):
        bradley_terry(torch.zeros(2), torch.zeros(3))


def test_bradley_terry_is_that_of_trl():
    for variable in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE"):
        os.environ.setdefault(variable, "1")
    pytest.importorskip("trl")
    from collections import defaultdict

    from trl import RewardTrainer

    torch.manual_seed(0)
    chosen, rejected, margin = torch.randn(5), torch.randn(5), torch.rand(5)
    logits = torch.cat([chosen, rejected])[:, None]
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=None),
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x),
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    theirs = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=logits), {"margin": margin})
    torch.testing.assert_close(bradley_terry(chosen, rejected, margin).mean(), theirs)


def test_gae_by_hand():
    # d_1 = 1 - .25 = .75; d_0 = 0 + .5 x .25 - .5 = -.375; A_0 = -.375 + .25 x .75.
    found = generalised_advantages([0.0, 1.0], [0.5, 0.25], discount=0.5, decay=0.5)
    torch.testing.assert_close(found.advantages, torch.tensor([-0.1875, 0.75]))
    torch.testing.assert_close(found.returns, torch.tensor([0.3125, 1.0]))
    # Lambda 1 is the return minus the value; lambda 0 the one-step difference; a cut episode has a value left.
    rewards, values = [0.0, 0.0, 1.0], [0.2, 0.4, 0.8]
    torch.testing.assert_close(generalised_advantages(rewards, values, 1, 1).advantages, torch.tensor([0.8, 0.6, 0.2]))
    torch.testing.assert_close(generalised_advantages(rewards, values, 1, 0).advantages, torch.tensor([0.2, 0.4, 0.2]))
    cut = generalised_advantages([0.0], [0.5], 1, 1, final_value=0.7)
    torch.testing.assert_close(cut.advantages, torch.tensor([0.2]))


def test_clipped_value_loss_by_hand():
    values = torch.tensor([1.0, 0.1, 1.0], requires_grad=True)
    loss = clipped_value_loss(values, torch.zeros(3), torch.tensor([2.0, 2.0, -2.0]), clip=0.2)
    # (1 - 2)^2 against (.2 - 2)^2; within the clip; the wrong way: (1 + 2)^2 against (.2 + 2)^2.
    torch.testing.assert_close(loss.detach(), torch.tensor([1.62, 1.805, 4.5]))
    loss.sum().backward()
    assert values.grad.tolist() == pytest.approx([0.0, -1.9, 3.0])


def test_ppo_rewards_by_hand():
    found = ppo_rewards(1.0, torch.tensor([-1.0, -1.0]), torch.tensor([-2.0, -1.0]), 0.1)
    torch.testing.assert_close(found, torch.tensor([-0.1, 1.0]))


def texts(policy, n, mark):
    """Texts that end in a digit; those with ``mark`` in the middle are the good ones."""
    return [torch.tensor(policy.encode_text(f"{i % 7}+{mark}-{i % 5}={i % 10}")) for i in range(n)]


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_the_number_at_a_token_does_not_see_what_follows(kind):
    policy = make_policy(kind)
    model = ScalarModel(policy)
    torch.nn.init.normal_(model.head.weight)
    long, short = texts(policy, 1, "a")[0], texts(policy, 1, "a")[0][:4]
    together = model.numbers([short, long])
    torch.testing.assert_close(together[1][:4], together[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.numbers([long])[0], together[1], atol=1e-5, rtol=1e-4)


def test_a_reward_model_learns_pairs_with_a_margin_and_comes_back(tmp_path):
    policy = make_policy()
    before = [p.detach().clone() for p in policy.parameters()]
    good, bad = texts(policy, 24, "a"), texts(policy, 24, "b")
    model = RewardModel(policy)
    assert model.score(good).tolist() == [0.0] * 24
    found = model.fit_pairs(good, bad, [2.0] * 24, updates=60, batch=8, lr=3e-3)
    assert found["accuracy"] == 1.0 and found["loss"] < 0.2
    assert float((model.score(good) - model.score(bad)).min()) > 2.0
    assert model.auroc(good + bad, [True] * 24 + [False] * 24) == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    model.save(tmp_path / "rm")
    torch.testing.assert_close(RewardModel.load(tmp_path / "rm").score(good), model.score(good))
    assert sorted(p.suffix for p in (tmp_path / "rm").iterdir()) == [".json", ".json", ".safetensors", ".safetensors"]


def test_a_reward_model_learns_labels_and_numbers():
    policy = make_policy()
    good, bad = texts(policy, 24, "a"), texts(policy, 24, "b")
    binary = RewardModel(policy)
    binary.fit_labels(good + bad, [1.0] * 24 + [0.0] * 24, updates=60, batch=16, lr=3e-3)
    assert float(binary.score(good).sigmoid().min()) > 0.8 and float(binary.score(bad).sigmoid().max()) < 0.2
    number = RewardModel(policy)
    number.fit_labels(good + bad, [3.0] * 24 + [-1.0] * 24, kind="regression", updates=150, batch=16, lr=3e-3)
    assert float(number.score(good).mean()) == pytest.approx(3.0, abs=0.3)


def test_the_head_alone_can_learn():
    policy = make_policy()
    model = RewardModel(policy, trains="head")
    kept = [p.clone() for p in model.model.backbone.parameters()]
    model.fit_pairs(texts(policy, 8, "a"), texts(policy, 8, "b"), updates=5)
    assert all(torch.equal(a, b) for a, b in zip(kept, model.model.backbone.parameters(), strict=True))
    assert float(model.model.head.weight.abs().sum()) > 0


def test_wrong_input_is_named(tmp_path):
    policy = make_policy()
    model = RewardModel(policy)
    with pytest.raises(DataError, match="1 chosen, 0 rejected"):
        model.fit_pairs(texts(policy, 1, "a"), [])
    with pytest.raises(DataError, match="2 sequences, 1 labels"):
        model.fit_labels(texts(policy, 2, "a"), [1.0])
    with pytest.raises(DataError, match=r"lies in \[0, 1\]"):
        model.fit_labels(texts(policy, 1, "a"), [2.0])
    with pytest.raises(DataError, match="Sequence 1 of 2 is empty"):
        model.score([torch.tensor([1]), torch.tensor([], dtype=torch.long)])
    with pytest.raises(ModelError, match="no reward model"):
        RewardModel.load(tmp_path)
    with pytest.raises(ModelError, match="another model"):
        model.model.load_weights({"head.bias": torch.zeros(1)})


def rollouts(policy):
    prompts = [Prompt(str(i), f"{i}+{i}=") for i in range(3)]
    groups = policy.sample(prompts, 4, SamplingParams(max_new_tokens=6), seed=1)
    for group in groups:
        group.reward_with([float("1" in c) for c in group.completions])
    return groups


def test_a_critic_learns_returns_and_resumes_bit_by_bit():
    policy = make_policy()
    groups = rollouts(policy)
    tokens = [t.tokens for g in groups for t in g]
    masks = [torch.cat([torch.zeros(len(t) - 1), torch.ones(1)]) for t in tokens]
    returns = [m * float(i % 2) for i, m in enumerate(masks)]
    critic, twin = Critic(policy, lr=3e-3, clip=1e9), Critic(policy, lr=3e-3, clip=1e9)
    losses = []
    for step in range(12):
        losses.append(critic.learn(tokens, masks, returns, critic.values(tokens))["value_loss"])
        if step == 5:
            twin.load_state_dict(critic.state_dict())
        if step >= 6:
            assert twin.learn(tokens, masks, returns, twin.values(tokens))["value_loss"] == losses[-1]
    assert losses[0] == pytest.approx(0.25) and losses[-1] < 0.1
    assert critic.values(tokens)[0][0] == 0


def test_ppo_credit_is_whitened_and_penalised():
    policy = make_policy()
    groups = rollouts(policy)
    found = ppo_experience(groups, Critic(policy), policy.snapshot(), kl=0.1, decay=1.0)
    assert len(found.rows) == 12 and abs(found.stats["ppo/kl"]) < 1e-5
    flat = torch.cat([r.advantage[r.mask > 0] for r in found.rows])
    assert float(flat.mean()) == pytest.approx(0, abs=1e-5) and float(flat.std()) == pytest.approx(1, abs=1e-4)
    # A fresh critic says 0 and the KL is 0: before whitening, the return is the reward at every token.
    rewards = [t.reward for g in groups for t in g]
    for row, reward in zip(found.rows, rewards, strict=True):
        own = row.advantage[row.mask > 0]
        assert float(own.max() - own.min()) < 1e-4 and (float(own[0]) > 0) == (reward > 0)
    assert found.stats["critic/value_loss"] > 0


def test_heads_on_half_precision_weights_learn_and_resume():
    """Steps of 1e-5 on weights of about .1 are below the rounding of bfloat16; only their sum moves a weight."""

    def taught(half: bool) -> tuple[float, Critic]:
        policy = make_policy()
        if half:
            policy.model.bfloat16()
        groups = rollouts(policy)
        tokens = [t.tokens for g in groups for t in g]
        ones = [torch.ones(len(t)) for t in tokens]
        critic, twin = Critic(policy, lr=1e-5, clip=1e9), Critic(policy, lr=1e-5, clip=1e9)
        torch.nn.init.normal_(critic.model.head.weight, generator=torch.Generator().manual_seed(0))
        before = [p.detach().float().clone() for p in critic.model.backbone.parameters()]
        for _ in range(30):
            critic.learn(tokens, ones, ones, critic.values(tokens))
        went = [
            float((p.detach().float() - b).abs().sum())
            for p, b in zip(critic.model.backbone.parameters(), before, strict=True)
        ]
        twin.load_state_dict(critic.state_dict())
        same = [c.learn(tokens, ones, ones, c.values(tokens)) for c in (critic, twin)]
        assert same[0] == same[1]
        assert all(torch.equal(a, b) for a, b in zip(critic.model.parameters(), twin.model.parameters(), strict=True))
        return sum(went), critic

    whole, half = taught(False)[0], taught(True)[0]
    assert half == pytest.approx(whole, rel=0.1)


def test_the_penalty_reads_the_reference_at_the_temperature_of_the_samples():
    policy = make_policy()
    params = SamplingParams(6, temperature=0.6)
    seen = climb(
        policy,
        [Prompt("a", "1+1=")],
        4,
        params,
        lambda tokens: torch.tensor([float(len(t)) for t in tokens]),
        Critic(policy),
        policy.snapshot(),
        kl=0.1,
        decay=1.0,
    )
    assert abs(seen.stats["ppo/kl"]) < 1e-5  # the reference is the policy itself
