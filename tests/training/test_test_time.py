"""Selection and steering as a library calls them, on a tiny random model."""

from __future__ import annotations

import json

import pytest

from selfreward.errors import ConfigError, DataError
from selfreward.training.test_time import select, steering_vector
from tests.support.models import save_model

SETTINGS = {"answers": "regex:(\\d)", "max_new_tokens": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("models") / "llama"))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_one_answer_is_chosen_for_every_prompt(model, tmp_path):
    data = write(tmp_path / "q.jsonl", [{"prompt": f"{i}+1=", "answer": str(i + 1)} for i in range(6)])
    found = select(model, data, n=4, limit=5, settings=SETTINGS)
    assert len(found.selections) == 5 and [len(g) for g in found.groups] == [4] * 5
    assert (found.rule, found.score, found.scores) == ("majority", None, None)
    assert select(model, data, n=4, limit=5, settings=SETTINGS).selections == found.selections
    assert select(model, data, rule="best", n=4, limit=5, settings=SETTINGS).score == "self-certainty"
    row = next(found.records())
    assert row["prompt"] == "0+1=" and len(row["completions"]) == 4
    assert row["answer"] == (None if row["sample"] is None else row["completions"][row["sample"]])


def test_completions_from_elsewhere_need_no_model(tmp_path):
    rows = [{"prompt": "2+3=", "completions": ["5", "4", "5", "6"], "scores": [0.1, 0.9, 0.2, None]}]
    given = write(tmp_path / "c.jsonl", rows)
    settings = {"answers": "number"}
    assert next(select("nowhere", completions=given, settings=settings).records())["answer"] == "5"
    best = select("nowhere", completions=given, rule="best", settings=settings)
    assert (next(best.records())["answer"], best.scores, best.score) == ("4", [[0.1, 0.9, 0.2, None]], None)


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="There is no selection rule 'majorty'"):
        select("nowhere", rule="majorty")
    with pytest.raises(ConfigError, match="give one of the two"):
        select("nowhere", "a.jsonl", completions="b.jsonl")
    bad = write(tmp_path / "c.jsonl", [{"prompt": "2+3=", "completions": "5"}])
    with pytest.raises(DataError, match="field 'completions' must be a list of texts"):
        select("nowhere", completions=bad)
    with pytest.raises(ConfigError, match=r"--position is 'middle'; it must be mean, first or last"):
        steering_vector("nowhere", position="middle")


def test_a_steering_vector_needs_answers_or_a_vote(model, tmp_path):
    data = write(tmp_path / "q.jsonl", [{"prompt": f"{i}+1="} for i in range(6)])
    with pytest.raises(DataError, match="has no prompt with an answer"):
        steering_vector(model, data, settings=SETTINGS)
