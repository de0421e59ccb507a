"""A policy without text: observations are vectors, decisions are numbers, and the training loop is the same.

The task is a walk on a line. An episode starts somewhere, has a goal, and is paid by how near it ends.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfreward.credit.advantages import group_normalised
from selfreward.credit.rows import UNKNOWN, advantage_experience
from selfreward.data.task import Task
from selfreward.errors import RecipeError
from selfreward.losses import KL, EntropyBonus, PolicyGradient, Uniformity
from selfreward.policy.batching import right_pad
from selfreward.policy.protocol import Likelihoods, TokenCount, TrainablePolicy, Wanted
from selfreward.recipes.base import Recipe
from selfreward.runtime.seeding import stream_seed
from selfreward.training.config import TrainConfig
from selfreward.training.learner import Learner, fill_behaviour, make_optimizer
from selfreward.training.trainer import Trainer
from selfreward.types import Experience, Group, Prompt, Row, Segment, Trajectory

STEP, HORIZON = 0.25, 6


class WalkPolicy(TrainablePolicy):
    """A small network from (place, goal) to a step: left or right, or any distance, normally distributed."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        self.kind = kind
        self.counts = TokenCount()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
        self._key: tuple[object, ...] = (0,)
        self._calls = 0

    def seed(self, seed: int, *key: object) -> None:
        self._key, self._calls = (seed, *key), 0

    def distribution(self, observations: torch.Tensor, temperature: float) -> torch.distributions.Distribution:
        out = self.net(observations)
        if self.kind == "categorical":
            return torch.distributions.Categorical(logits=out / temperature)
        mean, log_std = out.unbind(-1)
        return torch.distributions.Normal(mean, temperature * (log_std - 1).exp())

    @torch.no_grad()
    def walk(self, prompts: list[Prompt], n: int, horizon: int, temperature: float) -> list[Group]:
        """``n`` episodes from every start."""
        self._calls += 1
        generator = torch.Generator().manual_seed(stream_seed(*self._key, self._calls))
        place = torch.tensor([p.fields["start"] for p in prompts for _ in range(n)])
        goal = torch.tensor([p.fields["goal"] for p in prompts for _ in range(n)])
        seen, done, known = [], [], []
        for _ in range(horizon):
            observation = torch.stack([place, goal], -1)
            distribution = self.distribution(observation, temperature)
            if self.kind == "categorical":
                action = torch.multinomial(distribution.probs, 1, generator=generator)[:, 0]
                move = STEP * (2.0 * action - 1)
            else:
                action = distribution.mean + distribution.stddev * torch.randn(len(place), generator=generator)
                move = action
            seen.append(observation)
            done.append(action)
            known.append(distribution.log_prob(action))
            place = place + move
        self.counts.add("generated", "actor", horizon * len(place))
        episodes = []
        for i in range(len(place)):
            action = torch.stack(done, -1)[i]
            tokens = action if self.kind == "categorical" else torch.zeros(horizon, dtype=torch.long)
            segment = Segment("actor", tokens, f"ends at {place[i]:.2f}", torch.stack(known, -1)[i], trainable=True)
            segment.meta = {"observation": torch.stack(seen, 1)[i], "action": action.float()}
            episodes.append((segment, -float((place[i] - goal[i]).abs())))
        groups = []
        for k, prompt in enumerate(prompts):
            own = episodes[k * n : (k + 1) * n]
            groups.append(Group(f"{prompt.id}/actor", prompt, [Trajectory(prompt, [s], reward=r) for s, r in own]))
        return groups

    # What a loss asks for.

    def likelihoods(self, rows: list[Row], wanted: Wanted, temperature: float = 1.0) -> Likelihoods:
        distribution = self.distribution(right_pad([r.extra["observation"] for r in rows]), temperature)
        logp = distribution.log_prob(right_pad([r.extra["action"] for r in rows]))
        odd = set(wanted.with_gradient) - {"entropy"}
        if odd:
            raise RecipeError(f"A walk has no {', '.join(odd)}.")
        stats = {name: torch.where(wanted.where, distribution.entropy(), 0.0) for name in wanted.with_gradient}
        return Likelihoods(torch.where(wanted.where, logp, 0.0), stats)

    @torch.no_grad()
    def logprobs(self, rows, temperature=1.0, *, role=None, max_tokens=None):
        if role is not None:
            self.counts.add("scored", role, sum(map(len, rows)))
        where = [Wanted(torch.ones(1, len(r), dtype=torch.bool)) for r in rows]
        return [self.likelihoods([r], w, temperature).logp[0] for r, w in zip(rows, where, strict=True)]

    # Its weights.

    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.net.parameters())

    def snapshot(self, *, offload: bool = False) -> WalkPolicy:
        frozen = copy.copy(self)
        frozen.net = copy.deepcopy(self.net).requires_grad_(False)
        return frozen

    def state_dict(self):
        return {k: v.detach().clone() for k, v in self.net.state_dict().items()}

    def load_state_dict(self, state) -> None:
        self.net.load_state_dict(state)

    def save(self, folder) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), str(Path(folder) / "walk.safetensors"))


def experience_of(groups: list[Group]) -> Experience:
    """Rows with their observations and steps; advantages are those of the group."""
    found = advantage_experience(groups, group_normalised)
    for row, trajectory in zip(found.rows, [t for g in groups for t in g], strict=True):
        row.extra = dict(trajectory.last.meta)
    return found


@dataclass
class Walk(Recipe):
    """Be where the goal is at the end."""

    name: ClassVar[str] = "walk"
    fields: ClassVar[tuple[str, ...]] = ("start", "goal")

    group_size: int = 16

    def collect(self, policy, prompts, run) -> Experience:
        temperature = run.sampling.temperature
        return experience_of(policy.walk(prompts, self.group_size, run.sampling.max_new_tokens, temperature))

    def objective(self, run_limit):
        return [PolicyGradient(), KL(coefficient=0.01), EntropyBonus(coefficient=0.01)]


def starts(n: int, seed: int) -> list[Prompt]:
    places = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return [
        Prompt(f"{seed}-{i}", text=f"from {start:.3f} to {goal:.3f}", fields={"start": start, "goal": goal})
        for i, (start, goal) in enumerate(places.tolist())
    ]


def walk_task() -> Task:
    test = starts(24, seed=1)

    def measured(policy) -> dict[str, float]:
        kept = policy._key, policy._calls
        policy.seed(0, "evaluation")
        rewards = [r for g in policy.walk(test, 4, HORIZON, 1.0) for r in g.rewards]
        policy._key, policy._calls = kept
        return {"return": sum(rewards) / len(rewards)}

    return Task("walk", starts(40, seed=0), test, metric="return", evaluator=measured)


def trainer(out, kind: str, **changes) -> Trainer:
    settings = {"steps": 30, "prompts_per_step": 8, "max_new_tokens": HORIZON, "lr": 1e-2, "adam_eps": 1e-8}
    settings |= {"eval_every": 10, "checkpoint_every": 5, "sentinel": "off", "micro_tokens": 96, "minibatches": 2}
    config = TrainConfig(recipe="walk", model="none", data="walk", out=str(out), **{**settings, **changes})
    return Trainer(WalkPolicy(kind), Walk(), walk_task(), config)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_the_trainer_teaches_a_policy_that_knows_no_text(tmp_path, kind):
    run = trainer(tmp_path / "r", kind)
    summary = run.fit()
    before, after = summary["before"]["return"], summary["after"]["return"]
    assert after > before / 2  # half as far from the goal, at most
    records = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == list(range(31)) and records[10]["truth"] > before
    assert records[5]["sampler_gap"] < 1e-5 and records[5]["kl"] >= 0 and records[5]["entropy_bonus"] != 0
    assert summary["tokens"]["generated"] == 30 * 8 * 16 * HORIZON  # the measurements are not counted
    saved = load_file(str(tmp_path / "r" / "model" / "walk.safetensors"))
    assert all(torch.equal(v, run.policy.state_dict()[k]) for k, v in saved.items())
    logged = json.loads((tmp_path / "r" / "rollouts.jsonl").read_text().splitlines()[0])
    assert logged["prompt"].startswith("from ") and logged["completions"][0]["text"].startswith("ends at ")


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    whole = trainer(tmp_path / "whole", "gaussian", steps=9)
    whole.fit()
    half = trainer(tmp_path / "half", "gaussian", steps=9)
    half.on_step = lambda record: setattr(half, "_stop", record["step"] == 4)
    with pytest.raises(KeyboardInterrupt):
        half.fit()
    rest = trainer(tmp_path / "half", "gaussian", steps=9)
    rest.resume()
    assert rest.step == 4
    rest.fit()
    mine, theirs = rest.policy.state_dict(), whole.policy.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
    assert rest.policy.counts == whole.policy.counts


def test_the_learner_cuts_any_rows_into_micro_batches_without_changing_the_gradient():
    policy = WalkPolicy("categorical")
    groups = policy.walk(starts(3, seed=2), 4, HORIZON, 1.0) + policy.walk(starts(2, seed=3), 4, 3, 1.0)
    experience = experience_of(groups)
    anchors = [r.behaviour - 0.1 for r in experience.rows]
    found = []
    for micro in (None, 12):
        policy.net.zero_grad()
        optimizer = make_optimizer(policy, 1e-3, (0.9, 0.95), 1e-8, 0.0)
        learner = Learner(policy, optimizer, lambda u: 1e-3, micro_tokens=micro)
        metrics = learner.accumulate(experience, range(20), Walk().objective(HORIZON), anchors)
        found.append((metrics["loss"], torch.cat([p.grad.flatten() for p in policy.parameters()])))
        assert learner.trained_tokens == 12 * HORIZON + 8 * 3
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-7, rtol=1e-4)


def test_what_nobody_recorded_is_scored_by_the_policy_itself():
    policy = WalkPolicy("gaussian")
    rows = experience_of(policy.walk(starts(2, seed=4), 2, HORIZON, 1.0)).rows
    known = [r.behaviour.clone() for r in rows]
    rows[1].behaviour.fill_(UNKNOWN)
    fill_behaviour(policy, rows, 1.0, 100)
    for row, values in zip(rows, known, strict=True):
        torch.testing.assert_close(row.behaviour, values)
    assert policy.counts.scored == {}
    policy.logprobs(rows, role="reference")
    assert policy.counts.scored == {"reference": 4 * HORIZON}


def test_what_a_policy_need_not_say_has_defaults():
    policy, row = WalkPolicy("categorical"), experience_of(WalkPolicy("gaussian").walk(starts(1, 5), 2, 4, 1.0)).rows[0]
    assert policy.context is None and policy.numbers == {} and policy.describe(row) == ""
    assert policy.shared_forwards([row, row], 100) == [([0], 4), ([1], 4)]
    assert policy.device == torch.device("cpu") and policy.num_parameters() == 2 * 16 + 16 + 16 * 2 + 2
    assert policy.micro_tokens() > 0 and policy.default_lr() > 0 and policy.finish_backward(3) is None


def test_a_loss_on_what_the_policy_does_not_have_is_refused():
    policy = WalkPolicy("gaussian")
    learner = Learner(policy, make_optimizer(policy, 1e-3, (0.9, 0.95), 1e-8, 0.0), lambda u: 1e-3)
    experience = experience_of(policy.walk(starts(1, 5), 4, HORIZON, 1.0))
    with pytest.raises(RecipeError, match="self_certainty"):
        learner.learn(experience, [Uniformity()], torch.Generator())
