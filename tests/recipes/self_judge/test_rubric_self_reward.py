"""Rubric self-reward: points by hand, grades that cannot be read, and which tokens learn."""

from __future__ import annotations

import json
import math

import pytest
import torch

from selfreward.data.answers import strip_thinking
from selfreward.errors import DataError
from selfreward.lab.embedded import base_path, load_task
from selfreward.lab.tasks.writing import rub
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.signals.rubric import f1_score, parse_grade, rubric_of, rubric_score
from selfreward.signals.scorers.rubric import RubricGrader
from selfreward.training.config import make_config
from selfreward.training.launch import build
from selfreward.types import Prompt
from tests.support.models import save_random


def test_points_by_hand():
    # 3 + 2 are possible. Met: the first and the fault, so 3 - 1 = 2 of 5.
    assert float(rubric_score([1, 0, 1], [3, 2, -1])) == pytest.approx(0.4)
    assert float(rubric_score([1, 1, 0], [3, 2, -1])) == 1.0
    # The fault alone: -1 of 5, clipped or not.
    assert float(rubric_score([0, 0, 1], [3, 2, -1])) == 0.0
    assert float(rubric_score([0, 0, 1], [3, 2, -1], low=None)) == pytest.approx(-0.2)
    # Probabilities: 3 * .5 + 2 * .25 - .5 = 1.5 of 5.
    assert float(rubric_score([0.5, 0.25, 0.5], [3, 2, -1])) == pytest.approx(0.3)
    # What was not graded leaves both sums: 3 of 3, then nothing at all.
    nan = float("nan")
    both = rubric_score(torch.tensor([[1.0, nan, 0.0], [nan, nan, 1.0]]), [3, 2, -1])
    assert float(both[0]) == 1.0 and bool(both[1].isnan())


def test_grades_are_read_from_json():
    assert parse_grade('{"explanation": "It says so.", "criteria_met": true}') is True
    assert parse_grade('Sure:\n```json\n{"criteria_met": false, "explanation": "no"}\n```') is False
    # A later object overrules an example, and broken JSON still has its verdict.
    assert parse_grade('e.g. {"criteria_met": true}. Mine: {"criteria_met": false}') is False
    assert parse_grade('{"explanation": "the "dose" is named", "criteria_met": true') is True
    for unreadable in ("", "yes", '{"criteria_met": "true"}', '{"criteria_met": 1}', '{"explanation": "x"}'):
        assert parse_grade(unreadable) is None
    assert parse_grade("y", "y", "n") is True and parse_grade("n", "y", "n") is False
    assert parse_grade("yn", "y", "n") is None
    assert strip_thinking("<think>a\nb</think> Take two.") == "Take two."
    assert strip_thinking("Take two. <think>hm") == "Take two."


def test_f1_by_hand():
    assert f1_score([True, True, False, False], [True, False, True, False]) == 0.5
    assert f1_score([False], [True]) == 0.0
    # Probabilities: .5 + .25 hits of 1 said and 2 true, 2 * .75 / 3.
    assert f1_score([0.5, 0.25, 0.25], [True, True, False]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "must be a list"),
        ([{"criterion": "a"}], "item 0 of 'rubric' has no number"),
        ([{"criterion": "a", "points": 1}, {"criterion": "", "points": 1}], "item 1 of 'rubric' has no text"),
        ([{"criterion": "a", "points": -1}], "no criterion of 'rubric' has positive points"),
    ],
)
def test_a_bad_rubric_is_named(value, message):
    with pytest.raises(DataError, match=message):
        rubric_of(value, "Prompt 'p1'")


def test_the_rules_of_the_task():
    rubric = rub.parse("+3 c -2 a +1 g =")
    assert rubric == (("c", 3), ("a", -2), ("g", 1))
    assert rub.question(rubric) == "+3 c -2 a +1 g ="
    assert rub.true_score(rubric, "a- b- c+ d+ e- f- g+ h-") == 1.0
    assert rub.true_score(rubric, "a- b- c+ d- e- f- g- h-") == pytest.approx(3 / 4)
    assert rub.true_score(rubric, "a+ b- c+ d- e- f- g+ h-") == pytest.approx((4 - 2) / 4)
    assert rub.true_score(rubric, "a+ b- c- d- e- f- g- h-") == 0.0
    for malformed in ("a- b- c+ d- e- f- g+", "a- b- c+ d- e- f- g+ h- h-", "b- a- c+ d- e- f- g+ h-"):
        assert rub.true_score(rubric, malformed) == 0.0
    assert rub.met("c", "a- b- c+ d- e- f- g- h-") and not rub.met("g", "a- b- c+ d- e- f- g- h-")
    task = load_task("rub")
    assert not {p.text for p in task.train} & {p.text for p in task.test}
    assert not {p.text for p in rub.dev_prompts(50)} & {p.text for p in task.train}


def test_agreement_by_hand():
    truth = [True, True, True, False]
    # 3/4 agree; by chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2.
    assert rub.kappa([1, 1, 0, 0], truth) == pytest.approx(0.5)
    assert rub.kappa([1, 1, 1, 1], truth) == 0.0
    # Sampled with probability .9 of the truth: .9 agree; yes is said in .7, so .7 * .75 + .3 * .25 = .6 by chance.
    assert rub.kappa([0.9, 0.9, 0.9, 0.1], truth) == pytest.approx(0.75)


def test_graders_read_no_outline_that_they_are_measured_on():
    documents = rub.Corpus(lesson=100).documents(400, 0)
    read = {head.split(" | ")[0][2:] for head, _ in documents if head[0] in "?%"}
    assert len(read) > 50 and {rub.text_split(text) for text in read} == {"pretrain"}
    assert {rub.text_split(text) for text, _, _ in rub.bank(100)} == {"test"}


@pytest.mark.parametrize("name", ["rub", "rub-other"])
def test_the_shipped_bases_write_badly_and_grade_well(name):
    card = json.loads((base_path(name) / "task.json").read_text(encoding="utf-8"))
    assert card["has_properties"] is True and card["task"] == name
    policy = load_policy(f"embedded:{name}", device="cpu")
    items = rub.bank(200)
    chances, truth = rub.grades(policy, [(t, c) for t, c, _ in items]), [met for _, _, met in items]
    assert rub.kappa([float(p > 0.5) for p in chances], truth) >= 0.9
    assert 0.55 <= rub.kappa(chances, truth) <= 0.85  # sampled verdicts err as often as those that it read
    groups = policy.sample(rub.dev_prompts(40), 4, SamplingParams(10, stats=()), seed=0)
    scores = [rub.true_score(rub.parse(str(g.prompt.text)), c) for g in groups for c in g.completions]
    assert 0.15 <= sum(scores) / len(scores) <= 0.45


class Scripted:
    """A grader that replies from a list."""

    def __init__(self, *replies):
        self.replies = list(replies)

    def sample(self, prompts, n, params, *, role, seed):
        return [type("Group", (), {"completions": [self.replies.pop(0)]})() for _ in prompts]


ITEM = {"question": "q", "response": "r", "criterion": "c"}


@pytest.mark.parametrize(
    ("parse", "replies", "grade", "failures"),
    [("unmet", ["?"], 0.0, 1), ("retry", ["?", '{"criteria_met": true}'], 1.0, 0), ("retry", ["?", "?"], 0.0, 1)],
)
def test_unreadable_grades_are_a_policy(parse, replies, grade, failures):
    grader = RubricGrader(Scripted(*replies), parse=parse)
    assert grader.met([ITEM, ITEM]) == [grade, grade]  # read alike, graded once
    assert grader.failures == failures


def test_dropped_grades_are_nan():
    grader = RubricGrader(Scripted("?"), parse="drop")
    assert math.isnan(grader.met([ITEM])[0])
    assert grader.failures == 1


def test_whole_scores_are_words_or_numbers():
    words = RubricGrader(Scripted("10", "3", "?"), {"grade-all": "{response}", "scores": rub.TEMPLATES["scores"]})
    assert words.scores([{"response": r} for r in "abc"]) == [1.0, 0.3, 0.0]
    assert words.failures == 1
    plain = RubricGrader(Scripted("Score: 7/10"))
    assert plain.scores([{**ITEM, "rubric": "+1 points: c"}]) == [0.7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model with the task's words: it writes and grades nonsense, in the right places."""
    return save_random(rub.TOKENS, tmp_path_factory.mktemp("model"))


def run(tmp_path, folder, **options):
    settings = {"steps": 2, "prompts_per_step": 4, "eval_prompts": 0, "out": str(tmp_path / "run"), "log_groups": -1}
    settings |= {"model": str(folder), "data": "embedded:rub", "max_new_tokens": 10, "lr": 1e-3}
    options = {"group_size": 4, "grading_tokens": 2, **options}
    trainer = build(make_config({"recipe": "rubric-self-reward", "options": options, **settings}))
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    return trainer, [json.loads(x) for x in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]


def test_rewards_are_the_points_of_the_logged_grades(tmp_path, folder):
    trainer, groups = run(tmp_path, folder)
    assert trainer.mechanism == sum(len(c["met"]) for g in groups for c in g["completions"]) > 0
    for group in groups:
        points = [item["points"] for item in group["rubric"]]
        assert group["prompt"] == rub.question([(i["criterion"], int(i["points"])) for i in group["rubric"]])
        for c in group["completions"]:
            assert set(c["met"]) <= {0.0, 1.0}
            assert c["reward"] == pytest.approx(float(rubric_score(c["met"], points)))
    assert trainer.policy.counts.generated["grader"] > 0


def test_permuted_rubrics_belong_to_other_prompts(tmp_path, folder):
    _, groups = run(tmp_path, folder, rubrics="permuted", readout="probability")
    assert all(g["prompt"] != rub.question([(i["criterion"], int(i["points"])) for i in g["rubric"]]) for g in groups)


def test_holistic_scores_are_tenths(tmp_path, folder):
    trainer, groups = run(tmp_path, folder, mode="holistic")
    rewards = {c["reward"] for g in groups for c in g["completions"]}
    assert trainer.mechanism == 2 * 4 * 4
    assert all(abs(r * 10 - round(r * 10)) < 1e-6 for r in rewards)


def test_it_reads_rubrics_and_nothing_else():
    recipe = load_recipe("rubric-self-reward")
    assert (recipe.needs(), recipe.fields) == ("outcome", ("rubric",))
    policy = load_policy("embedded:chain")
    asked = []
    policy.sample = lambda prompts, *a, **k: asked.extend(prompts) or []
    prompt = Prompt("p", "+1 c -1 b =", fields={"rubric": [{"criterion": "c", "points": 1}], "x": 1}, reference="r")
    with pytest.raises(DataError, match="Prompt 'q'"):
        recipe.collect(policy, [prompt, Prompt("q", "+1 c =")], None)
    assert asked == []
    locked = prompt.locked(recipe.name, recipe.fields)
    assert locked.reference is None and "x" not in locked.fields
