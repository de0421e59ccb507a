"""MM-UPT: the vote on given questions and on the model's own, and a blind label as control."""

from __future__ import annotations

import json
import re

import pytest

from selfreward.data.answers import Regex
from selfreward.lab.embedded import load_task
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.run import RunContext
from selfreward.training.config import make_config
from selfreward.training.launch import build
from selfreward.types import Prompt
from tests.recipes.preference.test_scpo import group


def trained(tmp_path, **options):
    values = {"steps": 2, "prompts_per_step": 6, "eval_prompts": 0, "out": str(tmp_path / "run"), "log_groups": -1}
    options = {"group_size": 6, **options}
    trainer = build(make_config({"recipe": "mm-upt", "model": "embedded:chain-writer", "options": options, **values}))
    trainer.evaluator = lambda policy: {}
    summary = trainer.fit()
    rows = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    return summary, rows, json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])


def test_given_questions_are_answered_by_vote(tmp_path):
    summary, rows, record = trained(tmp_path)
    assert summary["labels"] == "none" and summary["mechanism"]["count"] == 12
    assert "questions/own" not in record
    for row in rows:
        paid = {c["answer"] for c in row["completions"] if c["reward"]}
        assert len(paid) == 1 and None not in paid


def test_the_model_writes_its_questions(tmp_path):
    _, rows, record = trained(tmp_path, questions="in-context")
    assert record["questions/own"] > 0.5 and record["tokens/generated/proposer"] > 0
    given = {p.question for p in load_task("chain-writer").train}
    form = load_task("chain-writer").templates["list_problem"]
    own = [r for r in rows if r["group"].split("/")[1] == "own"]
    assert own and all(re.fullmatch(form, r["prompt"]) for r in own)
    assert sum(r["prompt"] in given for r in own) < len(own) / 2


class Writer:
    """A policy that continues every list with the same text."""

    def __init__(self, text):
        self.text, self.asked = text, []

    def sample(self, prompts, n, params, role="solver"):
        self.asked += [p.question for p in prompts]
        return [group([self.text]) for _ in prompts]


@pytest.mark.parametrize(
    ("mode", "written", "asked", "shown"),
    [
        ("in-context", "nonsense,1+2+3+4+5+6,", "L3+3+3+3+4+5,", "1+2+3+4+5+6="),
        ("direct", "1+2+3+4+5+6,", "L", "1+2+3+4+5+6="),
        ("in-context", "3+3+3+3+4+5,", "L3+3+3+3+4+5,", "3+3+3+3+4+5="),  # a copy is not a new question
        ("direct", "nonsense", "L", "3+3+3+3+4+5="),
    ],
)
def test_what_cannot_be_read_is_replaced_by_the_given_question(mode, written, asked, shown):
    recipe = load_recipe("mm-upt", {"questions": mode})
    templates = load_task("chain-writer").templates
    run = RunContext(Regex(r"#(\d)"), bool, sampling=SamplingParams(4), step=1, steps=1, templates=templates)
    writer, given = Writer(written), Prompt("p", "3+3+3+3+4+5=")
    (prompt,) = recipe.write(writer, [given], run)
    assert writer.asked == [asked] and prompt.question == shown
    assert (prompt is given) == (shown == given.question) and prompt.answer is None


def test_a_blind_label_ignores_how_many_agree():
    recipe = load_recipe("mm-upt", {"pseudo_label": "random"})
    paid = []
    for seed in range(60):
        run = RunContext(Regex(r"#(\d)"), bool, sampling=SamplingParams(4), seed=seed, step=1, steps=1)
        found = group(["#5"] * 5 + ["#6"])
        found.meta["vote"] = {}
        recipe.relabel(found, run)
        paid.append(sum(found.rewards))
    assert set(paid) == {5.0, 1.0}
    assert 15 < paid.count(1.0) < 45  # a fair draw between two answers, not between six samples
