"""The view task: twins that share the answer and not the shortcut, and bases with habits of their own."""

from __future__ import annotations

import math
import random
from itertools import islice

import pytest

from selfreward.errors import ConfigError
from selfreward.lab.embedded import base_of, base_path, load_task
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.arithmetic.chain import Problem, problems
from selfreward.lab.tasks.arithmetic.view import (
    BASES,
    ViewEvaluator,
    entropy,
    in_view_2,
    view_prompts,
)
from selfreward.lab.tasks.splits import split_of
from selfreward.policy.loading import load_policy


def test_prompts_are_in_view_1_and_their_twins_in_view_2():
    task = load_task("view")
    assert load_task("view-trap") is task
    assert (len(task.train), len(task.test)) == (2000, 400)
    for prompt in task.train[:100]:
        first, second = Problem.parse(prompt.question), Problem.parse(prompt.fields["twin"])
        assert not first.letters and second.letters
        assert first.answer == second.answer == int(str(prompt.answer))
        assert first.digits[-1] != second.digits[-1]
    shown = in_view_2(task.test[:5])
    assert [p.question for p in shown] == [p.fields["twin"] for p in task.test[:5]]
    assert [p.answer for p in shown] == [p.answer for p in task.test[:5]]


def test_splits_are_disjoint_also_from_development():
    keys = {s: {p.fields["key"] for p in view_prompts(s, n)} for s, n in (("train", 2000), ("dev", 200), ("test", 400))}
    assert not keys["train"] & keys["dev"] and not keys["train"] & keys["test"]
    assert {split_of(k) for k in keys["train"] | keys["dev"]} == {"train"}
    assert {split_of(k) for k in keys["test"]} == {"test"}


def test_each_view_has_its_own_habits():
    corpus, rng = BASES["view"].corpus, random.Random(0)
    written = [(p, corpus.solution(p, rng, corpus.slip, 1.0)) for p in islice(problems("pretrain", rng), 4000)]
    easy = {letters: [(p, s) for p, s in written if s[0] == "e" and p.letters == letters] for letters in (False, True)}
    assert {s for _, s in easy[False]} == {"easy#1"}
    assert all(s == f"easy#{p.digits[-1]}" for p, s in easy[True])
    views = [sum(p.letters == v for p, _ in written) for v in (False, True)]
    assert [len(easy[v]) / n for v, n in zip((False, True), views, strict=True)] == pytest.approx(
        [0.30, 0.15], abs=0.03
    )
    trapped = [BASES["view-trap"].corpus.solution(p, rng, 0.03, 1.0) for p, _ in written]
    assert sum(s[0] == "e" for s in trapped) / len(trapped) == pytest.approx(0.45, abs=0.03)


def test_entropy_of_answers():
    assert entropy(["1", "1", "2", "2"]) == pytest.approx(math.log(2))
    assert entropy(["7", "7"]) == 0
    assert entropy([]) == 0


@pytest.mark.parametrize("name", sorted(BASES))
def test_the_shipped_base_is_what_its_card_says(name):
    import json

    card = json.loads((base_path(name) / "task.json").read_text())
    assert card["has_properties"]
    assert not failures(BASES[name].holds, card["measured on development problems"])
    found = ViewEvaluator(load_task("view").test[:40], samples=4)(load_policy(f"embedded:{name}", device="cpu"))
    for view in ("view1", "view2"):
        assert found[f"{view}/pass@1"] == pytest.approx(
            card["measured on development problems"][f"{view}/pass@1"], abs=0.12
        )
        assert found[f"{view}/answer_entropy"] > 1.5
    assert found["pass@1"] == pytest.approx((found["view1/pass@1"] + found["view2/pass@1"]) / 2)


def test_an_unknown_base_is_named():
    with pytest.raises(ConfigError, match="view-trap"):
        base_of("view-trab")
