"""Con: constraints by hand, the designed texts, disjoint prompts, and what the shipped base can do."""

from __future__ import annotations

import random

import pytest

from selfreward.lab.embedded import load_task
from selfreward.lab.tasks.writing.con.base import Corpus, slipped
from selfreward.lab.tasks.writing.con.strings import (
    CONSTRAINTS,
    bank,
    careful,
    careless,
    dev_prompts,
    judgement,
    judging,
    met,
    questions,
    repaired,
    spoiled,
    true_score,
)


def test_constraints_by_hand():
    question = "<d +c +e -a >b ="
    assert true_score(question, "d c e f f b") == 5
    assert true_score(question, "d c a f f b") == 3  # no e, and an a
    assert true_score(question, "d c e f b") == 0  # five letters meet nothing
    assert [met(c, "d c a f f b") for c in ("<d", "+e", "-a", ">b")] == [True, False, False, True]
    assert judgement(question, [True, False, True, True, False]) == "<d y +c n +e y -a y >b n # 3"


def test_texts_are_what_they_are_called():
    rng = random.Random(0)
    source = questions("train", rng)
    kept = better = worse = 0
    for _ in range(300):
        question = next(source)
        text = slipped(careful(question, rng), rng)
        assert true_score(question, careful(question, rng)) == CONSTRAINTS
        assert true_score(question, repaired(question, careless(rng), rng)) == CONSTRAINTS
        kept += true_score(question, text)
        better += true_score(question, repaired(question, text, rng))
        worse += true_score(question, spoiled(question, text, rng))
    assert better == 300 * CONSTRAINTS > kept > 2 * worse


def test_prompts_of_pretraining_training_and_test_are_disjoint():
    task = load_task("con")
    read = {document[0].strip("?*! ").split(" |")[0].removesuffix(" =") for document in Corpus().documents(3000, 0)}
    train, test = ({p.text.removesuffix(" =") for p in prompts} for prompts in (task.train, task.test))
    dev = {p.text.removesuffix(" =") for p in dev_prompts()}
    assert len(train) == 2000 and len(test) == 200 and not (read & train or read & test or train & test or train & dev)
    seed = [p for p in task.train if "demonstration" in p.fields]
    assert len(seed) == 64 and all(true_score(p.text, p.fields["demonstration"]) == 5 for p in seed)


def test_the_answer_space_grades():
    task = load_task("con")
    assert task.answers.grade("d c a f f b", "<d +c +e -a >b =") == 3
    assert not task.answers.correct("d c a f f b", "<d +c +e -a >b =") and task.answers.extract("d c") is None


@pytest.mark.parametrize("base", ["con"])
def test_the_shipped_base_judges_better_than_it_writes(base):
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams

    policy = load_policy(f"embedded:{base}", device="cpu")
    assert judging(policy, bank()[:100])["judge"] > 0.7
    groups = policy.sample(dev_prompts(50), 4, SamplingParams(8), seed=0)
    share = sum(true_score(g.prompt.text, c) for g in groups for c in g.completions) / 1000
    assert 0.4 < share < 0.7
