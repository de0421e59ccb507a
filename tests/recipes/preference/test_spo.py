"""SPO: rewards by hand, the games' solutions, the reward-model baseline, and a resumed run."""

from __future__ import annotations

import random

import pytest
import torch

from selfreward.errors import ConfigError, RecipeError
from selfreward.lab.embedded import load_task
from selfreward.lab.tasks.writing.prefs import GAMES, chance, good, letters, prefer, wins
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.run import RunContext
from selfreward.signals.win_rates import Comparisons, exploitability
from selfreward.types import Group, Prompt, Segment, Trajectory
from tests.support.rounds import same_after_resume

SMALL = {"model": "embedded:prefs", "prompts_per_step": 4}


def group(question, texts):
    prompt = Prompt("p", question)
    head = Segment("prompt", torch.tensor([1]))
    segments = [Segment("solver", torch.tensor([2]), t, trainable=True) for t in texts]
    return Group("p", prompt, [Trajectory(prompt, [head, s]) for s in segments])


def ranked(texts, question="cycle =", **options):
    task = load_task("prefs")
    recipe = load_recipe("spo", {"preference": task.settings["preference"], **options})
    run = RunContext.of(task, sampling=SamplingParams(8), step=1, steps=1)
    made = group(question, texts)
    recipe.rank(None, made, run)
    assert run.counts[recipe.mechanism] == len(texts)
    return made.rewards, recipe


def test_rewards_by_hand():
    """Rock meets paper (.05) and the dud (.9); paper rock (.95) and the dud (.9); the dud loses .1 and .1."""
    rewards, _ = ranked(["rock", "paper", "dud"])
    assert rewards == pytest.approx([0.475, 0.925, 0.1])
    rewards, recipe = ranked(["rock", "paper"], opponents="queue", queue=4)
    assert rewards == pytest.approx([(0.5 + 0.05) / 2, (0.95 + 0.5) / 2])
    assert recipe._queue.opponents("p") == ["rock", "paper"]


def test_the_games_are_what_they_are_called():
    """Mixes that nothing beats: the circle's opposite edges .35, .4 and .45, and the even mix of x, y and z."""
    cycle, raters = torch.tensor([0.35, 0.4, 0.45, 0.0]) / 1.2, torch.tensor([1.0, 1, 1, 0]) / 3
    assert exploitability(cycle, wins("cycle")) == pytest.approx(0, abs=1e-6)
    assert exploitability(raters, wins("raters")) == pytest.approx(0, abs=1e-6)
    for i in range(3):
        assert exploitability(torch.eye(4)[i], wins("cycle")) >= 0.35 - 1e-6
    for game, answers in GAMES.items():
        assert all(chance(game, a, b) + chance(game, b, a) == pytest.approx(1) for a in answers for b in answers[:8])
    assert good("h h t h t h") and not good("h h t t t h")
    assert chance("halves", "h h t h t h", "h h t t t h") == 0.9 and chance("halves", "h h", "h h t t t h") == 0
    drawn = [prefer("noisy =", [("n0", "n5")], random.Random(i))[0] for i in range(400)]
    assert sum(drawn) / 400 == pytest.approx(0.7, abs=0.07)


def test_no_letter_is_good_or_bad_in_itself():
    """A model that is linear in letters gives every string of the halves the same score; one score each does not."""
    seen = Comparisons()
    for a in GAMES["halves"]:
        for b in GAMES["halves"]:
            seen.record("q", a, b, chance("halves", a, b))
    linear, free = seen.scores("q", letters), seen.scores("q")
    assert max(map(abs, linear.values())) < 1e-3
    assert min(free[s] for s in free if good(s)) > max(free[s] for s in free if not good(s))


def test_win_rates_of_a_reward_model_by_hand():
    """a won 3 of 4 against b: both meet one other, a is expected to win .75 of it but for the ridge, b .25."""
    seen = Comparisons()
    for chance_of_a in (1.0, 1.0, 1.0, 0.0):
        seen.record("q", "a", "b", chance_of_a)
    assert seen.win_rates("q", ["a", "b"]) == pytest.approx([0.75, 0.25], abs=0.01)
    assert seen.win_rates("unknown", ["a", "b"]) == pytest.approx([0.5, 0.5])


def test_a_reward_model_sees_no_circle():
    """Its ranking of the circle is a line: whoever is first of it would be beaten."""
    _, recipe = ranked(["rock", "paper", "scissors"], reward="bradley-terry")
    rewards, _ = ranked(["rock", "paper", "scissors"], reward="bradley-terry")
    assert rewards[1] > rewards[2] and rewards[1] > rewards[0]
    again = load_recipe("spo", {"reward": "bradley-terry"})
    again.load_state_dict(recipe.state_dict())
    assert again._seen.scores("cycle =") == recipe._seen.scores("cycle =")


def test_two_orders_of_a_judge_that_likes_the_first():
    class First:
        def ask(self, template, fields, options):
            from selfreward.policy.policy import Choice

            return Choice(torch.tensor([[1.0, 0.0]] * len(fields)), torch.ones(len(fields)))

    recipe = load_recipe("spo", {})
    assert recipe.preference == "judge" and recipe.needs() == "none"
    assert load_recipe("spo", {"preference": "selfreward.lab.tasks.writing.prefs:prefer"}).needs() == "preference"
    task = load_task("prefs")
    run = RunContext.of(task, sampling=SamplingParams(8), step=1, steps=1, templates={"pair": "{first} {second}"})
    made = group("cycle =", ["rock", "paper"])
    recipe.rank(First(), made, run)
    assert made.rewards == [0.5, 0.5]
    run.templates.clear()
    with pytest.raises(RecipeError, match="'pair'"):
        recipe.rank(First(), made, run)


def test_errors_speak():
    with pytest.raises(ConfigError, match="bradley-terry"):
        load_recipe("spo", {"reward": "elo"})
    with pytest.raises(ConfigError, match="module:function"):
        ranked(["rock", "paper"], preference="selfreward.lab.tasks.writing.prefs:nothing")


def test_it_runs_and_resumes(tmp_path):
    summary, steps = same_after_resume(tmp_path, "spo", {"opponents": "queue", "group_size": 4}, **SMALL)
    assert summary["labels"] == "preference"  # the testbed brings its own comparisons
    assert summary["mechanism"]["count"] == 4 * 4 * 4 and all(r["preference/queries"] > 0 for r in steps)
    assert all(r["reward/mean"] == pytest.approx(0.5, abs=0.2) for r in steps)
