"""Grid: walks by hand, and what the splits and the bases promise."""

from __future__ import annotations

import json
import random

import pytest

from selfreward.errors import ConfigError, DataError
from selfreward.lab.embedded import base_of, base_path, load_task
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.pictures import grid
from selfreward.lab.tasks.pictures.grid import BASES, Corpus, Puzzle, measure, style, well_formed
from selfreward.lab.tasks.splits import split_of
from selfreward.policy.loading import load_policy

PICTURE = "IabaJbdcKacb"


@pytest.mark.parametrize(
    ("question", "walk", "answer"),
    [
        (f"#A|{PICTURE}=", "wI-0a+1b-1a+2J-2b-2d-2c-2K-2a+3c-3b-3", "3"),
        (f"@C|{PICTURE}=", "wI-.a-.b-.a-.J-.b-.d-.c+2K-2a-2c+2b-2", "2"),
        (f"^A|{PICTURE}=", "wI-0a+1b-1a+2J-2b-2d-2c-2K-2a+1c-1b-1", "u"),
        (f"^B|{PICTURE}=", "wI-0a-0b+1a-1J-1b+1d-1c-1K-1a-1c-1b+0", "="),
        (f"^C|{PICTURE}=", "wI-0a-0b-0a-0J-0b-0d-0c+0K-0a-0c+mb-m", "l"),
    ],
)
def test_walks_by_hand(question, walk, answer):
    puzzle = Puzzle.parse(question)
    assert puzzle.text == question
    assert (puzzle.walk(), puzzle.answer) == (f"{walk}!{answer}", answer)


def test_what_has_no_answer():
    bare = PICTURE.replace("c", "a")
    assert not Puzzle("@", "c", bare).sound and Puzzle("#", "c", bare).answer == "0"
    with pytest.raises(DataError, match="one looks like"):
        Puzzle.parse("#A|1abd=")


def test_a_slip_changes_what_is_seen_from_there_on():
    puzzle = Puzzle("#", "a", PICTURE)
    worlds = {puzzle.walk(random.Random(i), 0.1) for i in range(50)}
    assert len(worlds) > 10 and all(well_formed(w) for w in worlds)
    assert {style(c) for c in ("guess!5", "easy!0", "easy", next(iter(worlds)))} == {"guess", "easy", None, "walk"}


def test_pictures_do_not_cross_splits():
    task = load_task("grid-low")
    assert task is grid.load() and (len(task.train), len(task.test)) == (2000, 400)
    for prompts, split in ((task.train, "train"), (task.test, "test")):
        assert {split_of(Puzzle.parse(p.question).picture) for p in prompts[:300]} == {split}
        assert all(Puzzle.parse(p.question).answer == p.answer for p in prompts[:300])


def test_lists_ask_different_questions_about_one_picture():
    listed = Corpus().listed(Puzzle("#", "a", PICTURE), random.Random(0))
    assert len(set(listed)) == 3 and {q[3:] for q in listed} == {PICTURE}


@pytest.mark.parametrize("name", sorted(BASES))
def test_the_shipped_base_is_what_its_card_says(name):
    card = json.loads((base_path(name) / "task.json").read_text())
    said = card["measured on development prompts"]
    assert card["has_properties"] and not failures(BASES[name].holds, said)
    found = measure(load_policy(f"embedded:{name}", device="cpu"), grid.dev(40), lists=20)
    assert found["pass@1"] == pytest.approx(said["pass@1"], abs=0.12)
    assert found["valid questions"] >= 0.7


def test_an_unknown_base_is_named():
    with pytest.raises(ConfigError, match="grid-low"):
        base_of("grid-lov")
