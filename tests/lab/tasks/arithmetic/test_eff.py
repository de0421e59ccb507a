"""EFF: its arithmetic by hand, splits that do not meet, and a base that is what the text says."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from selfreward.errors import DataError
from selfreward.lab.embedded import base_path, load_task
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.arithmetic import eff
from selfreward.lab.tasks.arithmetic.eff import problems
from selfreward.lab.tasks.arithmetic.eff.base import BASES, Corpus, Meaning
from selfreward.lab.tasks.splits import split_of
from selfreward.policy.loading import load_policy
from selfreward.rollouts.effort import with_effort
from selfreward.types import Group, Prompt, Segment, Trajectory


def test_a_problem_by_hand():
    problem = problems.Problem.parse("6*8-5........=")
    assert problem.values() == [8, 3]  # 48, then 8 - 5
    assert problem.answer == 3
    assert problem.text == "6*8-5........="
    assert problem.worked(random.Random(0)) == "w6*8-3"
    assert problems.Problem.parse("c6*8-5........=") == problem
    assert problems.operations("2+2..........=") == 1
    for bad in ("6*8-5=", "6*8-5........", "f6*8-5........=", "6*8-5+1+1+1+1+1="):
        with pytest.raises(DataError, match="not an eff question"):
            problems.Problem.parse(bad)


def test_styles_and_filler():
    assert problems.style("w6*8-3#3") == problems.style("w6*8-3#3hmhm") == "worked"
    assert problems.style("g#3") == "guess"
    for bad in ("", "g#", "w#3", "g#3h", "hmg#3", "g#3hm#3"):
        assert not problems.well_formed(bad)
    assert problems.fillers("g#3hmhm") == 2
    assert eff.load().answers.extract("g#3hmhm") == "3"


def test_the_splits_do_not_meet():
    task = load_task("eff")
    sets = [{p.text for p in prompts} for prompts in (task.train, task.test, problems.dev())]
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]
    assert {split_of(t) for t in sets[0] | sets[2]} == {"train"} and {split_of(t) for t in sets[1]} == {"test"}
    source = problems.problems("pretrain", random.Random(0))
    assert all(split_of(p.text) == "pretrain" for p in islice(source, 50))
    assert len({p.id for p in task.train}) == 2000
    assert {p.fields["operations"] for p in task.test} == set(range(1, 7))


def test_the_text_tells_nothing_about_signs():
    rng = random.Random(0)
    corpus = Corpus()
    documents = [corpus.document(p, rng) for p in islice(problems.problems("pretrain", rng), 8000)]
    signed: dict[str, list[int]] = {}
    for prompt, completion in documents:
        if prompt[0] in "abcde" and not prompt.endswith(">"):
            assert problems.well_formed(completion)
            signed.setdefault(prompt[0], []).append(len(completion))
    means = [sum(v) / len(v) for v in signed.values()]
    assert len(means) == 5 and max(means) - min(means) < 0.1 * min(means)
    order = [d for d in documents if len(d[0]) == 3]
    assert order and all(answer == max(prompt[:2]) for prompt, answer in order)
    assert 0.1 < sum(prompt == "<bos>" for prompt, _ in documents) / 8000 < 0.2


def test_in_the_other_text_signs_mean_a_little():
    rng = random.Random(0)
    corpus = Meaning()
    documents = [corpus.document(p, rng) for p in islice(problems.problems("pretrain", rng), 8000)]
    worked = {}
    for sign in "abcde":
        found = [c for q, c in documents if q[0] == sign and q.endswith("=")]
        worked[sign] = sum(c[0] == "w" for c in found) / len(found)
    # Six in ten go their own way (0.40 worked), four in ten follow the sign (0, 0.25, ... 1).
    for sign, share in zip("abcde", (0.0, 0.25, 0.5, 0.75, 1.0), strict=True):
        assert worked[sign] == pytest.approx(0.6 * 0.4 + 0.4 * share, abs=0.05)


def test_what_is_measured_by_hand():
    def group(text, answer, completions):
        prompt = Prompt(text, text=text, reference=answer)
        tokens = [Segment("solver", __import__("torch").arange(len(c) + 1), c, trainable=True) for c in completions]
        return Group(text, prompt, [Trajectory(prompt, [s]) for s in tokens])

    found = problems.summarise(
        [
            group("2+2..........=", "4", ["g#4", "w2+4#4hm"]),
            group("6*8-5+1+1+1..=", "6", ["w6*8-3+4+5+6#6", "g#1hmhm"]),
        ]
    )
    assert found["pass@1"] == 0.75
    assert (found["easy"], found["hard"], found["accuracy 1"], found["accuracy 5"]) == (1.0, 0.5, 1.0, 0.5)
    assert found["length"] == (4 + 9 + 15 + 8) / 4  # characters and the end token
    assert found["filler share"] == (2 + 4) / 36
    assert (found["worked share"], found["worked accuracy"], found["guess accuracy"]) == (0.5, 1.0, 0.5)
    assert "accuracy 3" not in found


def test_the_shipped_base_is_what_its_card_says():
    import json

    card = json.loads((base_path("eff") / "task.json").read_text())
    assert card["has_properties"]
    measured = card["measured on the test split"]
    assert not failures(BASES["eff"].holds, measured)
    # What thinking takes grows with the question, and does not help the guess.
    found = problems.evaluate(load_policy("embedded:eff", device="cpu"), problems.dev(60))
    for name, within in (("pass@1", 0.08), ("worked accuracy", 0.08), ("filler share", 0.05), ("worked share", 0.08)):
        assert found[name] == pytest.approx(measured[name], abs=within)
    assert found["length 6"] > found["length 1"]
    signs = json.loads((base_path("eff-signs") / "task.json").read_text())
    assert signs["has_properties"] and not failures(BASES["eff-signs"].holds, signs["measured on the test split"])
    task = load_task("eff-signs")
    policy = load_policy("embedded:eff-signs", device="cpu")
    low, high = (
        problems.evaluate(with_effort(policy, r, task.templates), problems.dev(30))["length"] for r in (0.25, 1.5)
    )
    assert low < high < 2 * low
    assert found["guess accuracy"] < found["worked accuracy"] - 0.4
