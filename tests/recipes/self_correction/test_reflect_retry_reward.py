"""Reflect, retry, reward: whose tokens are learned, and what a retry obeys."""

from __future__ import annotations

import random

import pytest
import torch

from selfreward.lab.embedded import load_task
from selfreward.lab.tasks.arithmetic import fix
from selfreward.lab.tasks.arithmetic.chain import Problem
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.turns import segment_of
from tests.recipes.self_correction.test_score import context
from tests.support.runs import run_recipe

PROBLEM = Problem.parse("6*8-5*6+9+5=")


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:fix", device="cpu")


def test_reflections_by_hand():
    rng = random.Random(0)
    assert fix.reflection(PROBLEM, "*+*++", rng, seeing=True) == ("sYNYYY.2", 2)
    text, step = fix.reflection(PROBLEM, "*+*++", rng, seeing=False)
    assert text == f"bxxxxx.{step}" and fix.named_step(text) == step
    assert fix.named_step("sYNYYY.7") is None and fix.named_step("") is None
    # A retry reads the failed attempt's operators, and the question's at the step that was named.
    problem = Problem.parse("6*8-4*6+9+5=")
    corpus, found = fix.Corpus(reflect=1.0, seeing=0.0, slip=0.0, look_slip=0.0), set()
    for _ in range(60):
        (_, first, weight), (_, said, _), (_, retry, _) = corpus.turns(problem, rng)
        assert weight == 0.0
        ops = first[2:12:2]
        at = fix.named_step(said) - 1
        assert retry[2:12:2] == ops[:at] + problem.ops[at] + ops[at + 1 :]
        found.add(retry[-1] == str(problem.answer))
    assert found == {True, False}


def test_only_reflections_are_learned(policy):
    recipe = load_recipe("reflect-retry-reward", {"group_size": 8})
    run = context(policy, step=1)
    policy.seed(0)
    found = recipe.collect(policy, load_task("fix").train[:8], run)
    assert 0 < len(found.groups) <= 8 and len(found.rows) == 8 * len(found.groups)
    # Counted are reflections whose siblings' retries came out differently; the others get no advantage.
    apart = sum(bool((row.advantage != 0).any()) for row in found.rows)
    assert run.counts[recipe.mechanism] == apart and 0 < apart < len(found.rows)
    for t, row in zip([t for g in found.groups for t in g], found.rows, strict=True):
        assert not run.answers.correct(segment_of(t, "attempt").text, str(t.prompt.answer))
        assert t.reward == run.answers.correct(segment_of(t, "retry").text, str(t.prompt.answer))
        learned = row.tokens[row.mask > 0]
        assert learned.tolist() == segment_of(t, "reflection").tokens.tolist()
    # The same failures whenever the prompts come back.
    again = recipe.collect(policy, load_task("fix").train[:8], run)
    assert [t.segments[1].text for t in (g.trajectories[0] for g in found.groups)] == [
        g.trajectories[0].segments[1].text for g in again.groups
    ]


def test_both_can_be_learned(policy):
    recipe = load_recipe("reflect-retry-reward", {"group_size": 4, "learn": "both"})
    found = recipe.collect(policy, load_task("fix").train[:4], context(policy, step=1))
    t, row = found.groups[0].trajectories[0], found.rows[0]
    assert int(row.mask.sum()) == len(segment_of(t, "reflection")) + len(segment_of(t, "retry"))


def test_shuffled_rewards_belong_to_another_reflection(policy):
    recipe = load_recipe("reflect-retry-reward", {"group_size": 8, "shuffled": True})
    policy.seed(0)
    found = recipe.collect(policy, load_task("fix").train[:8], context(policy, step=1))
    assert all([s.role for s in t.segments][-1] == "reflection" for g in found.groups for t in g)
    own = load_recipe("reflect-retry-reward", {"group_size": 8})
    policy.seed(0)
    fair = own.collect(policy, load_task("fix").train[:8], context(policy, step=1))
    said = [segment_of(t, "reflection").text for g in fair.groups for t in g]
    assert [segment_of(t, "reflection").text for g in found.groups for t in g] == said  # the same reflections
    assert [t.reward for g in fair.groups for t in g] != [t.reward for g in found.groups for t in g]


def test_one_failure_alone_is_not_shuffled(policy):
    recipe = load_recipe("reflect-retry-reward", {"group_size": 4, "shuffled": True})
    run = context(policy, step=1)
    policy.seed(0)
    fair = load_recipe("reflect-retry-reward", {"group_size": 4})
    failed = fair.collect(policy, load_task("fix").train[:8], run).groups[0].prompt
    found = recipe.collect(policy, [failed], context(policy, step=1))
    assert not found.rows and found.stats["failures"] == 1


@pytest.mark.parametrize("options", [{}, {"learn": "both"}, {"shuffled": True}])
def test_it_runs_on_the_shipped_base(tmp_path, options):
    summary, records = run_recipe("reflect-retry-reward", tmp_path, model="embedded:fix", options=options)
    assert summary["labels"] == "outcome" and summary["mechanism"]["count"] > 0
    assert all(r["failures"] >= 1 and 0 < r["train/retry"] < 1 for r in records)


def test_the_base_retries_as_it_is_told(policy):
    prompts = load_task("fix").test[:60]
    found = fix.Retries(prompts)(policy)
    assert found["retry"] < 0.6 and found["reflection"] < 0.5
    # Told the true step it succeeds; told another it repeats the mistake.
    from selfreward.rollouts.turns import Turn, prompt_only, take

    params = SamplingParams(fix.SETTINGS["max_new_tokens"], stats=())
    policy.seed(1)
    tried = [
        t for own in take(policy, [prompt_only(policy, p) for p in prompts], Turn("attempt"), params, 4) for t in own
    ]
    space = load_task("fix").answers
    failed = [t for t in tried if not space.correct(t.completion, str(t.prompt.answer))]
    known = [(t, s) for t in failed if (s := fix.first_difference(t.prompt.question, t.completion)) is not None]

    def retried(steps):
        told = iter([f"bxxxxx.{s}" for s in steps])
        turn = Turn("reflection", fix.TEMPLATES["reflect"], say=lambda t: next(told))
        reflected = [t for (t,) in take(policy, [t for t, _ in known], turn, params)]
        done = [t for (t,) in take(policy, reflected, Turn("retry", fix.TEMPLATES["retry"]), params)]
        return sum(space.correct(t.completion, str(t.prompt.answer)) for t in done) / len(done)

    assert retried([s for _, s in known]) > retried([s % 5 + 1 for _, s in known]) + 0.4
    assert torch.is_tensor(known[0][0].tokens)
