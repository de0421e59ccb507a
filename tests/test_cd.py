"""Countdown: the verifier by hand, and what the splits promise."""

from __future__ import annotations

import random

import pytest

from selfreward.errors import DataError
from selfreward.tasks import cd, cd_base
from selfreward.tasks.cd import Expression, Puzzle, solves


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
    assert solves(answer, Puzzle.parse("735>6=")) is right


def test_answers_are_cut_from_comments_and_verified_against_the_puzzle():
    space = Expression()
    assert space.extract("7*3=1+5=6~ok") == "7*3=1+5=6"
    assert space.correct("7*3=1+5=6~ok", "735>6=") and not space.correct("~ok7*3=1+5=6", "735>6=")
    assert cd.well_formed("7*3=1+5=6~hm") and not cd.well_formed("7*3=1+5=6~")


def test_every_solution_is_found_and_verified():
    puzzle = Puzzle.parse("735>6=")
    # 7+3=0, 7-3=4 and 7*3=1 go on to 5 5 0, 9 9 0 and 6 6 5.
    assert puzzle.solutions == ["7*3=1+5=6", "7*3=1-5=6"]
    with pytest.raises(DataError, match="one looks like"):
        Puzzle.parse("35>6=")


def test_splits_are_disjoint():
    task = cd.load()
    keys = [{Puzzle.parse(p.question).key for p in prompts} for prompts in (task.train, task.test)]
    assert len(task.test) == 400 and not keys[0] & keys[1]
    assert cd.trainable(task.train[0].question) and not cd.trainable(task.test[0].question)
    corpus = cd_base.Corpus(lesson=0)
    shown = {text.lstrip("?")[:5] for text, _ in corpus.documents(300, 0) if text != "L"}
    assert not {Puzzle.parse(s).key for s in shown} & (keys[0] | keys[1])


def test_judged_documents_have_true_verdicts():
    corpus, rng = cd_base.Corpus(), random.Random(0)
    source = cd.puzzles("pretrain", rng)
    verdicts = []
    for _ in range(200):
        text, verdict = corpus.judgement(next(source), rng)
        puzzle, _, shown = text[1:-1].partition("|")
        answer = shown.split("~")[0]
        assert solves(answer, Puzzle.parse(puzzle)) == (verdict == "Y")
        assert verdict == "Y" or not shown.endswith("~ok")
        verdicts.append(verdict)
    assert 70 < verdicts.count("Y") < 130
