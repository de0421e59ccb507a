"""Whatever the recipe: a run that was stopped and resumed leaves the bits of one that never was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfreward.lab.campaigns import trace
from selfreward.lab.proofs.registry import PROOFS, load_proof
from selfreward.recipes.registry import RECIPES, hyperparameters
from selfreward.training.comparison import Arm
from selfreward.training.config import make_config
from selfreward.training.launch import resume, start

SMALL = {
    "steps": 4,
    "prompts_per_step": 4,
    "eval_prompts": 0,
    "checkpoint_every": 1,
    "probe_every": 2,
    "probe_prompts": 4,
    "probe_samples": 2,
    "log_groups": -1,
}

# Few of what takes long and is no other thing for being many: steps of warm-up, fits of a model beside the policy.
FEW = {**dict.fromkeys(("warm_up", "warmup", "score_warmup", "reasoning_warmup"), 1), "updates": 5}


def cases() -> dict[str, dict[str, Any]]:
    """One run per recipe, as the arm of a proof has it, where one does."""
    found: dict[str, dict[str, Any]] = {}
    for slug in PROOFS:
        proof = load_proof(slug)
        for arm in proof.arms:
            if isinstance(arm, Arm) and arm.recipe not in found and not arm.recipe.endswith(".py"):
                settings = {**proof.settings, **arm.settings}
                short = {name: FEW[name] for name in hyperparameters(arm.recipe) if name in FEW}
                options = {**settings.pop("options", {}), **arm.options, **short}
                found[arm.recipe] = {**settings, **SMALL, "recipe": arm.recipe, "options": options}
    return found


CASES = cases()


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("recipe", sorted(CASES))
def test_a_resumed_run_is_bit_equal(recipe, tmp_path):
    def run(name: str, stop_at: int | None = None) -> Path:
        def on_step(record: dict[str, Any]) -> None:
            if record["step"] == stop_at:
                raise StoppedError  # after the step, before its checkpoint

        out = tmp_path / name
        trainer = start(make_config({**CASES[recipe], "out": str(out)}), on_step)
        trainer.evaluator = lambda policy: {}
        if stop_at is None:
            trainer.fit()
            return out
        with pytest.raises(StoppedError):
            trainer.fit()
        again, notes = resume(out, [])
        assert again.step == stop_at - 1 and not notes
        again.evaluator = lambda policy: {}
        again.fit()
        return out

    assert trace(run("stopped", 3)) == trace(run("whole"))


def test_hardly_a_recipe_is_left_out():
    """What no proof runs: an alias, rewards by name or file, animals of the collapse zoo, SPIRAL's imitation arm."""
    assert set(RECIPES) - set(CASES) <= {
        "self-certainty",
        "signal",
        "reward",
        "easy-proposer",
        "flawed",
        "expert-games",
    }
