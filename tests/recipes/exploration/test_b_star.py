"""B-STaR: the configuration is chosen by balance, and what is kept follows it."""

from __future__ import annotations

import torch

from selfreward.lab.tasks.arithmetic.chain_long import noisy_steps
from selfreward.recipes.common.schedules import steps_between
from selfreward.recipes.registry import load_recipe
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from tests.support.runs import run_recipe

SMALL = {"process": "head", "warmup": 1, "updates": 6, "group_size": 12, "cycles": 2, "dev": 3, "trials": 8, "keep": 4}
SMALL |= {"coolest": 0.6, "hottest": 1.2, "by": 0.3, "lowest": -0.5, "highest": 1.0, "fine": 0.5}
BASE = {"model": "embedded:chain-long", "data": "embedded:chain-long", "prompts_per_step": 4}


def test_a_configuration_is_chosen_before_each_cycle(tmp_path):
    summary, records = run_recipe("b-star", tmp_path, 5, options=SMALL, **BASE)
    assert ["balance/score" in r for r in records] == [False, True, False, True, False]
    assert summary["mechanism"]["count"] == 2 * 3 * 4  # three temperatures, four thresholds, twice
    assert all(r["temperature"] in (0.6, 0.9, 1.2) and r["threshold"] in (-0.5, 0.0, 0.5, 1.0) for r in records[1:])
    assert records[1]["tokens/generated/dev"] > 0 and 0 <= records[1]["balance/score"] <= 1
    assert "head/loss" in records[1] and "head/loss" not in records[3] and summary["labels"] == "outcome"


def test_a_fixed_configuration_costs_no_search(tmp_path):
    options = {**SMALL, "choose": "fixed", "temperature": 0.7, "threshold": 0.5}
    _, records = run_recipe("b-star", tmp_path, 3, options=options, **BASE)
    assert all(r["temperature"] == 0.7 and r["threshold"] == 0.5 for r in records[1:])
    assert "tokens/generated/dev" not in records[-1]
    assert all(
        r.get("rejection/right", 1.0) == 1.0 for r in records[1:]
    )  # only right ones exceed 1/2 + a score below 1


def test_the_task_can_bring_the_process_reward(tmp_path):
    options = {**SMALL, "process": "task", "warmup": 0}
    summary, records = run_recipe("b-star", tmp_path, 2, options=options, **BASE)
    assert "head/loss" not in records[0] and "balance/score" in records[0] and summary["mechanism"]["count"] == 24
    assert records[0]["balance/samples"] <= 3 * 8 * 3  # three questions, eight samples, three temperatures


def test_the_stand_in_is_noise_on_truth_that_belongs_to_the_text():
    question, truth = "6*3-4+8-1+2*7-2+1-9+3=6", "*8-4+2-1+3*1-9+0-1+4"
    assert noisy_steps(question, truth, noise=0.0) == [2.0] * 10
    # One misread minus: that step is wrong, and the next ones follow from it.
    assert noisy_steps(question, "*8+2+0", noise=0.0) == [2.0, -2.0, 2.0]
    assert noisy_steps(question, "*8+") == noisy_steps(question, truth)[:1] != [2.0]


def test_the_control_draws_from_the_same_grid_without_looking(tmp_path):
    _, records = run_recipe("b-star", tmp_path, 3, options={**SMALL, "choose": "random"}, **BASE)
    scored = [r for r in records if "balance/score" in r]
    assert len(scored) == 2 and all(r["temperature"] in (0.6, 0.9, 1.2) for r in scored)
    assert records[-1]["tokens/generated/dev"] > 0  # the same cost


def test_a_restart_begins_from_the_start(tmp_path):
    def weights(**options):
        values = {**BASE, "recipe": "b-star", "eval_prompts": 0, "steps": 3, "out": str(tmp_path / str(len(options)))}
        chosen = {**SMALL, "choose": "fixed", "threshold": -1.0, **options}
        trainer = build(make_config({**values, "options": chosen}))
        trainer.evaluator = lambda policy: {}
        trainer.fit()
        return [p.detach() for p in trainer.policy.parameters()], list(trainer.reference.model.parameters())

    (on, start), (again, _) = weights(), weights(restart=True)
    drift = [sum(float((a - b).abs().sum()) for a, b in zip(w, start, strict=True)) for w in (on, again)]
    assert 0 < drift[1] < drift[0]


def test_it_resumes_in_every_phase(tmp_path):
    def run(out, steps):
        values = {**BASE, "recipe": "b-star", "eval_prompts": 0, "out": str(out), "checkpoint_every": 1, "steps": steps}
        trainer = build(make_config({**values, "options": {**SMALL, "cycles": 1}}))
        trainer.evaluator = lambda policy: {}
        trainer.fit()
        return trainer

    whole = run(tmp_path / "whole", 3)
    run(tmp_path / "part", 2)
    again, _ = resume(tmp_path / "part", ["steps=3"])
    again.evaluator = lambda policy: {}
    again.fit()
    assert again.recipe._chosen == whole.recipe._chosen is not None and list(again.recipe._dev) == list(
        whole.recipe._dev
    )
    for a, b in zip(whole.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_papers_grid():
    recipe = load_recipe("b-star")
    grid = steps_between(recipe.coolest, recipe.hottest, recipe.by)
    assert len(grid) == 15 and (grid[0], grid[-1]) == (0.5, 1.2) and (recipe.wanted, recipe.trials) == (8, 64)
