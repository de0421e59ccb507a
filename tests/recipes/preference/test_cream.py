"""CREAM: rankings of two generations by hand, trust, the supervised start, and a resumed run."""

from __future__ import annotations

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.recipes.registry import load_recipe
from tests.support.rounds import one_step, same_after_resume

SMALL = {"warm_up": 1, "iterations": 3, "group_size": 4}


def test_trust_by_hand():
    """C of three prompts .8, .4 and unknown: the mean is .6; per prompt .8, one half (never less), and the mean."""
    found = [0.8, 0.4, None]
    assert load_recipe("cream", {}).trust(found) == pytest.approx([0.6] * 3)
    assert load_recipe("cream", {"confidence": "dynamic"}).trust(found) == pytest.approx([0.8, 0.5, 0.6])
    assert load_recipe("cream", {"confidence": "fixed", "fixed": 0.9}).trust(found) == [0.9] * 3
    assert load_recipe("cream", {}).trust([None]) == [0.5]
    with pytest.raises(ConfigError, match="confidence in a label"):
        load_recipe("cream", {"fixed": 0.3})
    with pytest.raises(ConfigError, match="no implicit reward"):
        load_recipe("cream", {"warm_up": 0})


def test_rounds_and_a_resumed_run(tmp_path):
    """One step of supervision, then three generations; each compares with the one before."""
    summary, steps = same_after_resume(tmp_path, "cream", SMALL)
    assert summary["labels"] == "seed" and summary["mechanism"]["count"] > 4
    assert [r["round"] for r in steps] == [0, 1, 2, 3]
    assert steps[0]["nll"] > 0 and "preference_accuracy" not in steps[0]
    for record in steps[1:]:
        assert 0.5 <= record["confidence"] <= 1 and record["nll"] == 0
        assert max(0.5, (record["agreement/tau"] + 1) / 2) == pytest.approx(record["confidence"])


def test_the_label_is_as_soft_as_two_generations_disagree(tmp_path):
    trainer, _ = one_step(tmp_path / "a", "cream", **SMALL)
    trainer._one_step()
    prompts = trainer.stream.next(3)
    from selfreward.rollouts.run import RunContext

    run = RunContext.of(trainer.task, sampling=trainer.sampling, reference=trainer.reference, step=2, steps=4)
    experience = trainer.recipe.collect(trainer.policy, prompts, run)
    for pair in experience.pairs:
        row = experience.rows[pair.chosen]
        assert set(row.extra) == {"reference", "confidence"}
        assert torch.all(row.extra["confidence"][row.mask > 0] == row.extra["confidence"].max())
        assert torch.all(row.extra["confidence"][row.mask == 0] == 0)


@pytest.mark.parametrize(
    ("options", "labels"),
    [({"confidence": "fixed"}, "seed"), ({"scores": "shuffled"}, "seed"), ({"scores": "gold"}, "outcome")],
)
def test_arms(tmp_path, options, labels):
    trainer, _ = one_step(tmp_path / "a", "cream", **SMALL, **options)
    assert trainer.recipe.needs() == labels
    record = trainer._one_step()
    assert record["mechanism"] > 0 and record["grad_norm"] > 0
