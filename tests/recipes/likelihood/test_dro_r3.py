"""DRO: R3 and its parts by hand, what the masked baseline changes, and the state of scorer and filter."""

from __future__ import annotations

import json
import math

import pytest
import torch

from selfreward.credit.advantages import group_normalised
from selfreward.errors import ConfigError, RecipeError
from selfreward.lab.embedded import load_task
from selfreward.lab.tasks.writing import report
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.signals.reference import (
    outcome_length_reward,
    overlap,
    propagated,
    reasoning_reflection,
    spread_weights,
    token_spread,
    too_hard,
    worth_learning,
)
from selfreward.signals.scorers.reference import ReferenceScorer
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from selfreward.types import Group, Prompt
from tests.support.models import save_random

# Three traces, three reference tokens. Only the last token depends on the trace.
TRACES = torch.tensor([[-1.0, -2.0, -1.0], [-1.0, -2.0, -4.0], [-1.0, -2.0, -4.0]])


def test_r3_by_hand():
    # Token 2: mean -3, deviations 2, -1, -1, so sigma = sqrt(6 / 3) = sqrt 2.
    assert token_spread(TRACES).tolist() == pytest.approx([0, 0, math.sqrt(2)])
    weights = spread_weights(token_spread(TRACES))
    assert weights.tolist() == [0, 0, 1]
    masked = torch.tensor([-1.0, -2.0, -3.5])
    assert reasoning_reflection(TRACES, weights, masked).tolist() == [2.5, -0.5, -0.5]
    # The aggregate is the mean over all tokens.
    uniform = spread_weights(token_spread(TRACES), "uniform")
    assert reasoning_reflection(TRACES, uniform).tolist() == pytest.approx([-4 / 3, -7 / 3, -7 / 3])


def test_the_shapes_by_hand():
    spread = torch.tensor([0.0, 1.0, 3.0])
    assert spread_weights(spread).tolist() == [0, 0.25, 0.75]
    assert spread_weights(spread, "squared").tolist() == pytest.approx([0, 0.1, 0.9])
    assert spread_weights(spread, "top", 0.3).tolist() == [0, 0, 1]
    assert spread_weights(spread, "top", 1.0).tolist() == [0, 0.5, 0.5]  # what never varies is not reflective
    assert spread_weights(torch.zeros(3)).tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="Unknown shape"):
        spread_weights(spread, "cubic")  # type: ignore[arg-type]


def test_the_masked_baseline_cancels_inside_a_group():
    weights = torch.tensor([0.2, 0.3, 0.5])
    without = reasoning_reflection(TRACES, weights)
    with_it = reasoning_reflection(TRACES, weights, torch.tensor([-9.0, -1.0, -0.1]))
    assert not torch.allclose(without, with_it)
    assert torch.allclose(group_normalised(without), group_normalised(with_it), atol=1e-6)


def test_propagation_by_hand():
    # p = [.5, 1, 1], token 0 reflective, gamma = ln 2: P_0(1) = .5 + .5 (1 - 1/2) = .75, P_0(2) = .5 + .5 (1 - 1/4).
    logprob = torch.tensor([[0.5, 1.0, 1.0]]).log()
    found = propagated(logprob, torch.tensor([True, False, False]), gamma=math.log(2))
    assert found.exp()[0].tolist() == pytest.approx([0.5, 0.75, 0.875])
    # A second reflective token multiplies: P_1(2) = p_1 + (1 - p_1) / 2 = 1 for p_1 = 1.
    both = propagated(logprob, torch.tensor([True, True, False]), gamma=math.log(2))
    assert both.exp()[0].tolist() == pytest.approx([0.5, 0.75, 0.875])
    # Nothing is foreseen: the token right behind is discounted to 1 - 1/2.
    lost = propagated(torch.tensor([[-40.0, 0.0]]), torch.tensor([True, False]), gamma=math.log(2))
    assert float(lost[0, 1].exp()) == pytest.approx(0.5)


def test_length_and_overlap_by_hand():
    assert outcome_length_reward([10, 15, 0], 10).tolist() == [1, 0.5, 0]
    assert outcome_length_reward([15], 10, beta=0.2).tolist() == pytest.approx([0.9])
    assert overlap("abc", "abd") == 0.5
    assert overlap("abab", "ab") == pytest.approx(2 / 4)
    assert overlap("a", "ab") == 0.0


def test_the_filter_by_hand():
    ranks = torch.tensor([[1.0, 9.0], [1.0, 5.0]])
    assert too_hard(ranks, worst=0.5, k=4) and not too_hard(ranks, worst=0.5, k=6)
    spread, hard = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 9.0}, {"a": False, "b": False, "c": False, "d": True}
    assert worth_learning(spread, hard, drop=1 / 3) == (["a", "c"], {"too_hard": 1, "no_reasoning": 1})
    assert worth_learning(spread, hard, drop=0.0)[0] == ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"drop is 1"):
        worth_learning(spread, hard, drop=1.0)


def test_the_report():
    task = load_task("report")
    for prompt in task.train[:20]:
        fine = f"b => {prompt.reference}"
        assert report.well_formed(fine) and report.computed_share(fine, prompt.reference) == 1.0
    first = task.train[0]
    words = str(first.reference).split()
    at = report.COMPUTED[0]
    words[at] = str((int(words[at]) + 1) % 10)
    assert report.computed_share("w 1 => " + " ".join(words), first.reference) == 0.75
    assert report.computed_share("w 1", first.reference) == 0.0
    assert not {p.text for p in task.train} & {p.text for p in task.test}


def test_the_shipped_base_reasons_right_and_guesses_wrong():
    """What the proof rests on: a worked thought leads to right numbers, and plain words; a brief one to neither."""
    policy = load_policy("embedded:report", device="cpu")
    found = report.measure(policy, report.dev_prompts(12), samples=8)
    assert 0.25 <= found["worked"] <= 0.75 and found["format"] >= 0.8
    assert found["worked computed"] >= 0.75 and found["brief computed"] <= 0.3
    prompts = report.dev_prompts(12)
    groups = policy.sample(prompts, 8, SamplingParams(report.SETTINGS["max_new_tokens"], stats=()), seed=1)
    fine = {
        kind: [report.fine_share(report.outcome(c) or "") for g in groups for c in g.completions if c.startswith(kind)]
        for kind in "wb"
    }
    assert sum(fine["b"]) / len(fine["b"]) > sum(fine["w"]) / len(fine["w"]) + 0.2


def test_the_weights_find_the_computed_tokens():
    policy = load_policy("embedded:report", device="cpu")
    prompts = report.dev_prompts(6)
    groups = policy.sample(prompts, 8, SamplingParams(report.SETTINGS["max_new_tokens"], stats=()), seed=0)
    scorer, spreads = ReferenceScorer(policy, report.MARK), []
    for prompt, group in zip(prompts, groups, strict=True):
        thoughts = [part[0] for part in map(scorer.split, group.completions) if part]
        spreads.append(token_spread(scorer(prompt, thoughts, str(prompt.answer)).logprob)[: len(report.SLOTS)])
    mean = torch.stack(spreads).mean(0)
    assert set(mean.argsort(descending=True)[:4].tolist()) == set(report.COMPUTED)


SETTINGS = {"prompts_per_step": 3, "eval_prompts": 0, "log_groups": -1, "checkpoint_every": 1, "max_new_tokens": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model with the task's words; about half of its lines hold the mark that ends a thought."""
    return save_random(report.TOKENS, tmp_path_factory.mktemp("model"))


def trainer_of(tmp_path, folder, steps=2, **options):
    values = {"recipe": "dro-r3", "model": str(folder), "data": "embedded:report", "lr": 1e-3, **SETTINGS}
    values |= {"steps": steps, "out": str(tmp_path / "run"), "options": {"group_size": 6, **options}}
    trainer = build(make_config(values))
    trainer.evaluator = lambda policy: {}
    return trainer


def records(tmp_path, name="metrics"):
    return [json.loads(x) for x in (tmp_path / "run" / f"{name}.jsonl").read_text().splitlines()]


def test_the_baseline_moves_rewards_and_no_gradient(tmp_path, folder):
    first = []
    for masked in (True, False):
        trainer = trainer_of(tmp_path / str(masked), folder, masked=masked, steps=1)
        trainer.fit()
        assert trainer.mechanism > 0
        first.append(records(tmp_path / str(masked))[1])
    with_it, without = first
    for key in ("advantage_norm", "loss", "grad_norm"):
        assert with_it[key] == pytest.approx(without[key], rel=1e-3, abs=1e-5)
    assert with_it["reward/mean"] != pytest.approx(without["reward/mean"], rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"reward": "aggregate"}, {"reward": "overlap"}, {"permute": True}, {"shape": "top"}, {"propagate": True}],
)
def test_variants_learn(tmp_path, folder, options):
    trainer = trainer_of(tmp_path, folder, steps=1, **options)
    trainer.fit()
    assert records(tmp_path)[-1]["grad_norm"] > 0
    assert (trainer.mechanism > 0) == (options.get("reward") != "overlap")


def test_unfinished_thoughts_are_left_out(tmp_path, folder):
    trainer = trainer_of(tmp_path, folder, steps=1)
    trainer.sampling = type(trainer.sampling)(max_new_tokens=40)
    trainer.fit()
    groups = records(tmp_path, "rollouts")
    assert all(c["reward"] == 0 for g in groups for c in g["completions"] if "=>" not in c["text"])
    whole = sum("=>" in c["text"] for g in groups for c in g["completions"])
    assert 0 < trainer.mechanism == whole < 18


def test_dropped_prompts_are_not_sampled_and_the_state_resumes(tmp_path, folder):
    options = {"scorer": "lagged", "lag": 2, "filter_every": 1, "drop_share": 0.5, "keep_dropped": 0.0}
    whole = trainer_of(tmp_path / "a", folder, steps=4, **options)
    whole.fit()
    assert whole.recipe._dropped and records(tmp_path / "a")[1]["filter/no_reasoning"] >= 1
    half = trainer_of(tmp_path / "b", folder, steps=2, **options)
    half.fit()
    again, _ = resume(tmp_path / "b" / "run", ["steps=4"])
    again.fit()
    assert again.recipe.state_dict()["dropped"] == whole.recipe.state_dict()["dropped"]
    for a, b in zip(whole.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_needs_a_reference():
    recipe = load_recipe("dro-r3")
    assert recipe.needs() == "outcome"
    with pytest.raises(RecipeError, match="'p' has no answer"):
        recipe.rewards(None, Group("p", Prompt("p", "q"), []), [0], None)  # type: ignore[arg-type]
