"""SCoRe: what each stage learns, who is paid for what, and the testbed with two attempts."""

from __future__ import annotations

import random

import pytest
import torch

from selfreward.errors import LabelAccessError
from selfreward.lab.embedded import load_task
from selfreward.lab.tasks.arithmetic import fix
from selfreward.lab.tasks.arithmetic.chain import Problem
from selfreward.lab.tasks.splits import split_of
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.turns import segment_of
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from tests.support.runs import run_recipe

# 6*8 = 48 -> 8, 8-5 = 3, 3*6 = 18 -> 8, 8+9 = 17 -> 7, 7+5 = 12 -> 2.
PROBLEM = Problem.parse("6*8-5*6+9+5=")


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:fix", device="cpu")


def context(policy, step, steps=4):
    task = load_task("fix")
    params = SamplingParams(max_new_tokens=task.settings["max_new_tokens"])
    return RunContext.of(task, step=step, steps=steps, sampling=params, reference=policy.snapshot())


def test_attempts_by_hand():
    rng = random.Random(0)
    assert fix.work(PROBLEM, PROBLEM.ops, "w", rng) == "w6*8-3*8+7+2#2"
    assert fix.misread(PROBLEM) == "*+*++"  # its only minus
    # 8+5 = 13 -> 3 happens to be the same digit.
    assert fix.work(PROBLEM, "*+*++", "h", rng) == "h6*8+3*8+7+2#2"
    assert fix.first_difference(PROBLEM.text, "h6*8+3*8+7+2#2") == 2
    assert (
        fix.first_difference(PROBLEM.text, "w6*8-3*8+7+2#2") is None
        and fix.first_difference(PROBLEM.text, "w#2") is None
    )
    corpus = fix.Corpus(keep=1.0)
    assert corpus.second(PROBLEM, "h6*8+3*8+7+2#7", rng) == "keep#7"
    assert {split_of(Problem.parse(p.question).key) for p in load_task("fix").test} == {"test"}


def test_stage_one_pins_the_first_attempt_and_stage_two_pays_for_progress(policy):
    recipe = load_recipe("score", {"group_size": 8, "kl": 0.1, "beta2": 1.0})
    prompts = load_task("fix").train[:6]
    policy.seed(0)
    one = recipe.collect(policy, prompts, context(policy, step=2))
    policy.seed(0)
    two = recipe.collect(policy, prompts, context(policy, step=3))

    def paid(experience):
        return [(segment_of(t, "attempt").reward, segment_of(t, "fix").reward) for g in experience.groups for t in g]

    # Stage I pays for the second attempt's own correctness, Stage II for progress as well; both saw the same answers.
    assert set(paid(one)) <= {(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)} and (0.0, 1.0) in paid(one)
    shaped = {(0.0, 0.0): (0.0, 0.0), (1.0, 1.0): (1.0, 1.0), (0.0, 1.0): (0.0, 11.0), (1.0, 0.0): (1.0, -10.0)}
    assert [shaped[pair] for pair in paid(one)] == paid(two)
    trajectories = [t for g in two.groups for t in g]
    for t, a, b in zip(trajectories, one.rows, two.rows, strict=True):
        start = len(t.segments[0])
        first = slice(start, start + len(segment_of(t, "attempt")))
        assert a.mask[first].all() and not a.advantage[first].any() and (a.kl[first] == 10).all()
        assert (b.kl[first] == 1).all()
    assert any(b.advantage[len(t.segments[0])] != 0 for t, b in zip(trajectories, two.rows, strict=True))
    # The bonus stays with the second attempt: the first one's advantage is its own correctness, centred.
    group, rows = two.groups[0], two.rows[:8]
    own = torch.tensor([segment_of(t, "attempt").reward for t in group])
    found = torch.tensor([float(r.advantage[len(t.segments[0])]) for t, r in zip(group, rows, strict=True)])
    assert torch.allclose(found, own - own.mean(), atol=1e-6)


def test_without_beta1_the_first_attempt_is_pinned_all_the_same(policy):
    recipe = load_recipe("score", {"group_size": 2, "kl": 0.0, "beta2": 0.5})
    (term,) = [t for t in recipe.objective(16) if t.name == "kl"]
    assert term.coefficient == 0.5
    prompts = load_task("fix").train[:2]
    for step, held in ((2, 1.0), (3, 0.0)):  # Stage I holds the first attempt alone, Stage II nothing
        found = recipe.collect(policy, prompts, context(policy, step))
        for t, row in zip([t for g in found.groups for t in g], found.rows, strict=True):
            start, length = len(t.segments[0]), len(segment_of(t, "attempt"))
            assert (row.kl[start : start + length] == held).all() and row.kl.sum() == held * length
    free = load_recipe("score", {"kl": 0.0, "beta2": 0.0})
    assert [t.name for t in free.objective(16)] == ["policy_gradient"]
    assert [t.coefficient for t in load_recipe("score", {"kl": 0.1}).objective(16) if t.name == "kl"] == [0.1]


@pytest.mark.parametrize("options", [{}, {"alpha": 0.0, "stage_one": 0.0}])
def test_it_runs_on_the_shipped_base(tmp_path, options):
    summary, records = run_recipe("score", tmp_path, model="embedded:fix", options=options)
    assert summary["labels"] == "outcome" and summary["mechanism"]["count"] > 0
    assert all(0 < r["train/acc@t1"] < 1 and 0 < r["train/acc@t2"] < 1 for r in records)
    assert all(r["loss"] == r["loss"] and r["grad_norm"] > 0 for r in records)


def test_pair_sft_imitates_corrections(tmp_path):
    summary, records = run_recipe("pair-sft", tmp_path, model="embedded:fix")
    assert 0 < summary["mechanism"]["count"] < 64 and all(r["nll"] > 0 for r in records)


def test_it_resumes_across_the_stages(tmp_path):
    def start(out, stop=None):
        def look(record):
            if record["step"] == stop:
                raise InterruptedError

        values = {"recipe": "score", "model": "embedded:fix", "steps": 4, "prompts_per_step": 2, "eval_prompts": 0}
        values |= {"out": str(out), "checkpoint_every": 1, "options": {"group_size": 4}}
        trainer = build(make_config(values), look)
        trainer.evaluator = lambda policy: {}
        return trainer

    whole = start(tmp_path / "whole")
    whole.fit()
    with pytest.raises(InterruptedError):  # dies in step 3, the first of Stage II; step 2 is saved
        start(tmp_path / "part", stop=3).fit()
    again, _ = resume(tmp_path / "part", [])
    assert again.step == 2
    again.evaluator = lambda policy: {}
    again.fit()
    for a, b in zip(whole.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_answers_are_needed(policy):
    recipe = load_recipe("score", {"group_size": 2})
    assert recipe.needs() == "outcome"
    with pytest.raises(LabelAccessError):
        recipe.collect(policy, [p.locked("score") for p in load_task("fix").train[:1]], context(policy, 1))


def test_the_base_has_the_form_and_does_not_correct(policy):
    found = fix.TwoTurns(load_task("fix").test[:80])(policy)
    assert 0.35 < found["acc@t1"] < 0.75 and abs(found["delta"]) < 0.12 and found["edit"] > 0.2
    assert found["i->c"] > 0.05 and found["c->i"] > 0.05
