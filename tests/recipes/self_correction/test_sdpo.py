"""SDPO: who is shown what, what the teacher makes of the same tokens, and who the teacher is."""

from __future__ import annotations

import json

import pytest
import torch

from selfreward.errors import RecipeError
from selfreward.lab.embedded import load_task
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.self_correction.sdpo import first_reach
from selfreward.lab.tasks.arithmetic import chain_hint
from selfreward.losses.distillation import SAMPLED, TEACHER, TOKENS, WEIGHT
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.snapshots.frozen import weights_of
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.run import RunContext
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from selfreward.training.learner import make_optimizer
from tests.support.runs import run_recipe


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:chain-hint", device="cpu")


def context(policy):
    task = load_task("chain-hint")
    params = SamplingParams(max_new_tokens=task.settings["max_new_tokens"])
    return RunContext.of(task, step=1, steps=3, sampling=params, reference=policy.snapshot())


def collected(policy, prompts=6, **options):
    recipe = load_recipe("sdpo", {"group_size": 8, **options})
    run = context(policy)
    policy.seed(0)
    return recipe, run, recipe.collect(policy, load_task("chain-hint").train[:prompts], run)


def test_who_is_shown_what(policy):
    recipe, run, found = collected(policy)
    for group, contexts in zip(found.groups, recipe.contexts(found.groups, run), strict=True):
        wins = [t.completion for t in group if t.reward]
        for t, c in zip(group, contexts, strict=True):
            others = len(wins) - bool(t.reward)
            if others:
                shown, _, question = c.text.partition(".")
                assert shown in wins and question.endswith(group.prompt.question)
            elif not t.reward and run.answers.extract(t.completion) is not None:
                # No success to show: the wrong answer is named, and the failed text is not.
                assert c.text == f"no#{run.answers.extract(t.completion)}.{group.prompt.question}"
            else:
                assert c is None


def test_the_channels_are_the_teachers_view_of_the_same_tokens(policy):
    recipe, run, found = collected(policy, prompts=3)
    contexts = recipe.contexts(found.groups, run)
    rows = iter(found.rows)
    told = 0
    for group, own in zip(found.groups, contexts, strict=True):
        for t, c in zip(group, own, strict=True):
            row = next(rows)
            assert bool(row.extra) == (c is not None)
            if c is None:
                continue
            told += 1
            start = len(t.segments[0])
            assert row.extra[WEIGHT].tolist() == [0] * start + [1] * len(t.last)
            # The vocabulary has fewer than 100 tokens, so the candidates are all of them and sum to one.
            assert torch.allclose(row.extra[TEACHER][start:].exp().sum(-1), torch.ones(len(t.last)), atol=1e-4)
            place = (row.extra[TOKENS][start:] == t.last.tokens[:, None]).nonzero()[:, 1]
            at = row.extra[TEACHER][start:].gather(1, place[:, None])[:, 0]
            assert torch.allclose(at, row.extra[SAMPLED][start:], atol=1e-4)
    assert told == run.counts[recipe.mechanism] > 0


def test_behind_a_hint_the_teacher_does_not_expect_a_guess(policy):
    _, _, found = collected(policy)
    guessed, worked = [], []
    for t, row in zip([t for g in found.groups for t in g], found.rows, strict=True):
        if row.extra:
            first = float(row.extra[SAMPLED][len(t.segments[0])])
            (guessed if t.completion.startswith("guess#") else worked).append(first)
    assert len(guessed) >= 3 and len(worked) >= 3
    assert sum(worked) / len(worked) > sum(guessed) / len(guessed) + 2  # nats


def test_shuffled_hints_are_another_prompts(policy):
    recipe, run, found = collected(policy, shuffled=True)
    contexts = recipe.contexts(found.groups, run)
    for k, own in enumerate(contexts):
        other = [t.completion for t in found.groups[(k + 1) % len(contexts)]]
        for c in own:
            if c is not None and not c.text.startswith("no#"):
                assert c.text.partition(".")[0] in other and found.groups[k].prompt.question in c.text


def test_a_shuffled_hint_is_never_the_prompts_own(policy):
    with pytest.raises(RecipeError, match="shuffled=True needs two different prompts"):
        collected(policy, prompts=1, shuffled=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"form": "token", "alpha": 1.0},
        {"teacher": "trust", "top_k": 8},
        {"teacher": "frozen", "alpha": 0.0},
        {"teacher": "live"},
        {"mix": 0.5},
        {"imitate": True},
        {"shuffled": True, "feedback": False},
    ],
)
def test_it_runs_on_the_shipped_base(tmp_path, options):
    summary, records = run_recipe("sdpo", tmp_path, model="embedded:chain-hint", options=options)
    assert summary["labels"] == "outcome" and summary["mechanism"]["count"] > 0
    assert all(r["grad_norm"] > 0 and r["skipped_updates"] == 0 for r in records)
    assert ("nll" in records[0]) == bool(options.get("imitate"))
    assert ("clip_low" in records[0]) == bool(options.get("mix"))


def test_the_teacher_follows_slowly_and_is_resumed(tmp_path):
    def start(out, stop=None):
        def look(record):
            if record["step"] == stop:
                raise InterruptedError

        values = {"recipe": "sdpo", "model": "embedded:chain-hint", "steps": 4, "prompts_per_step": 2}
        values |= {"eval_prompts": 0, "out": str(out), "checkpoint_every": 1, "options": {"group_size": 4}}
        trainer = build(make_config(values), look)
        trainer.evaluator = lambda policy: {}
        return trainer

    whole = start(tmp_path / "whole")
    whole.fit()
    teacher, live = whole.recipe.state_dict()["teacher"], dict(whole.policy.model.named_parameters())
    start_weights = weights_of(whole.reference)
    moved = sum(float((teacher[n] - start_weights[n]).norm()) for n in teacher)
    went = sum(float((live[n].detach() - start_weights[n]).norm()) for n in teacher)
    assert 0 < moved < 0.5 * went
    with pytest.raises(InterruptedError):
        start(tmp_path / "part", stop=3).fit()
    again, _ = resume(tmp_path / "part", [])
    again.evaluator = lambda policy: {}
    again.fit()
    for a, b in zip(whole.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_teacher_of_a_half_precision_policy_follows_as_far():
    """At the rates of tuning, a twentieth of what the policy has moved is below the rounding of its weights."""

    def share(half: bool) -> float:
        live = load_policy("embedded:chain-hint", device="cpu", dtype="bfloat16" if half else "float32")
        recipe = load_recipe("sdpo")
        teacher, optimiser = recipe.follower(live), make_optimizer(live, 1e-5, (0.9, 0.95), 1e-8, 0.0)
        start = weights_of(live.snapshot())
        for _ in range(60):
            for p in live.parameters():
                p.grad = torch.ones_like(p)
            optimiser.step()
            teacher.follow(live, recipe.ema)
        ends = recipe.state_dict()["teacher"], weights_of(live.snapshot())
        went = [sum(float((end[n].float() - w.float()).abs().sum()) for n, w in start.items()) for end in ends]
        return went[0] / went[1]

    assert share(half=True) == pytest.approx(share(half=False), rel=0.1)


def test_a_level_that_is_never_reached_counts_one_look_past_the_end(tmp_path):
    looks = {5: 0.5, 10: 0.75}
    records = [{"step": s} | ({"eval/pass@1": looks[s]} if s in looks else {}) for s in range(1, 11)]
    (tmp_path / "sdpo" / "seed-0").mkdir(parents=True)
    (tmp_path / "sdpo" / "seed-0" / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    found = [first_reach(Results({}, tmp_path), "sdpo", 0, level) for level in (0.5, 0.6, 0.8)]
    assert found == [5, 10, 15]


def test_a_hint_helps_the_base(policy):
    found = chain_hint.measure(policy, load_task("chain-hint").train[-60:], samples=6)
    assert found["teacher gap"] >= 0.15 and 0.3 <= found["pass@1"] <= 0.6
