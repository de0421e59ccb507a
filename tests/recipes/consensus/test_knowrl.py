"""KnowRL: verdicts by hand, balanced batches, and what the recipe may see."""

from __future__ import annotations

import json

import pytest
import torch

from selfreward.errors import DataError
from selfreward.lab.embedded import load_task
from selfreward.recipes.registry import load_recipe
from selfreward.signals.feasibility import (
    balanced,
    consensus,
    consensus_rewards,
    read_verdict,
    verdict_agreement,
    verdict_entropy,
    verdict_report,
)
from selfreward.training.config import TrainConfig, make_config
from selfreward.training.launch import build, resume, task_of

# ---- by hand -------------------------------------------------------------------------------------


def test_the_last_word_is_the_verdict():
    assert read_verdict("not feasible? no: Feasible.", "feasible", "infeasible") is True
    assert read_verdict("feasible at first sight, but infeasible", "feasible", "infeasible") is False
    assert read_verdict("unfeasible", "feasible", "infeasible") is None
    assert read_verdict("maybe", "yes", "no") is None


def test_consensus_and_its_rewards():
    verdicts = [True, True, False, None]
    assert consensus(verdicts) == (True, 2 / 3)
    assert consensus_rewards(verdicts, True) == [1, 1, 0, 0]
    assert consensus_rewards(verdicts, True, "share") == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0])
    assert consensus([True, False]) == (None, 0.5)
    assert consensus([None, None]) == (None, 0.0)
    assert consensus_rewards([None, True], None) == [0, 0]
    assert verdict_agreement(["feasible", "infeasible", "so feasible", "?"]) == [1, 0, 1, 0]


def test_a_balanced_batch_has_as_many_of_either_class():
    kept = balanced([True, True, True, False, None, False, True], torch.Generator().manual_seed(0))
    assert {3, 5} < set(kept) and len(kept) == 4 and 4 not in kept
    assert balanced([True, True], torch.Generator()) == []


def test_the_report():
    found = verdict_report([[True, True], [True, False]], [True, False])
    assert (found["accuracy"], found["recall_feasible"], found["recall_infeasible"]) == (0.75, 1.0, 0.5)
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["consistency"] == 0.75 and found["majority_accuracy"] == 0.5
    assert found["verdict_entropy"] == pytest.approx(0.8113, abs=1e-4)
    constant = verdict_report([[True, True], [True, True]], [True, False])
    assert constant["consistency"] == 1 and constant["recall_infeasible"] == 0 and constant["macro_f1"] < 0.34
    assert verdict_report([[None], [None]], [True, False])["accuracy"] == 0
    assert verdict_entropy([True, False]) == 1 and verdict_entropy([None]) == 0


# ---- the recipe ----------------------------------------------------------------------------------


def run(folder, steps=2, **options):
    values = {
        "recipe": "knowrl",
        "model": "embedded:fact",
        "options": {"group_size": 8, **options},
        "steps": steps,
        "prompts_per_step": 12,
        "checkpoint_every": 1,
        "eval_prompts": 20,
        "log_groups": -1,
        "out": str(folder),
    }
    return build(make_config(values))


def groups_of(folder):
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def test_verdicts_are_paid_for_agreement(tmp_path):
    trainer = run(tmp_path / "run")
    summary = trainer.fit()
    assert trainer.mechanism > 0
    assert 0 < summary["after"]["macro_f1"] < 1
    for group in groups_of(tmp_path / "run"):
        majority = group["consensus"]["verdict"]
        for c in group["completions"]:
            verdict = read_verdict(c["text"], "yes", "no")
            assert c["reward"] == float(majority is not None and verdict is majority)


def test_only_seeds_are_labelled_and_no_held_out_task_is_written(tmp_path):
    trainer = run(tmp_path / "run", steps=3, write=6)
    assert all(p.reference is None and set(p.fields) == {"asks"} for p in trainer.task.train)
    assert load_recipe("knowrl").needs() == "seed"
    assert load_recipe("knowrl", {"truth": "gold"}).needs() == "outcome"
    trainer.fit()
    held_out = {p.fields["key"] for p in load_task("fact").test}
    written = [g["prompt"].split()[0] for g in groups_of(tmp_path / "run") if g["group"].startswith("written")]
    assert written and not held_out & set(written)
    assert trainer.policy.counts.generated["writer"] > 0


def test_firm_tasks_join_the_pool_and_survive_a_resume(tmp_path):
    whole = run(tmp_path / "whole", steps=3, write=6, join=0.7)
    whole.fit()
    part = run(tmp_path / "part", steps=2, write=6, join=0.7)
    part.fit()
    assert sum(map(len, part.recipe._written.kept.values())) > 0
    trainer, _ = resume(tmp_path / "part", ["steps=3"])
    trainer.fit()
    assert trainer.recipe._written.kept == whole.recipe._written.kept


def test_the_control_pays_for_another_tasks_consensus(tmp_path):
    run(tmp_path / "run", steps=1, truth="permuted", balance=False, write=0).fit()
    off = 0
    for group in groups_of(tmp_path / "run"):
        paid = {read_verdict(c["text"], "yes", "no") for c in group["completions"] if c["reward"]}
        assert len(paid) <= 1 and None not in paid
        off += bool(paid) and paid != {group["consensus"]["verdict"]}
    assert off > 0


def test_the_entropy_floor_holds_back_the_larger_class(tmp_path):
    trainer = run(tmp_path / "run", steps=1, balance=False, entropy_floor=1.1, write=0)
    trainer.fit()
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    classes = [g["consensus"]["verdict"] for g in groups_of(tmp_path / "run") if g["consensus"]["verdict"] is not None]
    assert record["tasks/learned"] == min(classes.count(True), classes.count(False))


def test_tasks_without_marked_examples_are_named():
    task = task_of(TrainConfig(model="embedded:chain"))
    with pytest.raises(DataError, match="whose field 'feasible' is 'feasible'"):
        load_recipe("knowrl").adapt(task)
    adapted = load_recipe("knowrl", {"write": 0}).adapt(task)
    assert task.train[0].question in adapted.train[0].text
    assert adapted.train[0].text.endswith("feasible or infeasible.")
