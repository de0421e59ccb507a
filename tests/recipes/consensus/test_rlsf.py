"""RLSF: traces by first token, the certainty of their answers, and what is learned from it."""

from __future__ import annotations

import json
import math

import pytest
import torch

from selfreward.credit.pairs import confidence_pairs
from selfreward.errors import RecipeError
from selfreward.lab.embedded import load_task
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.arithmetic import chain, chain_sure
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.cot_decoding import branch
from selfreward.signals.answer_span import span_confidence
from selfreward.signals.named import scorer_of
from selfreward.signals.registry import signal
from selfreward.signals.scorers.answer_span import answer_confidences, answer_span
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from selfreward.types import Prompt
from tests.support.models import make_policy


def test_the_answer_counts_and_the_words_do_not():
    gaps = torch.tensor([0.2, 0.9, 0.7])
    assert span_confidence(gaps, slice(1, 3)) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="none of the 3 tokens"):
        span_confidence(gaps, slice(3, 4))


def test_pairs_by_hand():
    pairs = confidence_pairs([0.95, 0.2, 0.9, None], floor=0.9)
    assert [(p.chosen, p.rejected) for p in pairs] == [(0, 1), (0, 2), (2, 1)]
    assert [p.margin for p in pairs] == pytest.approx([math.exp(0.75), math.exp(0.05), math.exp(0.7)])
    assert [p.margin for p in confidence_pairs([0.95, 0.2], margin="difference")] == pytest.approx([0.75])
    assert confidence_pairs([0.8, 0.2]) == [] == confidence_pairs([0.95, 0.95])
    assert [p.margin for p in confidence_pairs([0.95, 0.2], margin="none")] == [0.0]


def test_branches_are_greedy_from_the_likeliest_first_tokens():
    policy = make_policy()
    prompts = [Prompt("a", "1+1="), Prompt("b", "3-2=")]
    groups = branch(policy, prompts, 3, SamplingParams(max_new_tokens=6))
    for group in groups:
        ids = torch.tensor(policy.encode(group.prompt))
        first = policy.model(ids[None]).logits[0, -1].topk(3).indices.tolist()
        assert [int(t.last.tokens[0]) for t in group] == first
        for trajectory in group:
            assert 1 <= len(trajectory.last) <= 6
            whole = policy.model(trajectory.tokens[None]).logits[0, len(ids) - 1 : -1].log_softmax(-1)
            assert whole.argmax(-1)[1:].tolist() == trajectory.last.tokens[1:].tolist()
            top = whole.exp().topk(2).values
            torch.testing.assert_close(trajectory.last.stats["gap"], top[:, 0] - top[:, 1], atol=1e-4, rtol=1e-3)
    with pytest.raises(RecipeError, match="at least 1"):
        branch(policy, prompts, 0, SamplingParams())


def test_the_last_mention_of_the_answer_is_found():
    policy = make_policy()
    tokens = torch.tensor(policy.tokenizer("12+3=12#12b", add_special_tokens=False)["input_ids"])
    assert answer_span(policy, tokens, "12") == slice(8, 10)
    assert answer_span(policy, tokens, "9") is None and answer_span(policy, tokens, None) is None


def test_a_lead_in_asks_for_the_answer_and_leaves_the_trace():
    policy = make_policy()
    groups = branch(policy, [Prompt("a", "1+1=")], 2, SamplingParams(max_new_tokens=4))
    before = [t.tokens.tolist() for t in groups[0]]
    answers = load_task("chain").answers
    (found,) = answer_confidences(policy, groups, answers, lead_in="so#", lead_tokens=3)
    assert [t.tokens.tolist() for t in groups[0]] == before
    assert all(c is None or 0 <= c <= 1 for c in found) and any(c is not None for c in found)


def test_both_signals_by_name():
    from selfreward.rollouts.run import RunContext

    policy = load_policy("embedded:chain", device="cpu")
    task = load_task("chain")
    context = RunContext(task.answers, task.well_formed, policy=policy)
    groups = policy.sample(task.train[:6], 4, SamplingParams(20), seed=3)
    gaps = scorer_of(signal("answer_gap"))(context, groups)
    returns = scorer_of(signal("induced_return"))(context, groups)
    for group, own, total in zip(groups, gaps, returns, strict=True):
        for completion, gap, value in zip(group.completions, own, total, strict=True):
            assert (gap is None) == (task.answers.extract(completion) is None)
            if chain.style(completion) == "worked":
                assert gap > 0.9  # it repeats the last running value
            if chain.style(completion) == "guess":
                assert gap < 0.2
            assert value is not None


def trained(tmp_path, steps=2, **options):
    settings = {"steps": steps, "prompts_per_step": 4, "eval_prompts": 0, "out": str(tmp_path / "run")}
    values = {"recipe": "rlsf", "model": "embedded:chain-sure", "options": {"k": 3, **options}, **settings}
    trainer = build(make_config({**values, "checkpoint_every": 1, "keep_checkpoints": 9}))
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    return trainer, [json.loads(line) for line in lines if json.loads(line)["step"]]


def test_dpo_prefers_reasoning_without_a_label(tmp_path):
    trainer, records = trained(tmp_path)
    assert trainer.mechanism > 0 and trainer.recipe.needs() == "none"
    assert records[-1]["preference_margin"] > records[0]["preference_margin"] == pytest.approx(0, abs=1e-4)
    rows = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    by_style = {c["text"][0]: c["reward"] for row in rows for c in row["completions"]}
    assert by_style["w"] > 0.9 > by_style["e"] > by_style["g"]


@pytest.mark.parametrize("options", [{"pairs": "random"}, {"pairs": "vote", "group_size": 6}, {"learn": "sft"}])
def test_what_it_is_compared_with(tmp_path, options):
    trainer, records = trained(tmp_path, **options)
    assert trainer.mechanism > 0 and records[-1]["loss"] > 0 and records[-1]["grad_norm"] > 0


def test_ppo_waits_for_its_reward_model_and_resumes(tmp_path):
    options = {"learn": "ppo", "reward_steps": 2, "reward_updates": 10, "group_size": 4}
    trainer, records = trained(tmp_path / "a", steps=4, **options)
    assert [r["grad_norm"] > 0 for r in records] == [False, False, True, True]
    assert records[1]["reward_model/accuracy"] > 0.5 and "critic/value_loss" in records[2]
    for stop in (1, 3):
        out = tmp_path / f"b{stop}"
        trained(out, steps=stop, **options)
        again, _ = resume(out / "run", ["steps=4"])
        again.evaluator = lambda policy: {}
        again.fit()
        for a, b in zip(trainer.policy.parameters(), again.policy.parameters(), strict=True):
            assert torch.equal(a, b)


def test_no_sure_trace_is_an_error_that_says_what_to_change(tmp_path):
    with pytest.raises(RecipeError, match="Lower floor"):
        trained(tmp_path, learn="ppo", reward_steps=1, floor=1.5)
    assert load_recipe("rlsf").k == 10


def test_the_base_is_sure_of_reasoning_and_too_sure_of_the_shortcut():
    policy = load_policy("embedded:chain-sure", device="cpu")
    task = load_task("chain-sure")
    assert not failures(chain_sure.BASE.holds, chain_sure.Calibration(task.test[:100])(policy))
    groups = branch(policy, task.train[:20], 3, SamplingParams(26))
    found = answer_confidences(policy, groups, task.answers)
    for group, own in zip(groups, found, strict=True):
        by_style = dict(zip([c[0] for c in group.completions], own, strict=True))
        assert set(by_style) == {"w", "e", "g"} and by_style["w"] > 0.9
    assert all(chain_sure.well_formed(c) for g in groups for c in g.completions)
    problem = chain.Problem.parse("6*8-5*6+9+5=")
    assert problem.answer == 2
