"""Adaptive effort: the number in the prompt decides which right answers were short enough."""

from __future__ import annotations

import json

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.lab.embedded import load_task
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.effort import effort_template, parse_efforts, put_effort, with_effort
from selfreward.training.config import make_config
from selfreward.training.launch import build, start, templates_of
from selfreward.types import Prompt
from tests.support.models import make_policy

SETTINGS = {"prompts_per_step": 8, "eval_prompts": 0, "log_groups": -1, "limit": 8}
TEMPLATE = "!{effort}?{prompt}"


def run(tmp_path, steps=2, **options):
    options = {"group_size": 6, "template": TEMPLATE, **options}
    config = make_config(
        {
            "recipe": "e1-adaptive-effort",
            "model": "embedded:chain",
            "options": options,
            "steps": steps,
            "out": str(tmp_path / "run"),
            **SETTINGS,
        }
    )
    trainer = build(config)
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    lines = (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()
    return trainer, [json.loads(line) for line in lines]


def test_a_right_answer_is_paid_below_its_share_of_the_prompts_mean_length(tmp_path):
    trainer, groups = run(tmp_path, momentum=0.5, steps=1)
    answers = {p.text: p.answer for p in load_task("chain").train}
    for group in groups:
        shown, _, question = group["prompt"].partition("?")
        assert shown == f"!{group['effort']:g}"
        lengths = [c["tokens"] for c in group["completions"]]
        mean = sum(lengths) / len(lengths)  # the first visit: only this group is known
        for c in group["completions"]:
            right = c["answer"] == answers[question]
            assert c["reward"] == float(right and c["tokens"] / mean < group["effort"])
    assert trainer.mechanism > 0


def test_the_mean_covers_all_efforts_of_a_prompt_or_the_same_one():
    recipe = load_recipe("e1-adaptive-effort", {"momentum": 0.5})
    recipe.note("p", 1.5, [30, 10])
    recipe.note("p", 0.5, [8, 8])
    # (.25 * 20 + .5 * 8) / .75 = 12, of which half is 6.
    assert recipe.rewards("p", 0.5, [1, 1, 0], [5, 6, 5]) == [1, 0, 0]
    same = load_recipe("e1-adaptive-effort", {"momentum": 0.5, "average": "same"})
    same.note("p", 1.5, [30, 10])
    same.note("p", 0.5, [8, 8])
    assert same.rewards("p", 0.5, [1, 1], [3, 5]) == [1, 0]  # half of 8
    top = load_recipe("e1-adaptive-effort", {"momentum": 0.5, "average": "top"})
    top.note("p", 0.5, [8, 8])
    assert top.rewards("p", 0.5, [1, 1], [3, 5]) == [1, 0]  # not asked at 1.5 yet: half of 8
    top.note("p", 1.5, [30, 10])
    assert top.rewards("p", 0.5, [1, 1], [9, 10]) == [1, 0]  # half of 20
    floor = load_recipe("e1-adaptive-effort", {"average": "same", "floor": 6})
    floor.note("p", 0.5, [8, 8])
    assert floor.rewards("p", 0.5, [1, 1], [5, 6]) == [1, 0]


def test_budgets_are_the_same_for_every_question():
    recipe = load_recipe("e1-adaptive-effort", {"reward": "budget", "unit": 16})
    recipe.note("p", 0.5, [30])
    recipe.note("q", 0.5, [4])
    for prompt in "pq":
        assert recipe.rewards(prompt, 0.5, [1, 1], [7, 8]) == [1, 0]
    assert load_recipe("e1-adaptive-effort", {"reward": "correct"}).rewards("p", 0.25, [1, 0], [99, 1]) == [1, 0]


def test_hopeless_groups_are_skipped(tmp_path):
    _, groups = run(tmp_path, efforts="0.25,0.5", steps=1)
    records = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    hopeless = sum(not any(c["reward"] for c in g["completions"]) for g in groups)
    assert hopeless > 0
    assert records[-1]["effort/hopeless"] == pytest.approx(hopeless / len(groups))


def test_the_control_pays_for_another_effort_than_it_shows(tmp_path):
    _, groups = run(tmp_path, shown="permuted", steps=1)
    assert any(not g["prompt"].startswith(f"!{g['effort']:g}?") for g in groups)
    _, bare = run(tmp_path / "none", shown="none", steps=1)
    assert all(g["prompt"][0].isdigit() for g in bare)


def test_resuming_keeps_the_running_lengths(tmp_path):
    from selfreward.training.launch import resume

    def config(out, steps):
        options = {"group_size": 4, "template": TEMPLATE}
        return make_config(
            {"recipe": "e1-adaptive-effort", "model": "embedded:chain", "options": options, "steps": steps,
             "checkpoint_every": 2, "out": str(out), **SETTINGS}
        )  # fmt: skip

    whole, half = start(config(tmp_path / "whole", 4)), start(config(tmp_path / "half", 2))
    for trainer in (whole, half):
        trainer.evaluator = lambda policy: {}
        trainer.fit()
    again, _ = resume(tmp_path / "half", ["steps=4"])
    again.evaluator = lambda policy: {}
    again.fit()
    assert again.recipe.state_dict() == whole.recipe.state_dict()
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[name])


def test_effort_in_any_prompt():
    plain, chat = Prompt("a", text="2+2 {x}?"), Prompt("b", messages=({"role": "user", "content": "2+2?"},))
    assert put_effort(plain, 0.5).text == "2+2 {x}?\n\nReasoning effort: 0.5 (1 is your usual length, 0.5 half of it)."
    assert put_effort(chat, 2, {"effort": "[{effort}] {prompt}"}).messages == ({"role": "user", "content": "[2] 2+2?"},)
    assert put_effort(plain, 1.5, load_task("eff").templates).text == "e2+2 {x}?"
    with pytest.raises(ConfigError, match=r"no sign for the effort 0\.6; it has 0\.25, 0\.5, 0\.75, 1, 1\.5"):
        effort_template(0.6, load_task("eff").templates)
    with pytest.raises(ConfigError, match="above 0"):
        effort_template(0)
    with pytest.raises(ConfigError, match="two or more"):
        parse_efforts("1")
    with pytest.raises(ConfigError, match="numbers with commas"):
        parse_efforts("1,a")
    with pytest.raises(ConfigError, match="must contain"):
        load_recipe("e1-adaptive-effort", {"template": "{prompt}"})


def test_a_policy_that_is_asked_for_an_effort():
    policy = make_policy("llama")
    asked = with_effort(policy, 0.5, {"effort 0.5": "b{prompt}"})
    prompt = Prompt("a", text="1+1=")
    assert asked.encode(prompt) == policy.encode(Prompt("a", text="b1+1="))
    assert policy.encode(prompt) == policy.encode(Prompt("a", text="1+1="))
    assert asked.sample([prompt], 2, seed=0)[0].prompt is prompt


def test_a_trained_model_knows_its_words(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "config.yaml").write_text("model: embedded:eff\noptions: {template: '<{effort}>{prompt}'}\n")
    assert templates_of(str(tmp_path / "model")) == {"effort": "<{effort}>{prompt}"}
    (tmp_path / "config.yaml").write_text("model: embedded:eff\noptions: {template: ''}\n")
    assert templates_of(str(tmp_path / "model"))["effort 0.5"] == "b{prompt}"
    assert templates_of("somebody/model") == {}
    assert templates_of("embedded:eff")["effort 1"] == "d{prompt}"


def test_the_evaluation_asks_every_effort():
    recipe = load_recipe("e1-adaptive-effort")
    task = load_task("eff")
    seen = []

    class Asked:
        def __init__(self):
            self.encode = lambda prompt: prompt.text

    def measure(policy):
        seen.append(policy.encode(Prompt("a", text="q")))
        return {"pass@1": len(seen) / 10, "length": float(len(seen))}

    import dataclasses

    found = recipe.adapt(dataclasses.replace(task, evaluator=measure)).evaluator(Asked())
    assert seen == ["aq", "bq", "cq", "dq", "eq"]
    assert found["pass@1"] == found["pass@1 at 1.5"] == 0.5
    assert found["length at 0.25"] == 1


def test_curves_are_compared_at_equal_length():
    from selfreward.lab.proofs.likelihood.e1_adaptive_effort import gap

    assert gap([(4, 0.4), (8, 0.8)], [(10, 0.5), (6, 0.5)]) == pytest.approx(0.2)
    assert gap([(4, 0.4), (5, 0.5)], [(8, 0.3), (9, 0.9)]) == pytest.approx(0.2)  # nearest ends: .5 and .3
