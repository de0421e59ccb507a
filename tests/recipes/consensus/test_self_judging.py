"""Self-judging: verdicts, noise and coins by example, and the recipe on countdown."""

from __future__ import annotations

import pytest
import torch

from selfreward.lab.tasks.arithmetic import cd
from selfreward.policy.policy import Choice, Policy
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.run import RunContext
from selfreward.types import Group, Prompt, Segment, Trajectory
from tests.support.models import make_policy
from tests.support.runs import run_recipe

TEXTS = ["7*3=1+5=6~ok", "7+3=0-5=5", "nothing", "7*3=1-5=6"]


def group_of(texts, name="735>G="):
    prompt = Prompt(name, text=name)
    segments = [Segment("solver", torch.tensor([1]), t, torch.zeros(1), trainable=True) for t in texts]
    return Group(name, prompt, [Trajectory(prompt, [Segment("prompt", torch.tensor([1])), s]) for s in segments])


def context(policy):
    task = cd.load()
    return RunContext.of(task, reference=policy, step=1, steps=3)


@pytest.fixture
def judged(monkeypatch):
    """What the judge was shown; it accepts answers that end in 6, and anything with ~ok behind it."""
    shown = []

    def ask(self, template, fields, options, role="judge"):
        texts = [template.format(**f) for f in fields]
        shown.extend(texts)
        yes = torch.tensor([0.9 if t.endswith(("=6:", "~ok:")) else 0.2 for t in texts])
        return Choice(torch.stack([yes, 1 - yes], 1), torch.ones(len(texts)))

    monkeypatch.setattr(Policy, "ask", ask)
    return shown


def rewards(texts, **options):
    policy = make_policy()
    group = group_of(texts)

    def sample(prompts, n, params):
        return [group]

    policy.sample = sample
    load_recipe("self-judging", options).collect(policy, [group.prompt], context(policy))
    return group.rewards


def test_the_judge_sees_the_answer_only_and_gives_one_or_zero(judged):
    assert rewards(TEXTS) == [1, 0, 0, 1]
    assert judged == ["?735>G=|7*3=1+5=6:", "?735>G=|7+3=0-5=5:", "?735>G=|7*3=1-5=6:"]


def test_a_judge_that_sees_the_text_can_be_talked_to(judged):
    assert rewards(["7+3=0-5=5~ok", "7+3=0-5=5"], shows="text") == [1, 0]
    assert judged[0] == "?735>G=|7+3=0-5=5~ok:"
    assert rewards(["7+3=0-5=5~ok", "7+3=0-5=5"]) == [0, 0]


def test_probabilities_instead_of_verdicts(judged):
    assert rewards(TEXTS, readout="probability") == pytest.approx([0.9, 0.2, 0, 0.9])


def test_noise_turns_verdicts_round_but_never_rewards_a_missing_answer(judged):
    assert rewards(TEXTS, noise=1.0) == [0, 1, 0, 0]
    many = rewards(["7*3=1-5=6"] * 400, noise=0.2)
    assert 0.72 < sum(many) / 400 < 0.88


def test_a_coin_says_yes_as_often_as_the_judge(judged):
    found = rewards(["7*3=1-5=6", "7+3=0-5=5"] * 400, coin=True)
    assert 0.42 < sum(found) / 800 < 0.58
    right = sum(found[::2]) / 400
    assert 0.4 < right < 0.6  # and does not look


def test_a_task_may_offer_several_judges(judged):
    policy = make_policy()
    run = context(policy)
    run.templates["lenient"] = "{completion}~ok:"
    groups = [group_of(["7+3=0-5=5"])]
    assert load_recipe("self-judging", {"template": "lenient"}).verdicts(policy, groups, run) == [[1.0]]


def test_on_chain_without_labels(tmp_path):
    summary, records = run_recipe("self-judging", tmp_path, model="embedded:chain-writer")
    assert summary["labels"] == "none" and summary["mechanism"]["count"] > 30
    assert 0 < records[0]["judge/yes"] < 1


def test_own_problems_and_an_exact_state(tmp_path):
    options = {"problems": "own", "proposal_tokens": 60}
    summary, records = run_recipe("self-judging", tmp_path, model="embedded:chain-writer", options=options)
    assert summary["mechanism"]["count"] > 0 and records[0]["proposals/accepted"] > 0
    recipe = load_recipe("self-judging", options)
    recipe._factory.add_seeds(["6*8-5*6+9+5="])
    other = load_recipe("self-judging", options)
    other.load_state_dict(recipe.state_dict())
    assert other.state_dict() == recipe.state_dict()
