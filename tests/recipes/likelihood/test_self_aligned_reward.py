"""Self-aligned reward: what the recipe pays is the formula on likelihoods taken by an independent forward."""

from __future__ import annotations

import json
import math

import pytest
import torch

from selfreward.errors import ConfigError, RecipeError
from selfreward.recipes.registry import load_recipe
from selfreward.signals.scorers.efficiency import question_free
from selfreward.training.config import make_config
from selfreward.training.launch import build
from selfreward.types import Prompt
from tests.support.models import make_policy


def run(tmp_path, **options):
    settings = {"steps": 2, "prompts_per_step": 4, "eval_prompts": 0, "log_groups": -1, "out": str(tmp_path / "run")}
    options = {"group_size": 6, **options}
    trainer = build(
        make_config({"recipe": "self-aligned-reward", "model": "embedded:chain", "options": options, **settings})
    )
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    lines = (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()
    records = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    return trainer, [json.loads(line) for line in lines], [r for r in records if r["step"]]


def mean_logprob(model, head, tail):
    """By the model's own forward, one sequence at a time."""
    logits = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
    return sum(float(logits[len(head) + i - 1, t]) for i, t in enumerate(tail)) / len(tail)


def test_the_reward_is_correctness_plus_a_fifth_of_the_perplexity_ratio(tmp_path):
    trainer, groups, records = run(tmp_path)
    base = trainer.reference
    for group in [g for g in groups if g["step"] == 1][:2]:
        for c in group["completions"]:
            tail = base.tokenizer(c["text"])["input_ids"] + ([base.tokenizer.eos_token_id] if c["finished"] else [])
            head = base.tokenizer(group["prompt"])["input_ids"]
            with torch.no_grad():
                given = mean_logprob(base.model, head, tail)
                alone = mean_logprob(base.model, [base.tokenizer.bos_token_id], tail)
            sar = max(1 - math.exp(alone - given), -1)
            assert c["sar"] == pytest.approx(sar, abs=1e-3)
            truth = c["reward"] - 0.2 * sar
            assert truth == pytest.approx(0, abs=1e-3) or truth == pytest.approx(1, abs=1e-3)
    assert trainer.mechanism == 2 * 4 * 6
    assert trainer.recipe.needs() == "outcome"
    assert trainer.policy.counts.scored["question-free"] > 0
    assert 0 <= records[0]["sar/overlap"] < 1 and records[0]["sar/constant"] < 1


def test_alone_it_needs_no_label(tmp_path):
    trainer, groups, _ = run(tmp_path, correct_weight=0.0)
    assert trainer.recipe.needs() == "none"
    assert all(c["reward"] == pytest.approx(0.2 * c["sar"], abs=1e-4) for g in groups for c in g["completions"])
    assert load_recipe("self-aligned-reward", {"correctness": "vote"}).needs() == "none"
    assert load_recipe("self-aligned-reward", {"correct_weight": 0.0, "gated": True}).needs() == "outcome"


def test_another_question_explains_less(tmp_path):
    _, own, _ = run(tmp_path / "own")
    _, other, _ = run(tmp_path / "other", question="other")
    means = [sum(c["sar"] for g in x for c in g["completions"]) for x in (own, other)]
    assert means[0] > means[1]


def test_the_gate_and_the_length_arm(tmp_path):
    _, gated, _ = run(tmp_path / "a", gated=True)
    assert all(c["reward"] == 0 for g in gated for c in g["completions"] if c["reward"] < 0.5)
    trainer, penal, _ = run(tmp_path / "b", term="length")
    assert "question-free" not in trainer.policy.counts.scored
    for group in penal:
        tokens = [c["tokens"] for c in group["completions"]]
        mean = sum(tokens) / len(tokens)
        for c in group["completions"]:
            assert c["sar"] == pytest.approx(-min(1, max(-1, (c["tokens"] - mean) / c["tokens"])), abs=1e-4)


def test_alpha_moves_linearly():
    class Step:
        step, steps = 3, 5

    recipe = load_recipe("self-aligned-reward", {"alpha": 0.2, "alpha_end": 0.6})
    assert recipe.weight(Step()) == pytest.approx(0.4)
    assert load_recipe("self-aligned-reward").weight(Step()) == 0.2


def test_the_question_free_context_needs_a_token():
    policy = make_policy("llama")
    assert question_free(policy).tolist() == [policy.tokenizer.bos_token_id]
    assert question_free(policy, "1").tolist() == policy.tokenizer("1")["input_ids"]
    policy.tokenizer = type(
        "T", (), {"chat_template": None, "bos_token_id": None, "__call__": lambda s, t: {"input_ids": []}}
    )()
    with pytest.raises(ConfigError, match="empty=TEXT"):
        question_free(policy)


def test_a_prompt_without_an_answer_is_named(tmp_path):
    trainer, _, _ = run(tmp_path)
    with pytest.raises(RecipeError, match="prompt 'p7' has none"):
        group = trainer.policy.sample([Prompt("p7", text="6*8-5*6+9+5=")], 2, trainer.sampling, seed=0)[0]
        trainer.recipe.verdicts(group, None)


def test_domination_by_hand():
    from selfreward.lab.proofs.likelihood.self_aligned_reward import dominated

    assert dominated([(10, 0.9), (8, 0.7)], [(9, 0.8)]) == 0
    assert dominated([(10, 0.9), (8, 0.7)], [(8, 0.9)]) == 1
    assert dominated([(10, 0.9), (8, 0.7)], [(8, 0.8), (9, 0.6)]) == 0.5
