"""DSL: the interpreter and its tests by hand, what the base's text says, and what the base makes of feedback."""

from __future__ import annotations

import json
import random
import re

import pytest

from selfreward.data.answers import cluster
from selfreward.errors import DataError
from selfreward.lab.embedded import base_path
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.programs import dsl
from selfreward.lab.tasks.programs.dsl import base as dsl_base
from selfreward.lab.tasks.programs.dsl import programs
from selfreward.lab.tasks.programs.dsl.programs import SPACE, Problem, first_failure, parse, passed, run
from selfreward.lab.tasks.splits import first_distinct
from selfreward.policy.loading import load_policy
from selfreward.rollouts.recontext import success_or_error
from selfreward.signals.rules import graded
from selfreward.types import Group, Prompt, Segment, Trajectory
from tests.support.runs import run_recipe

PROBLEM = Problem(("^a", "-c", "+d", "<"), ("cabd", "aecb"), ("abce", "edcb", "bcea", "eabc", "dcba", "cead"))


@pytest.mark.parametrize(
    ("program", "made"),
    [
        ("-a", "bcd"),
        ("+b", "abbcd"),
        ("^c", "abCd"),
        ("<", "dcba"),
        ("/", "bcda"),
        ("-a/", "cdb"),  # bcd, then its first letter to the end
        ("/-a", "bcd"),  # bcda, then without a
        ("^a-a", "Abcd"),  # a capital is another letter
        ("+a+a", "aaaabcd"),  # aa, then each of them twice
        ("-e", "abcd"),  # nothing to drop
    ],
)
def test_programs_are_interpreted_from_left_to_right(program, made):
    assert run(program, "abcd") == made == run(parse(program), "abcd")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("-a+", r"from '\+' on"),
        ("-x", "from '-x' on"),
        ("__import__('os')", "cannot be read"),
        ("", "has 0"),
        ("<" * 9, "has 9"),
    ],
)
def test_what_is_no_program_is_refused(program, said):
    with pytest.raises(DataError, match=said):
        parse(program)


def test_a_question_shows_examples_and_the_reference_holds_the_tests():
    # cabd -> cAbd -> Abd -> Abdd -> ddbA
    assert PROBLEM.text == "cabd>ddbA;aecb>beA="
    assert PROBLEM.tests == "abce>ebA;edcb>bdde;bcea>Aeb;eabc>bAe;dcba>Abdd;cead>ddAe"
    assert PROBLEM.key == "+d-c<^a"


def test_a_program_is_right_by_what_it_does():
    assert SPACE.correct("#-c+d<^a", PROBLEM.tests)  # another order
    assert not SPACE.correct("#-c+d^a/", PROBLEM.tests)
    assert SPACE.correct("a.b.:x#^a-c+d<", PROBLEM.tests)
    # Without +d three tests still pass: abce, bcea and eabc hold no d.
    assert passed("^a-c<", PROBLEM.tests) == 3
    assert graded(["#^a-c<", "#^a-c+d<", "#^", "no program"], PROBLEM.tests, SPACE) == [0.5, 1.0, 0.0, 0.0]
    assert SPACE.extract("#-a#^") is None and SPACE.extract("-a") is None


def test_programs_that_do_the_same_are_one_answer():
    answers = ["^a-c", "-c^a", "^a-c<<", "^a", None, "////^a"]
    # Four rotations leave a string of four letters as it was, and not one of five.
    assert cluster(answers, SPACE) == [0, 0, 0, 1, None, 2]
    rng = random.Random(0)
    source = programs.problems("train", rng)
    for p in (next(source) for _ in range(50)):
        other = list(p.ops[:-1]) if rng.random() < 0.5 else [*p.ops, "<", "<"]
        same = SPACE.canonical("".join(other)) == SPACE.canonical("".join(p.ops))
        assert same == (passed(other, p.tests) == programs.TESTS)


def test_feedback_is_the_first_failed_test_or_the_place_that_was_not_read():
    assert SPACE.feedback("#^a-c<", PROBLEM.tests) == "edcb>bdde,got:bde"
    assert first_failure("^a-c+d<", PROBLEM.tests) == SPACE.feedback("#^a-c+d<", PROBLEM.tests) == ""
    assert SPACE.feedback("#^a-", PROBLEM.tests) == "?-" and SPACE.feedback("#<?.:>;=", PROBLEM.tests) == "??.:>"
    assert SPACE.feedback("a.b.", PROBLEM.tests) == "?a.b."


def test_self_distillation_is_told_the_failed_test_of_the_right_prompt():
    def group(question, tests, *texts):
        prompt = Prompt("p", question, reference=tests)
        own = [Trajectory(prompt, [Segment("solver", None, t)], reward=SPACE.grade(t, tests)) for t in texts]  # type: ignore[arg-type]
        for t in own:
            t.reward = float(t.reward == 1)
        return Group("p", prompt, own)

    hint, error = programs.TEMPLATES["hint"], programs.TEMPLATES["feedback"]
    one = group(PROBLEM.text, PROBLEM.tests, "#^a-c<", "#?")
    two = group("abcd>dcba=", "abcd>dcba;bcda>adcb", "#/", "#^")
    told = [c and c.text for c in success_or_error(one, SPACE, hint, error)]
    assert told == [f"edcb>bdde,got:bde!{PROBLEM.text}", f"??!{PROBLEM.text}"]
    # A control is told what failed elsewhere.
    told = [c and c.text for c in success_or_error(one, SPACE, hint, error, two)]
    assert told == [f"abcd>dcba,got:bcda!{PROBLEM.text}", f"?^!{PROBLEM.text}"]
    mixed = group(PROBLEM.text, PROBLEM.tests, "#^a-c<", "#^a-c+d<")
    told = [c and c.text for c in success_or_error(mixed, SPACE, hint, error)]
    assert told == [f"#^a-c+d<.{PROBLEM.text}", None]


def test_what_the_text_overlooks():
    rng = random.Random(0)
    careful = dsl_base.Corpus(overlooked=dict.fromkeys(programs.OVERLOOKED, 0.0))
    blind = dsl_base.Corpus(overlooked=dict.fromkeys(programs.OVERLOOKED, 1.0))
    assert careful.reads(PROBLEM, rng) == "a^b.c-d+e.:Abdd>ddbA<#^a-c+d<"
    assert blind.reads(PROBLEM, rng) == "a.b.c.d.e.:cabd>ddbA<#<"
    # What a test holds is not overlooked, and what stands in a hint is taken over.
    assert blind.reads(PROBLEM, rng, ["edcb"]) == "a.b.c-d+e.:abdd>ddbA<#-c+d<"
    assert blind.reads(PROBLEM, rng, sure=["^a", "/"]) == "a^b.c.d.e.:cAbd>ddbA/#^a/"
    unseen = Problem(("-e", "<"), ("abcd", "bcda"), PROBLEM.hidden)
    assert careful.reads(unseen, rng) == "a.b.c.d.e.:abcd>dcba<#<"


def test_splits_are_disjoint_by_program():
    task = dsl.load()
    assert len(task.train) == 2000 and len(task.test) == 400
    source = {split: programs.problems(split, random.Random(0)) for split in ("pretrain", "train", "test")}
    keys = {split: {next(p).key for _ in range(300)} for split, p in source.items()}
    assert not keys["pretrain"] & keys["train"] and not keys["train"] & keys["test"]
    assert not keys["pretrain"] & keys["test"]
    assert not {p.text for p in dsl_base.dev(200)} & {p.text for p in task.train + task.test}
    for p in task.test[:100]:
        assert len(p.answer.split(";")) == programs.TESTS and len(re.findall(">", p.text)) == programs.EXAMPLES
    assert first_distinct(iter("abac"), 3, str) == ["a", "b", "c"]


def test_the_shipped_base_is_what_its_card_says():
    card = json.loads((base_path("dsl") / "task.json").read_text())
    said = card["measured on development prompts"]
    assert card["has_properties"] and not failures(dsl.BASE.holds, said)
    found = dsl_base.measure(load_policy("embedded:dsl", device="cpu"), dsl_base.dev(50), samples=6)
    for name in ("pass@1", "again", "with feedback", "shuffled feedback"):
        assert found[name] == pytest.approx(said[name], abs=0.15), name


def test_self_distillation_learns_from_failed_tests(tmp_path):
    summary, records = run_recipe("sdpo", tmp_path, model="embedded:dsl")
    assert summary["mechanism"]["count"] > 0 and all(r["grad_norm"] > 0 for r in records)
