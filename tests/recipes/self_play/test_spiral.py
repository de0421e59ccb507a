"""SPIRAL: one model on both sides, credit by role, opponents, and an exact state."""

from __future__ import annotations

import math

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.lab.embedded import load_task
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.boards import games
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe, recipe_class
from selfreward.rollouts.run import RunContext
from tests.support.runs import run_recipe, same_weights, whole_and_resumed

PLACE = {"model": "embedded:games", "data": "embedded:games", "max_new_tokens": 6}


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:games", device="cpu")


def context(step: int = 1) -> RunContext:
    task = load_task("games")
    return RunContext.of(task, sampling=SamplingParams(6, stats=()), step=step, steps=3)


def collect(policy, prompts=None, step: int = 1, recipe=None, **options):
    recipe = recipe or load_recipe("spiral", options)
    run = context(step)
    policy.seed(0, step)
    return recipe.collect(policy, prompts or load_task("games").train[:8], run), run


def test_both_sides_are_learned_each_with_its_own_return(policy):
    experience, run = collect(policy)
    for group in experience.groups:
        assert {t.meta["role"] for t in group} <= {0, 1}
        if len(group) == 2:
            assert sum(group.rewards) == 0
    turns = sum(s.trainable for g in experience.groups for t in g for s in t.segments)
    assert run.counts["turns credited by role"] == turns > 0


def test_an_opponents_words_carry_no_loss(policy):
    experience, _ = collect(policy)
    trajectories = [t for g in experience.groups for t in g]
    for row, trajectory in zip(experience.rows, trajectories, strict=True):
        own = torch.cat([torch.full((len(s),), float(s.trainable)) for s in trajectory.segments])
        assert torch.equal(row.mask, own) and float((row.advantage * (1 - own)).abs().sum()) == 0
    assert any(s.role == "opponent" for t in trajectories for s in t.segments)


def test_credit_by_role_by_hand(policy):
    recipe = load_recipe("spiral", {"decay": 0.5})
    prompts = [p for p in load_task("games").train if p.fields["game"] == "kuhn"][:3]
    experience, _ = collect(policy, prompts, recipe=recipe)
    baseline = {0: 0.0, 1: 0.0}
    trajectories = [t for g in experience.groups for t in g]
    for row, trajectory in zip(experience.rows, trajectories, strict=True):
        role = trajectory.meta["role"]
        wanted = trajectory.reward - baseline[role]
        assert float(row.advantage[row.mask > 0][0]) == pytest.approx(wanted)
        baseline[role] = 0.5 * baseline[role] + 0.5 * trajectory.reward
    assert recipe.state_dict()["means"]["sum"]["kuhn_poker/0"] == pytest.approx(baseline[0])


def test_without_a_baseline_and_with_the_group(policy):
    plain, _ = collect(policy, baseline="none")
    for row, trajectory in zip(plain.rows, (t for g in plain.groups for t in g), strict=True):
        assert float(row.advantage[row.mask > 0][0]) == trajectory.reward
    grouped, _ = collect(policy, baseline="group")
    assert all(
        abs(float(r.advantage[r.mask > 0][0])) == pytest.approx(0.7071, abs=1e-3)
        for r in grouped.rows
        if r.advantage.any()
    )


@pytest.mark.parametrize("opponent", ["random", "optimal", "snapshot"])
def test_against_another_each_state_is_played_from_either_side(policy, opponent):
    prompts = load_task("games").train[:4]
    experience, _ = collect(policy, prompts, opponent=opponent)
    for group in experience.groups:
        # Who never got to move, because the other erred at once, has nothing to learn.
        assert len({t.meta["role"] for t in group}) == len(group) <= 2
    assert any(len(g) == 2 for g in experience.groups)
    assert all(s.role in ("prompt", "player", "opponent") for g in experience.groups for t in g for s in t.segments)


def test_outcomes(policy):
    signs, _ = collect(policy, outcome="sign")
    assert {r for g in signs.groups for r in g.rewards} <= {-1.0, 0.0, 1.0}
    coins, _ = collect(policy, outcome="random")
    assert {r for g in coins.groups for r in g.rewards} == {-1.0, 1.0}
    with pytest.raises(ConfigError):
        load_recipe("spiral", {"opponent": "nobody"})


def test_the_snapshot_is_of_the_past(policy):
    def kept():
        return {k: v.clone() for k, v in recipe.state_dict()["past"]["weights"]["opponent"].items()}

    recipe = load_recipe("spiral", {"opponent": "snapshot", "refresh": 10})
    weights = {k: v.clone() for k, v in policy.state_dict().items()}
    changed = {k: v + 0.01 for k, v in weights.items()}
    collect(policy, recipe=recipe)
    policy.load_state_dict(changed)
    collect(policy, step=2, recipe=recipe)
    assert all(torch.equal(v, weights[k]) for k, v in kept().items())
    collect(policy, step=11, recipe=recipe)
    assert all(torch.equal(v, changed[k]) for k, v in kept().items())
    assert all(torch.equal(v, changed[k]) for k, v in policy.state_dict().items())
    policy.load_state_dict(weights)


@pytest.mark.parametrize("opponent", ["self", "snapshot"])
def test_a_resumed_run_repeats_the_bits(tmp_path, opponent):
    whole, again = whole_and_resumed("spiral", tmp_path, prompts_per_step=6, options={"opponent": opponent}, **PLACE)
    assert same_weights(whole, again)
    assert whole.recipe.state_dict()["means"] == again.recipe.state_dict()["means"]


def test_runs_and_needs_no_answers(tmp_path):
    summary, records = run_recipe("spiral", tmp_path, options={"group_size": 1}, **PLACE)
    assert summary["mechanism"]["count"] > 0 and summary["labels"] == "environment"
    assert all(p.answer is None for p in load_task("games").train)
    assert all(math.isfinite(r["loss"]) and r["thinking"] > 0 for r in records)


def test_perfect_games_are_imitated(tmp_path):
    summary, records = run_recipe("expert-games", tmp_path, options={"group_size": 1}, **PLACE)
    assert summary["mechanism"]["count"] > 0 and records[-1]["nll"] > 0
    assert recipe_class("expert-games").control


def test_questions_about_expected_value_by_hand():
    answers = dict(games.questions())
    assert answers["ev K pot1 cost5"] == "bet" and answers["ev J pot5 cost1"] == "pass"
    assert answers["ev Q pot3 cost2"] == "bet" and answers["ev Q pot2 cost3"] == "pass"
    assert "ev Q pot2 cost2" not in answers and len(answers) == 70


def test_the_base_is_legal_and_aimless(policy):
    found = games.measure(policy)
    assert not failures(games.BASE.holds, found) and found["safety"] == -found["exploitability"]
    assert 0.5 < found["ev accuracy"] < 0.75
