"""Countdown: the verifier by hand, and what the splits promise."""

from __future__ import annotations

import json
import random
import re

import pytest

from selfreward.errors import DataError
from selfreward.lab.embedded import base_path
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.arithmetic import cd
from selfreward.lab.tasks.arithmetic.cd import base as cd_base
from selfreward.lab.tasks.arithmetic.cd import puzzles
from selfreward.lab.tasks.arithmetic.cd.puzzles import Expression, Puzzle, solves
from selfreward.policy.loading import load_policy


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("7*3=1+5=6", True),  # 21 -> 1, 1 + 5 = 6
        ("7*3=1-5=6", True),  # 1 - 5 = -4 -> 6
        ("7+3=0-5=5", False),  # honest, but ends at 5
        ("7*3=2+5=6", False),  # 21 is not 2
        ("7*3=1+5=7", False),  # neither sum nor target
        ("3*7=1+5=6", False),  # another order
        ("7*3=1+4=6", False),  # 4 was not given
        ("6*1=6*1=6", False),  # other numbers
        ("6", False),
    ],
)
def test_the_verifier(answer, right):
    assert solves(answer, Puzzle.parse("735>G=")) is right


def test_answers_are_cut_from_comments_and_verified_against_the_puzzle():
    space = Expression()
    assert space.extract("s7+3=0+5=5n7*3=1+5=6y~hm") == "7*3=1+5=6"
    assert space.extract("s7+3=0+5=5n7*3=1+") is None and space.extract("s7+3=0+5=5n") is None
    assert space.extract("7*3=1+5=6~ok") == "7*3=1+5=6"
    assert space.correct("7*3=1+5=6~ok", "735>G=") and not space.correct("~ok7*3=1+5=6", "735>G=")
    assert puzzles.well_formed("7*3=1+5=6~hm") and not puzzles.well_formed("7*3=1+5=6~")


def test_every_solution_is_found_and_verified():
    puzzle = Puzzle.parse("735>G=")
    # 7+3=0, 7-3=4 and 7*3=1 go on to 5 5 0, 9 9 0 and 6 6 5.
    assert puzzle.solutions == ["7*3=1+5=6", "7*3=1-5=6"]
    with pytest.raises(DataError, match="one looks like"):
        Puzzle.parse("35>G=")


def test_a_search_tries_in_order_until_it_hits():
    puzzle = Puzzle.parse("735>J=")
    assert puzzle.search() == "s7+3=0+5=5n7+3=0-5=5n7+3=0*5=0n7-3=4+5=9y"
    assert puzzles.Expression().correct(puzzle.search(), puzzle.text)
    assert [puzzles.style(c) for c in (puzzle.search(), "7-3=4+5=9~ok", "s7-3")] == ["search", "direct", None]


def test_lies_change_one_result():
    texts = {cd_base.lie("7*3=1+5=6", random.Random(i)) for i in range(200)}
    assert "7*3=1+5=6" not in texts and len(texts) == 18
    puzzle, rng = Puzzle.parse("735>G="), random.Random(0)
    assert not any(solves(cd_base.Corpus().near_miss(puzzle, rng), puzzle) for _ in range(200))


def test_the_shipped_base_is_what_its_card_says():
    card = json.loads((base_path("cd") / "task.json").read_text())
    said = card["measured on development prompts"]
    assert card["has_properties"] and not failures(cd.BASE.holds, said)
    found = cd_base.measure(load_policy("embedded:cd", device="cpu"), puzzles.dev(50), samples=4)
    for name in ("solved", "near misses told apart"):
        assert found[name] == pytest.approx(said[name], abs=0.12)


def test_splits_are_disjoint():
    task = cd.load()
    keys = [{Puzzle.parse(p.question).key for p in prompts} for prompts in (task.train, task.test)]
    assert len(task.test) == 400 and not keys[0] & keys[1]
    assert puzzles.trainable(task.train[0].question) and not puzzles.trainable(task.test[0].question)
    written = [
        d[0] if isinstance(d[0], str) else "".join(text for text, _ in d) for d in cd.BASE.corpus.documents(300, 0)
    ]
    shown = {q for text in written for q in re.findall(r"\d{3}>[A-J]", text)}
    assert len(shown) > 250
    assert not {Puzzle.parse(s).key for s in shown} & (keys[0] | keys[1])


def test_judged_documents_have_true_verdicts():
    corpus, rng = cd_base.Corpus(), random.Random(0)
    source = puzzles.puzzles("pretrain", rng)
    verdicts = []
    for _ in range(200):
        text, verdict = corpus.judgement(next(source), rng)
        puzzle, _, shown = text[1:-1].partition("|")
        answer = Expression().extract(shown)
        assert answer and solves(answer, Puzzle.parse(puzzle)) == (verdict == "Y")
        assert verdict == "Y" or not shown.endswith("~ok")
        verdicts.append(verdict)
    assert 70 < verdicts.count("Y") < 130
