"""What the texts of the two CHAIN variants contain, and what the shipped bases do with them."""

from __future__ import annotations

import json
import random

import pytest

from selfreward.lab.embedded import base_path, load_task
from selfreward.lab.tasks.arithmetic import chain, chain_paths, chain_writer
from selfreward.policy.loading import load_policy
from selfreward.types import Prompt

PROBLEM = chain.Problem.parse("3+4-9+1+5-2=")  # 7, -2 -> 8, 9, 14 -> 4, 2


def test_solutions_are_worked_stop_early_and_misread():
    exact = chain_paths.Corpus(early=0.0, slip=0.0, misread=0.0)
    assert exact.solution(PROBLEM, random.Random(0)) == "w3+7-8+9+4-2#2"
    misread = chain_paths.Corpus(early=0.0, slip=0.0, misread=1.0)
    # 7 - 9 is read as 7 + 9 = 16 -> 6, then 7, 2, 0.
    assert misread.solution(PROBLEM, random.Random(0)) == "w3+7-6+7+2-0#0"
    early = chain_paths.Corpus(early=1.0, remaining=(1.0,), slip=0.0, misread=1.0)
    assert early.solution(PROBLEM, random.Random(0)) == "w3+7-6+7+2#0"
    # An answer given early never misreads: the last subtraction is of 9 here.
    last = chain.Problem.parse("3+4+1+1+5-9=")  # 7, 8, 9, 4, -5 -> 5
    assert early.solution(last, random.Random(0)) == "w3+7+8+9+4#5"
    assert misread.solution(last, random.Random(0)) == "w3+7+8+9+4-3#3"


@pytest.mark.parametrize("name", ["chain-paths", "chain-writer"])
def test_shipped_bases_have_the_properties_that_their_proofs_need(name):
    card = json.loads((base_path(name) / "task.json").read_text(encoding="utf-8"))
    assert card["has_properties"] is True
    task = load_task(name)
    assert not {p.text for p in task.train} & {p.text for p in task.test}


def test_early_answers_look_one_step_ahead():
    found = chain_paths.measure(load_policy("embedded:chain-paths", device="cpu"), chain_paths.dev(20))
    assert found["ahead by 0"] >= 0.9 and found["ahead by 1"] >= 0.6


def test_the_writer_goes_on_with_a_list():
    policy = load_policy("embedded:chain-writer", device="cpu")
    found = chain_writer.measure(policy, lists=4)
    assert found["valid problems"] >= 0.7 and found["problems per list"] >= 3
    solved = policy.sample([Prompt("a", text=PROBLEM.text)], 8, seed=0)[0]
    assert sum(chain.well_formed(c) for c in solved.completions) >= 5
