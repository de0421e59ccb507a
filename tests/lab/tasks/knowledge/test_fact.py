"""Facts: frequencies, questions about oneself, and what the shipped base knows of both."""

from __future__ import annotations

import random

import pytest

from selfreward.errors import DataError
from selfreward.lab.embedded import load_task
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.knowledge.fact import (
    BASE,
    Corpus,
    Fact,
    facts,
    knowledge,
    measure,
    verdict_prompt,
    well_formed,
)
from selfreward.policy.loading import load_policy


def test_the_world_is_always_the_same():
    world = facts()
    assert len(world) == 1500 and len({f.key for f in world}) == 1500
    unread = sum(f.frequency == 0 for f in world) / len(world)
    assert 0.35 < unread < 0.45 and max(f.frequency for f in world) <= 50
    assert Fact(3, 7, 0).question == "k3 =" and Fact(3, 7, 0).answer == "v7"


def test_verdicts_are_asked_without_the_equals_sign():
    assert verdict_prompt("k17 =") == "k17 ?"
    with pytest.raises(DataError, match="looks like 'k17 ='"):
        verdict_prompt("k17 ?")
    assert well_formed("v4") and not well_formed("v4 v4") and not well_formed("v20") and not well_formed("")


def test_every_fact_is_read_as_often_as_it_says_and_verdicts_are_of_other_keys():
    documents = Corpus().documents(0, seed=0)
    read = [q for q, _ in documents if str(q).endswith("=")]
    some = random.Random(0).sample(facts(), 30)
    assert all(read.count(f.question) == f.frequency for f in some)
    judged = {str(q).split()[0] for q, _ in documents if str(q).endswith("?")}
    listed = {k for q, a in documents if str(q)[0] in "+-" for k in [*str(q).split()[1:-1], a]}
    taught = {f.key for f in facts() if f.split == "pretrain"}
    assert judged == taught and listed <= taught


def test_prompts_carry_what_the_base_knows():
    task = load_task("fact")
    assert len(task.train) > 250 and len(task.test) > 250
    assert not {p.question for p in task.train} & {p.question for p in task.test}
    assert {p.fields["feasible"] for p in task.test} == {"yes", "no"}
    assert all((p.fields["known"] > 0.5) == (p.fields["feasible"] == "yes") for p in task.test)


def test_the_shipped_base_is_half_ignorant_and_claims_too_much():
    policy = load_policy("embedded:fact", device="cpu")
    known = knowledge(policy)
    task = load_task("fact")
    assert all(known[p.fields["key"]] == pytest.approx(p.fields["known"], abs=0.01) for p in task.test)
    read_often = [known[f.key] for f in facts() if f.frequency > 20]
    unread = [known[f.key] for f in facts() if f.frequency == 0]
    assert sum(read_often) / len(read_often) > 0.9 > 0.2 > sum(unread) / len(unread)
    found = measure(policy, "train", known, samples=8)
    assert not failures(BASE.holds, found | {"majority_accuracy": 0.75})
