"""The loop: it learns, it forgets nothing, and it shows no answer to who must not see one."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

from selfreward.credit.rows import UNKNOWN, advantage_experience, pair_experience, row_of
from selfreward.data.answers import Regex
from selfreward.data.task import Task
from selfreward.errors import CheckpointError, LabelAccessError, RecipeError
from selfreward.losses import KL, NLL, LossTerm, PolicyGradient, Preference
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.base import Recipe
from selfreward.recipes.grpo import GRPO
from selfreward.recipes.registry import load_recipe
from selfreward.training.config import TrainConfig
from selfreward.training.learner import Learner, fill_behaviour, make_optimizer, make_schedule, split, units
from selfreward.training.trainer import Trainer
from selfreward.types import Experience, Pair, Prompt
from tests.support.models import make_policy

ANSWERS = Regex(r"(\d)")


def task(n: int = 24) -> Task:
    prompts = [Prompt(str(i), text=f"{i % 10}+0=", reference=str(i % 10)) for i in range(n)]
    return Task("digits", prompts, prompts[:10], ANSWERS, lambda text: ANSWERS.extract(text) is not None)


def trainer(out, recipe="gold", options=None, **changes) -> Trainer:
    settings = {
        "steps": 4,
        "prompts_per_step": 6,
        "max_new_tokens": 3,
        "lr": 2e-3,
        "adam_eps": 1e-4,
        "eval_prompts": 10,
        "eval_samples": 4,
        "eval_every": 2,
        "checkpoint_every": 2,
    }
    config = TrainConfig(recipe=recipe, model="test", data="digits", out=str(out), **{**settings, **changes})
    built = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, {"group_size": 6, **(options or {})})
    return Trainer(make_policy(), built, task(), config)


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(str(folder / "model" / "model.safetensors"))


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_gold_reward_teaches(tmp_path):
    summary = trainer(tmp_path / "r", steps=25, lr=1e-2, prompts_per_step=10, eval_every=0).fit()
    assert summary["after"]["pass@1"] > summary["before"]["pass@1"] + 0.1
    assert summary["mechanism"]["count"] == 250
    records = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == list(range(26))
    assert records[-1]["reward/mean"] > records[1]["reward/mean"]
    assert {"agreement", "entropy", "length", "grad_norm", "tokens/generated", "zero_signal"} <= records[5].keys()


def test_the_trained_model_loads_with_transformers_alone(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = trainer(tmp_path / "r")
    run.fit()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "r" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "r" / "model")
    ids = torch.tensor([tokenizer("3+0=")["input_ids"]])
    torch.testing.assert_close(model(ids).logits, run.policy.model(ids).logits)


@pytest.mark.parametrize("changes", [{}, {"epochs": 2, "minibatches": 2}], ids=["one update", "four updates"])
@pytest.mark.parametrize("recipe", ["vote", "certainty"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, recipe, changes):
    trainer(tmp_path / "whole", recipe, steps=6, **changes).fit()
    half = trainer(tmp_path / "half", recipe, steps=6, **changes)
    half.on_step = lambda record: setattr(half, "_stop", record["step"] == 3)
    with pytest.raises(KeyboardInterrupt):
        half.fit()
    rest = trainer(tmp_path / "half", recipe, steps=6, **changes)
    rest.resume()
    assert rest.step == 3
    rest.fit()
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "half"))
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        whole, parts = ((tmp_path / d / name).read_text().splitlines() for d in ("whole", "half"))
        assert len(whole) == len(parts)


def test_a_killed_run_resumes_with_the_same_bits(tmp_path):
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from tests.training.test_trainer import trainer\n"
        "import os, signal\n"
        "t = trainer(Path(sys.argv[1]), 'vote', steps=7, epochs=2, minibatches=2)\n"
        "t.on_step = lambda r: os.kill(os.getpid(), signal.SIGKILL) if r['step'] == 5 else None\n"
        "t.fit()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], cwd=os.getcwd())
    assert done.returncode == -signal.SIGKILL
    rest = trainer(tmp_path / "killed", "vote", steps=7, epochs=2, minibatches=2)
    rest.resume()
    assert rest.step == 4  # the last checkpoint before the kill at step 5
    rest.fit()
    trainer(tmp_path / "whole", "vote", steps=7, epochs=2, minibatches=2).fit()
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    steps = [json.loads(x)["step"] for x in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(8))


def test_a_token_budget_ends_a_run_and_its_resumption(tmp_path):
    whole = trainer(tmp_path / "whole", token_budget=2 * 6 * 6 * 3 - 40, checkpoint_every=1)
    summary = whole.fit()
    assert summary["steps"] == whole.step < 4
    assert summary["tokens"]["generated"] >= whole.config.token_budget
    assert "eval/pass@1" in json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-1])
    again = trainer(tmp_path / "again", token_budget=whole.config.token_budget, checkpoint_every=1)
    again.on_step = lambda record: setattr(again, "_stop", True)
    with pytest.raises(KeyboardInterrupt):
        again.fit()
    rest = trainer(tmp_path / "again", token_budget=whole.config.token_budget, checkpoint_every=1)
    rest.resume()
    assert rest.fit()["steps"] == summary["steps"]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "again"))


def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path):
    trainer(tmp_path / "r").fit()
    newest = tmp_path / "r" / "checkpoints" / "step-00000004" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    again = trainer(tmp_path / "r")
    notes = again.resume()
    assert again.step == 2
    assert len(notes) == 1
    assert "step-00000004" in notes[0] and "checksum" in notes[0]
    for state in (tmp_path / "r" / "checkpoints").glob("*/state.json"):
        state.write_text("{")
    with pytest.raises(CheckpointError, match="No checkpoint is whole"):
        trainer(tmp_path / "r").resume()


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one_whole(tmp_path, monkeypatch):
    run = trainer(tmp_path / "r", steps=4)

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    def from_step_two(record):
        if record["step"] == 3:
            monkeypatch.setattr("safetensors.torch.save_file", full_disk)

    run.on_step = from_step_two
    with pytest.raises(CheckpointError, match=r"No space left.*last whole checkpoint is step 2"):
        run.fit()
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "r" / "checkpoints").iterdir()) == ["step-00000000", "step-00000002"]
    again = trainer(tmp_path / "r", steps=4)
    again.resume()
    again.fit()


@dataclass
class Peeking(GRPO):
    name: ClassVar[str] = "peeking"

    def collect(self, policy, prompts, run):
        return prompts[0].answer


def test_a_label_free_recipe_that_reads_an_answer_is_stopped(tmp_path):
    with pytest.raises(LabelAccessError, match="'peeking'"):
        trainer(tmp_path / "r", Peeking()).fit()
    locked = task().train[3].locked("x", ("kept",))
    assert "3" not in repr([locked.reference, dict(locked.fields)])


def test_a_recipe_without_collect_is_named(tmp_path):
    @dataclass
    class Empty(GRPO):
        name: ClassVar[str] = "empty"

    with pytest.raises(RecipeError, match="Empty has no method collect"):
        trainer(tmp_path / "r", Empty()).fit()


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ([1.0], "has 6 trajectories but was given 1"),
        ([float("nan")] * 6, "must be finite"),
        (["x"] * 6, "not a number"),
    ],
)
def test_a_wrong_reward_is_named(tmp_path, reward, message):
    @dataclass
    class Broken(GRPO):
        name: ClassVar[str] = "broken"

        def collect(self, policy, prompts, run):
            groups = policy.sample(prompts, 6, run.sampling)
            groups[0].reward_with(reward)
            return self.learn_from(groups)

    with pytest.raises(RecipeError, match=message):
        trainer(tmp_path / "r", Broken()).fit()


def learner(policy, **options) -> Learner:
    return Learner(policy, make_optimizer(policy, 1e-3, (0.9, 0.95), 1e-4, 0.0), lambda u: 1e-3, **options)


def gradients(policy, experience: Experience, objective, anchors=None, **options):
    policy.model.zero_grad()
    machine = learner(policy, **options)
    metrics = machine.accumulate(experience, range(len(experience.rows)), objective, anchors)
    return metrics, [None if p.grad is None else p.grad.clone() for p in policy.parameters()]


def test_micro_batches_do_not_change_the_gradient():
    policy = make_policy()
    groups = policy.sample(task().train[:4], 6, SamplingParams(max_new_tokens=5))
    for group in groups:
        group.reward_with([float(i % 3) for i in range(6)])
    experience = advantage_experience(groups)
    experience.pairs = [Pair(0, 1, 0.5), Pair(2, 1), Pair(8, 9, 1.0)]
    experience.rows[3].nll = experience.rows[3].mask * 0.7
    anchors = [r.behaviour - 0.1 for r in experience.rows]
    objective = [PolicyGradient(normalise="grpo"), KL(coefficient=0.1), NLL(), Preference()]
    whole = gradients(policy, experience, objective, anchors)
    cut = gradients(policy, experience, objective, anchors, micro_tokens=20)
    assert whole[0]["loss"] == pytest.approx(cut[0]["loss"], rel=1e-5)
    for a, b in zip(whole[1], cut[1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_rows_without_advantage_skip_the_forward_and_keep_their_share_of_the_mean():
    policy = make_policy()
    groups = policy.sample(task().train[:2], 4, SamplingParams(max_new_tokens=5))
    groups[0].reward_with([1, 0, 1, 0])
    groups[1].reward_with([1, 1, 1, 1])
    experience = advantage_experience(groups)
    machine = learner(policy)
    machine.accumulate(experience, range(8), [PolicyGradient()])
    assert machine.trained_tokens == sum(len(r) for r in experience.rows[:4])
    _, skipped = gradients(policy, experience, [PolicyGradient()])
    _, alone = gradients(policy, Experience(experience.rows[:4]), [PolicyGradient()])
    tokens = [float(sum(r.mask.sum() for r in rows)) for rows in (experience.rows[:4], experience.rows)]
    for a, b in zip(skipped, alone, strict=True):
        torch.testing.assert_close(a, b * tokens[0] / tokens[1], atol=1e-6, rtol=1e-4)


@dataclass(frozen=True)
class Regression(LossTerm):
    """Pulls the log-probability of marked tokens to a target."""

    name: ClassVar[str] = "regression"
    coefficient: float = 1.0

    def active(self, row):
        return bool((row.extra["on"] != 0).any()) if "on" in row.extra else False

    def wanted(self, row):
        return row.extra["on"] != 0 if "on" in row.extra else None

    def weights(self, rows):
        return [r.extra.get("on", torch.zeros(len(r))) for r in rows]

    def __call__(self, batch):
        error = torch.where(batch.weight != 0, batch.logp - batch.extra["target"], 0.0)
        return (batch.weight * error**2).sum(), {"squared_error": float((batch.weight * error**2).sum())}


def test_channels_of_a_recipe_reach_its_own_loss():
    policy = make_policy()
    group = policy.sample([Prompt("a", text="1+2=")], 2, SamplingParams(max_new_tokens=6))[0]
    rows = [row_of(t) for t in group]
    at = len(rows[0]) - 1
    rows[0].mask.zero_()  # the position is asked for by the term alone
    rows[0].extra = {"on": torch.zeros(at + 1), "target": torch.zeros(at + 1)}
    rows[0].extra["on"][at], rows[0].extra["target"][at] = 1.0, -1.5
    metrics = learner(policy).accumulate(Experience(rows), [0, 1], [Regression()])
    logp = float(policy.score([rows[0].tokens], [0])[0]["logprob"][at])
    assert metrics["squared_error"] == pytest.approx((logp + 1.5) ** 2, rel=1e-4)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.parameters())


def test_unknown_behaviour_is_scored_before_learning():
    policy = make_policy()
    trajectory = policy.sample(task().train[:1], 1, SamplingParams(max_new_tokens=5))[0].trajectories[0]
    known = row_of(trajectory, 1.0)
    trajectory.last.logprobs = None
    unknown = row_of(trajectory, 1.0)
    assert torch.isnan(unknown.behaviour).any() and math.isnan(UNKNOWN)
    fill_behaviour(policy, [unknown], 1.0, 1000)
    torch.testing.assert_close(unknown.behaviour, known.behaviour, atol=1e-5, rtol=1e-4)


def test_credit_by_segment_and_by_token():
    policy = make_policy()
    trajectory = policy.sample(task().train[:1], 1, SamplingParams(max_new_tokens=4))[0].trajectories[0]
    n = len(trajectory.last)
    assert row_of(trajectory, [2.0]).advantage.tolist() == [0.0] * (len(trajectory.tokens) - n) + [2.0] * n
    tokens = torch.arange(n).float()
    assert row_of(trajectory, tokens).advantage[-n:].tolist() == tokens.tolist()
    assert row_of(trajectory, 1.0, roles=["judge"]).mask.sum() == 0


def test_pairs_make_rows_once_and_share_an_update():
    policy = make_policy()
    group = policy.sample(task().train[:1], 4, SamplingParams(max_new_tokens=4))[0]
    experience = pair_experience([group], [[(0, 1, 1.0, 0.0), (0, 3, 0.5, 0.0)]], nll=1.0)
    assert len(experience.rows) == 3
    assert [(p.chosen, p.rejected) for p in experience.pairs] == [(0, 1), (0, 2)]
    assert experience.rows[0].nll.max() == 1.5 and experience.rows[1].nll.max() == 0
    assert units(4, experience.pairs) == [[0, 1, 2], [3]]
    halves = split(units(4, experience.pairs), 2, torch.Generator().manual_seed(0))
    assert sorted(map(sorted, halves)) == [[0, 1, 2], [3]]


def test_schedules_at_first_middle_and_last_update():
    assert [make_schedule("constant", 2.0, 2, 10)(u) for u in (0, 1, 5, 9)] == [1.0, 2.0, 2.0, 2.0]
    assert [make_schedule("linear", 2.0, 0, 10)(u) for u in (0, 5, 10)] == [2.0, 1.0, 0.0]
    assert [round(make_schedule("cosine", 2.0, 0, 10)(u), 6) for u in (0, 5, 10)] == [2.0, 1.0, 0.0]


def test_a_step_that_is_not_finite_is_skipped_and_counted():
    policy = make_policy()
    groups = policy.sample(task().train[:1], 4, SamplingParams(max_new_tokens=4))
    groups[0].reward_with([1, 0, 0, 0])
    experience = advantage_experience(groups)
    experience.rows[0].advantage[-1] = float("inf")
    before = [p.detach().clone() for p in policy.parameters()]
    metrics = learner(policy).learn(experience, [PolicyGradient()], torch.Generator())
    assert metrics["skipped_updates"] == 1
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
