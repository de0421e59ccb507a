"""Distilling rewards: a teacher's vote labels, a reward model reads, the student climbs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from selfreward.errors import RecipeError
from selfreward.lab.embedded import load_task
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.likelihood.distill_rewards import answers_match
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.turns import retold
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from selfreward.types import Prompt
from tests.support.models import make_policy

SMALL = {"teacher_samples": 4, "student_samples": 4, "warmup": 2, "updates": 6, "group_size": 4}


def trained(out, steps=4, **options):
    values = {"recipe": "distill-rewards", "model": "embedded:chain-student", "data": "embedded:chain-student"}
    values |= {"steps": steps, "prompts_per_step": 4, "eval_prompts": 0, "out": str(out), "checkpoint_every": 1}
    given = {**SMALL, **options}
    if given.get("reward") == "none":
        del given["group_size"]  # nobody reads it then
    trainer = build(make_config({**values, "keep_checkpoints": 9, "options": given}))
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return trainer, [r for r in records if r["step"]]


def test_warm_up_then_a_reward_model_then_ppo(tmp_path):
    trainer, records = trained(tmp_path / "run")
    assert trainer.recipe.needs() == "none" and trainer.mechanism > 0
    assert [r.get("nll", 0) > 0 for r in records] == [True, True, False, False]
    assert ["critic/value_loss" in r for r in records] == [False, False, True, True]
    # 8 prompts: 4 texts of the teacher and 4 of the student each, less what the teacher had no answer for.
    assert 0 < records[2]["reward_model/texts"] <= 64 and "reward_model/texts" not in records[3]
    rewards = [
        c["reward"]
        for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()
        for c in json.loads(line)["completions"]
    ]
    assert all(0 <= r <= 1 for r in rewards)
    assert {"teacher", "student", "solver"} <= set(trainer.policy.counts.generated)


def test_it_resumes_in_every_phase(tmp_path):
    whole, _ = trained(tmp_path / "whole")
    for stop in (1, 3):
        trained(tmp_path / f"{stop}", steps=stop)
        again, _ = resume(tmp_path / f"{stop}", ["steps=4"])
        again.evaluator = lambda policy: {}
        again.fit()
        for a, b in zip(whole.policy.parameters(), again.policy.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    "options",
    [{"reward": "none"}, {"reward": "none", "sft": "one"}, {"reward": "vote"}, {"reward": "gold"}, {"rounds": 2}],
)
def test_what_it_is_compared_with(tmp_path, options):
    trainer, records = trained(tmp_path / "run", **options)
    assert trainer.mechanism > 0 and trainer.recipe.needs() == (
        "outcome" if options.get("reward") == "gold" else "none"
    )
    taught = ["reward_model/texts" in r for r in records]
    assert taught == ([False, False, True, True] if options.get("rounds") else [False] * 4)


def test_the_reward_model_can_read_the_teacher_alone_or_nonsense(tmp_path):
    both, records = trained(tmp_path / "a")
    teacher, alone = trained(tmp_path / "b", model_data="teacher")
    assert alone[2]["reward_model/texts"] == records[2]["reward_model/texts"] / 2
    assert "student" not in teacher.policy.counts.generated
    permuted, _ = trained(tmp_path / "c", corrupt="permuted")
    assert any(
        not torch.equal(a, b) for a, b in zip(both.policy.parameters(), permuted.policy.parameters(), strict=True)
    )


def test_only_the_teachers_text_is_used():
    policy = make_policy()
    (group,) = policy.sample([Prompt("p", "1+1=")], 3, SamplingParams(max_new_tokens=5), seed=0)
    told = retold(policy, group, "teacher")
    for a, b in zip(group, told, strict=True):
        assert b.completion == a.completion and b.last.logprobs is None and b.finished == a.finished
        assert b.tokens.tolist()[: len(b.segments[0])] == policy.encode(group.prompt)
    assert load_recipe("distill-rewards").teacher == "embedded:chain"


def test_no_answer_agrees_with_nothing():
    run = SimpleNamespace(answers=load_task("chain").answers)
    assert answers_match(["#1", "#2", ""], "1", run) == [1, 0, 0]
    assert answers_match(["#1"], None, run) == [0]


def test_a_teacher_without_answers_is_an_error(tmp_path):
    with pytest.raises(RecipeError, match="answered no prompt"):
        trained(tmp_path, teacher="embedded:chain-student", warmup=0)
