"""ReST-MCTS*: what it samples, searches, labels, learns and remembers."""

from __future__ import annotations

import pytest
import torch

from selfreward.errors import RecipeError
from selfreward.lab.tasks.arithmetic import chain_long
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.step_tree import StateLabels
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from tests.support.runs import run_recipe

SMALL = {"rounds": 14, "branch": 4, "warmup": 2, "updates": 4, "samples": 8}
BASE = {"model": "embedded:chain-long", "data": "embedded:chain-long", "prompts_per_step": 3}


def test_warm_up_then_search_and_learn(tmp_path):
    summary, records = run_recipe("rest-mcts", tmp_path, 4, options={**SMALL, "cycles": 2}, **BASE)
    assert summary["mechanism"]["count"] > 0 and summary["labels"] == "outcome"
    # No training in the warm-up; each cycle begins with a value model taught what is new.
    assert [r["tokens/trained"] > 0 for r in records[:2]] == [False, False]
    assert [r.get("head/states", 0) > 0 for r in records[:3]] == [False, False, True]
    assert records[-1]["tokens/generated/search"] > 0 and records[1].get("tokens/generated/search") is None
    assert records[-1]["tokens/scored/value"] > 0


def test_samples_instead_of_trees_are_rest_em(tmp_path):
    options = {**SMALL, "by": "samples", "warmup": 0}
    summary, records = run_recipe("rest-mcts", tmp_path, 2, options=options, **BASE)
    assert "tokens/generated/search" not in records[-1] and "head/loss" not in records[0]
    assert summary["mechanism"]["count"] > 0 and sum(r["rejection/kept"] for r in records) > 0


def test_only_right_and_distinct_solutions_are_kept(tmp_path):
    _, records = run_recipe(
        "rest-mcts", tmp_path, 1, options={**SMALL, "by": "samples", "warmup": 0, "keep": 1}, **BASE
    )
    lost = sum(v for k, v in records[0].items() if k.startswith("rejection/lost"))
    assert records[0]["rejection/kept"] + lost == 24 and records[0]["rejection/kept"] <= 3
    assert records[0]["rejection/lost to wrong"] > 0


def test_it_resumes_in_every_phase(tmp_path):
    def run(out, steps):
        values = {
            **BASE,
            "recipe": "rest-mcts",
            "eval_prompts": 0,
            "out": str(out),
            "checkpoint_every": 1,
            "steps": steps,
        }
        trainer = build(make_config({**values, "options": {**SMALL, "warmup": 1, "samples": 16, "cycles": 1}}))
        trainer.evaluator = lambda policy: {}
        trainer.fit()
        return trainer

    whole = run(tmp_path / "whole", 3)
    for stop in (1, 2):
        run(tmp_path / f"{stop}", stop)
        again, _ = resume(tmp_path / f"{stop}", ["steps=3"])
        again.evaluator = lambda policy: {}
        again.fit()
        for a, b in zip(whole.policy.parameters(), again.policy.parameters(), strict=True):
            assert torch.equal(a, b)
        assert len(again.recipe._seen) == len(whole.recipe._seen)


def test_labels_are_packed_into_three_tensors():
    labels = StateLabels([torch.tensor([1, 2, 3]), torch.tensor([4])], [0.5, 1.0])
    again = StateLabels()
    again.load_state_dict(labels.state_dict())
    assert [i.tolist() for i in again.ids] == [[1, 2, 3], [4]] and again.targets == [0.5, 1.0]
    assert len(labels.state_dict()) == 3
    empty = StateLabels([torch.tensor([1])], [1.0])
    empty.load_state_dict(StateLabels().state_dict())
    assert len(empty) == 0
    mixed = StateLabels(labels.ids * 20, list(range(40))).permuted(torch.Generator().manual_seed(0))
    assert sorted(mixed.targets) == list(range(40)) and mixed.targets != list(range(40))


def test_the_papers_defaults():
    recipe = load_recipe("rest-mcts")
    assert (recipe.branch, recipe.explore, recipe.unvisited, recipe.alpha, recipe.roll) == (3, 0.7, 1.0, 0.5, 3)
    assert recipe.rounds == 50 and recipe.needs() == "outcome"
    assert load_recipe("rest-mcts", {"correctness": "vote"}).needs() == "none"


def test_a_task_without_steps_is_an_error(tmp_path):
    with pytest.raises(RecipeError, match="no template 'step'"):
        run_recipe("rest-mcts", tmp_path, 1, options=SMALL, model="embedded:chain")


def test_the_second_base_reads_verdicts_beside_solutions():
    documents = chain_long.JUDGED.corpus.documents(400, 0)
    asked = [(q, v) for q, v in documents if q.endswith("?")]
    assert 100 < len(asked) < 180 and {v for _, v in asked} == {"Y", "N"}
    assert all((v == "Y") == chain_long.sound(q[:23], q[23:-1]) for q, v in asked)
    assert not any(q.endswith("?") for q, _ in chain_long.BASE.corpus.documents(50, 0))


def test_what_is_on_track():
    question = "6*3-4+8-1+2*7-2+1-9+3=6"
    problem = chain_long.Problem.parse(question)
    # 18 -> 8, 4, 12 -> 2, 1, 3, 21 -> 1, -1 -> 9, 10 -> 0, -9 -> 1, 4.
    assert problem.values == [8, 4, 2, 1, 3, 1, 9, 0, 1, 4] and problem.answer == "14" and problem.text == question
    assert chain_long.on_track(question, "") and chain_long.on_track(question, "t8-4")
    assert not chain_long.on_track(question, "*8p2") and not chain_long.on_track(question, "*")
    whole = "*8-4+2-1+3*1-9+0-1+4"
    assert chain_long.traps(question) == 2 and chain_long.traps(question.replace("*3-4", "*3+4")) == 1
    assert (
        chain_long.sound(question, "t8") and not chain_long.sound(question, "t8+2") and chain_long.sound(question, "")
    )
    assert chain_long.clean(question, whole) and chain_long.LastTwo().extract(whole) == "14"
    assert chain_long.plain(whole.replace("*", "t")) == whole and chain_long.LastTwo().extract(whole[:-2]) is None
