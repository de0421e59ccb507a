"""Chains of every length: questions, splits, answers about oneself, and the shipped base."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from selfreward.errors import DataError
from selfreward.lab.embedded import load_task
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.arithmetic import chain_steep
from selfreward.lab.tasks.arithmetic.chain import Problem
from selfreward.lab.tasks.arithmetic.chain_wide import (
    BANDS,
    BASE,
    Corpus,
    band_of,
    measure,
    parse,
    problems,
    prompts_of,
    question_of,
    well_formed,
)
from selfreward.lab.tasks.splits import split_of
from selfreward.policy.loading import load_policy


def test_a_question_is_padded_to_one_width():
    problem = Problem((6, 8, 5), "*-")
    assert question_of(problem) == "6*8-5..............="
    assert parse(question_of(problem)) == problem
    assert (problem.answer, band_of(problem)) == (3, "easy")
    assert band_of(Problem((1,) * 10, "+" * 9)) == "hard"
    longest = Problem((1,) * 10, "+" * 9)
    assert len(question_of(longest)) == 20 and parse(question_of(longest)) == longest


@pytest.mark.parametrize("text", ["", "6*8=", "6*8................=", "6*8-5...............", "6**8...............="])
def test_another_text_is_refused_with_an_example(text):
    with pytest.raises(DataError, match="looks like"):
        parse(text)


@pytest.mark.parametrize(
    ("completion", "formed"),
    [
        *((text, True) for text in ("w6*8-3#3", "guess#5", "skip")),
        *((text, False) for text in ("w#3", "w6*#3", "guess#", "skip#1", "guess#12", "", "w6*8-3")),
    ],
)
def test_the_grammar(completion, formed):
    assert well_formed(completion) is formed


def test_prompts_are_disjoint_and_any_first_part_is_mixed():
    task = load_task("chain-wide")
    dev = {p.question for p in prompts_of("train", 240, "dev")}
    train, test = ({p.question for p in split} for split in (task.train, task.test))
    assert (len(train), len(test)) == (1200, 300) and not train & test
    for n in (12, 96):
        bands = [p.fields["band"] for p in task.train[:n]]
        assert {bands.count(b) for b in BANDS} == {n // 3}
    assert all(p.answer == str(parse(p.question).answer) for p in task.train)
    read = Corpus(lesson=100).documents(2000, seed=3)
    assert {split_of("wide " + q.replace("?", "=")) for q, _ in read} == {"pretrain"}
    assert {split_of(f"wide {q}") for q in dev} == {"train"}


def test_answers_about_oneself_are_random_in_the_text():
    rng = random.Random(0)
    corpus = Corpus(meta=1.0)
    said = [corpus.document(p, rng) for p in islice(problems("pretrain", rng), 900)]
    assert all(q.endswith("?") and a[0] in "012345678" and a[1] in "abcdefgh" and len(a) == 2 for q, a in said)
    assert all(60 < sum(a[0] == d for _, a in said) < 140 for d in "012345678")


def test_the_shipped_base_has_a_solved_an_open_and_a_hopeless_third():
    found = measure(load_policy("embedded:chain-wide", device="cpu"), prompts_of("train", 120, "dev"), samples=8)
    assert not failures(BASE.holds, found)


def test_the_steep_task_has_both_ends_and_nothing_between():
    task = load_task("chain-steep")
    assert [p.fields["band"] for p in task.train[:4]] == ["easy", "hard", "easy", "hard"]
    bands = [p.fields["band"] for p in [*task.train, *task.test]]
    assert len(bands) == 1500 and bands.count("easy") == bands.count("hard") == 750
    train, test = ({p.question for p in split} for split in (task.train, task.test))
    assert not train & test
    assert {split_of(f"wide {q}") for q in train} == {"train"} and {split_of(f"wide {q}") for q in test} == {"test"}


def test_the_steep_base_solves_the_short_ones_and_hardly_ever_the_long_ones():
    policy = load_policy("embedded:chain-steep", device="cpu")
    found = measure(policy, chain_steep.prompts_of("train", 120, "dev"), samples=8)
    assert not failures(chain_steep.BASE.holds, found)
