"""RISE: the ladder, verification problems with known gold, and one update for both."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch

from selfreward.lab.embedded import load_task
from selfreward.lab.tasks.arithmetic import steps_verify
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.recipes.self_correction.rise import BOXED
from selfreward.rollouts.run import RunContext
from selfreward.signals.graded_outcome import ladder, rating
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from tests.support.runs import run_recipe

GROUP = {"group_size": 8, "estimator": "group", "verify": 6}


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:steps-verify", device="cpu")


def context(policy, **templates):
    task = load_task("steps-verify")
    params = SamplingParams(max_new_tokens=task.settings["max_new_tokens"])
    return RunContext.of(
        task, step=1, steps=3, sampling=params, reference=policy.snapshot(), templates={**task.templates, **templates}
    )


def test_the_ladder_by_hand():
    assert ladder([True, True, False], [True, False, False]) == [1.0, -0.5, -1.0]


def test_ratings_are_read_as_numbers():
    words, boxed = ("1", "-0.5", "-1"), re.compile(BOXED)
    said = [r"so \boxed{+1}", r"\boxed{1}, no: \boxed{-0.50}"]
    assert [rating(s, boxed, words) for s in said] == ["1", "-0.5"]
    assert rating("\\boxed{\u22121}", boxed, words) == "-1"
    assert rating(r"\boxed{2}", boxed, words) is None and rating("I would say 1", boxed, words) is None
    mark = re.compile(steps_verify.RATING)
    assert [rating(s, mark, "YN") for s in ("*Y-Y*N", "Y", "*Y-Y*")] == ["N", "Y", None]


def test_solutions_become_verification_problems(policy):
    recipe = load_recipe("rise", GROUP)
    run = context(policy)
    policy.seed(0)
    prompts = load_task("steps-verify").train[:4]
    found = recipe.collect(policy, prompts, run)
    solved, checked = found.groups[:4], found.groups[4:]
    assert len(checked) == 6 and run.counts[recipe.mechanism] == 48
    assert len({g.key for g in found.groups}) == 10  # every derived problem has a baseline of its own
    # Evenly: six of four groups are one or two of each.
    assert set(Counter(g.prompt.fields["source"][0] for g in checked).values()) <= {1, 2}
    by_key = {g.key: g for g in solved}
    for group in checked:
        key, i = group.prompt.fields["source"]
        solution = by_key[key].trajectories[i]
        assert solution.completion in group.prompt.question
        gold = "Y" if solution.reward == 1.0 else "N"
        assert group.prompt.answer == gold
        for t in group:
            last = t.completion[-1:] if t.completion[-1:] in ("Y", "N") else None
            assert t.reward == (-1.0 if last is None else 1.0 if last == gold else -0.5)
    assert len(found.rows) == 4 * 8 + 6 * 8


def test_offline_material_is_the_bases_and_never_verified_twice_alike(policy):
    recipe = load_recipe("rise", {**GROUP, "offline": True})
    policy.seed(0)
    found = recipe.collect(policy, load_task("steps-verify").train[:4], context(policy))
    texts = {t.completion for g in found.groups[:4] for t in g}
    asked = [g.prompt.question for g in found.groups[4:]]
    assert len(asked) == 6 and not all(any(text in q for text in texts) for q in asked)


def test_without_verification_it_is_plain_reinforcement(policy):
    found = load_recipe("rise", {**GROUP, "verify": 0}).collect(
        policy, load_task("steps-verify").train[:4], context(policy)
    )
    assert len(found.groups) == 4


def test_the_penalty_is_applied_once():
    names = {e: [t.name for t in load_recipe("rise", {"estimator": e}).objective(16)] for e in ("ppo", "group")}
    assert names["ppo"] == ["policy_gradient"] and "kl" in names["group"]  # PPO has it in its rewards


@pytest.mark.parametrize("estimator", ["group", "ppo"])
def test_it_runs_and_resumes(tmp_path, estimator):
    def start(out, stop=None):
        def look(record):
            if record["step"] == stop:
                raise InterruptedError

        values = {"recipe": "rise", "model": "embedded:steps-verify", "steps": 3, "prompts_per_step": 3}
        values |= {"eval_prompts": 0, "out": str(out), "checkpoint_every": 1}
        trainer = build(make_config({**values, "options": {**GROUP, "estimator": estimator}}), look)
        trainer.evaluator = lambda policy: {}
        return trainer

    whole = start(tmp_path / "whole")
    whole.fit()
    assert whole.mechanism == 3 * 48
    with pytest.raises(InterruptedError):
        start(tmp_path / "part", stop=2).fit()
    again, _ = resume(tmp_path / "part", [])
    again.evaluator = lambda policy: {}
    again.fit()
    for a, b in zip(whole.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_paper_prompt_names_the_ladder():
    recipe = load_recipe("rise")
    assert (recipe.estimator, recipe.verify, recipe.kl, recipe.decay) == ("ppo", 128, 0.01, 1.0)
    from selfreward.recipes.self_correction.rise import VERIFY

    text = VERIFY.format(question="q", completion="c", right="1", wrong="-0.5", unread="-1")
    assert "\n-0.5: its final answer is in \\boxed{} but not correct;" in text


def test_the_bank_is_balanced_and_the_base_verifies_poorly(policy):
    bank = steps_verify.bank(100)
    assert sum(right for *_, right in bank) == 50
    found = steps_verify.Verification(load_task("steps-verify").test[:40], bank)(policy)
    assert 0.4 < found["verification"] < 0.72 and 0 <= found["vote"] <= 1


def test_labels_and_run(tmp_path):
    summary, records = run_recipe(
        "rise", tmp_path, model="embedded:steps-verify", options={"verify": 4, "estimator": "group"}
    )
    assert summary["labels"] == "outcome" and summary["mechanism"]["count"] == 2 * 4 * 8
    assert all(0 <= r["train/verification"] <= 1 for r in records)
