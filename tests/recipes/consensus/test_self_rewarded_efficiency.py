"""Self-rewarded efficiency: brevity is paid among right answers only, on the group's own scale."""

from __future__ import annotations

import json

import pytest

from selfreward.errors import ConfigError
from selfreward.recipes.registry import load_recipe
from selfreward.training.config import make_config
from selfreward.training.launch import build


def run(tmp_path, **options):
    settings = {"steps": 2, "prompts_per_step": 4, "eval_prompts": 0, "log_groups": -1, "out": str(tmp_path / "run")}
    options = {"group_size": 8, **options}
    trainer = build(
        make_config({"recipe": "self-rewarded-efficiency", "model": "embedded:chain", "options": options, **settings})
    )
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    lines = (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()
    return trainer, [json.loads(line) for line in lines]


def test_the_shortest_right_answer_earns_most(tmp_path):
    trainer, groups = run(tmp_path, gamma=0.5)
    assert trainer.mechanism > 0
    for group in groups:
        right = [c for c in group["completions"] if c["reward"] > 0]
        assert all(1 <= c["reward"] <= 1.5 for c in right)
        if right:
            shortest = min(right, key=lambda c: c["tokens"])
            assert shortest["reward"] == 1.5
            longest = max(c["tokens"] for c in right)
            assert all(c["reward"] == 1 for c in right if c["tokens"] == longest > shortest["tokens"])


def test_gamma_warms_up(tmp_path):
    _, groups = run(tmp_path, gamma=0.5, warmup=4)
    for step, most in ((1, 1.125), (2, 1.25)):
        rewards = [c["reward"] for g in groups if g["step"] == step for c in g["completions"]]
        assert max(rewards) == pytest.approx(most)


def test_baselines_pay_wrong_answers(tmp_path):
    _, ungated = run(tmp_path / "a", gated=False, gamma=0.5)
    assert any(0 < c["reward"] < 1 for g in ungated for c in g["completions"])
    _, target = run(tmp_path / "b", yardstick="target", target=12, gamma=0.5)
    for group in target:
        for c in group["completions"]:
            truth = c["reward"] + 0.5 * abs(c["tokens"] - 12) / 12
            assert truth == pytest.approx(0, abs=1e-4) or truth == pytest.approx(1, abs=1e-4)


def test_options_are_checked():
    assert load_recipe("self-rewarded-efficiency").needs() == "outcome"
    assert load_recipe("self-rewarded-efficiency", {"correctness": "vote"}).needs() == "none"
    with pytest.raises(ConfigError, match="target=TOKENS"):
        load_recipe("self-rewarded-efficiency", {"yardstick": "target"})
    with pytest.raises(ConfigError, match="may be negative"):
        load_recipe("self-rewarded-efficiency", {"gamma": -1})
