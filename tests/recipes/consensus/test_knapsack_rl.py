"""Knapsack RL: group sizes follow the last visit, and every prompt weighs the same."""

from __future__ import annotations

import json

import pytest
import torch

from selfreward.recipes.registry import load_recipe
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume


def run(folder, steps=3, **options):
    values = {
        "recipe": "knapsack-rl",
        "model": "embedded:chain-wide",
        "options": {"group_size": 6, **options},
        "limit": 6,
        "steps": steps,
        "prompts_per_step": 6,
        "checkpoint_every": 1,
        "eval_prompts": 0,
        "log_groups": -1,
        "out": str(folder),
    }
    trainer = build(make_config(values))
    trainer.evaluator = lambda policy: {}
    return trainer


def groups_of(folder):
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def test_the_first_visit_is_uniform_and_the_budget_is_always_spent(tmp_path):
    trainer = run(tmp_path / "run")
    trainer.fit()
    by_step: dict[int, list[int]] = {}
    for group in groups_of(tmp_path / "run"):
        by_step.setdefault(group["step"], []).append(len(group["completions"]))
    assert by_step[1] == [6] * 6
    assert all(sum(sizes) == 36 and min(sizes) >= 2 for sizes in by_step.values())
    assert len(set(by_step[2])) > 1
    assert trainer.mechanism > 0 and trainer.recipe.solved


def test_solved_prompts_get_the_fewest_at_their_next_visit(tmp_path):
    trainer = run(tmp_path / "run", steps=2)
    trainer.fit()
    first = {g["prompt"]: g["completions"] for g in groups_of(tmp_path / "run") if g["step"] == 1}
    second = {g["prompt"]: len(g["completions"]) for g in groups_of(tmp_path / "run") if g["step"] == 2}
    rates = {p: sum(c["reward"] for c in cs) / len(cs) for p, cs in first.items()}
    solved = [p for p, r in rates.items() if r == 1]
    open_ones = [p for p, r in rates.items() if 0 < r < 1]
    assert solved and open_ones
    assert max(second[p] for p in solved) < min(second[p] for p in open_ones)


def test_every_prompt_has_the_same_weight(tmp_path):
    trainer = run(tmp_path / "run", steps=2)
    trainer.fit()
    found = {}

    def learn(experience, *rest):
        found["experience"] = experience
        return {}

    trainer.learner.learn = learn
    trainer._one_step()
    rows = iter(found["experience"].rows)
    for group in found["experience"].groups:
        rewards = torch.tensor(group.rewards)
        advantages = torch.tensor([float(next(rows).advantage[-1]) for _ in group])
        if rewards.std() > 0:
            plain = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
            assert advantages * len(group) / 6 == pytest.approx(plain, abs=1e-4)


def test_a_resumed_run_remembers_every_prompt(tmp_path):
    whole = run(tmp_path / "whole")
    whole.fit()
    part = run(tmp_path / "part", steps=2)
    part.fit()
    trainer, _ = resume(tmp_path / "part", ["steps=3"])
    trainer.evaluator = lambda policy: {}
    assert trainer.recipe.past.state_dict() == part.recipe.past.state_dict()
    assert trainer.recipe.solved == part.recipe.solved
    trainer.fit()
    assert trainer.recipe.state_dict() == whole.recipe.state_dict()


def test_gold_reads_answers_and_the_vote_does_not(tmp_path):
    assert load_recipe("knapsack-rl").needs() == "outcome"
    assert load_recipe("knapsack-rl", {"source": "vote"}).needs() == "none"
    trainer = run(tmp_path / "run", steps=2, source="vote")
    trainer.fit()
    assert any(c["reward"] for g in groups_of(tmp_path / "run") for c in g["completions"])


def test_one_lucky_sample_can_be_clipped(tmp_path):
    recipe = load_recipe("knapsack-rl", {"clip_advantage": 1.5, "equal_prompts": False})
    assert recipe.credit(torch.tensor([1.0] + [0.0] * 30)).max() > 5
    trainer = run(tmp_path / "run", steps=1, clip_advantage=0.5, equal_prompts=False)
    trainer.fit()
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < record["advantage_norm"] <= 0.5 * (6 * 6 * 24) ** 0.5
