"""Short runs of recipes, and the context that a recipe is given, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreward.data.answers import Regex
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import hyperparameters
from selfreward.rollouts.run import RunContext
from selfreward.training.config import make_config
from selfreward.training.launch import resume, start
from selfreward.training.trainer import Trainer


def context(alphabet: str, step: int = 1, **templates: str) -> RunContext:
    """A context whose answers are the last character out of ``alphabet``."""
    return RunContext(
        Regex(f"[{alphabet}]"),
        lambda text: True,
        templates=templates,
        sampling=SamplingParams(max_new_tokens=10),
        step=step,
        steps=3,
    )


def run_recipe(recipe: str, folder: Path, steps: int = 2, **settings: Any) -> tuple[dict, list[dict]]:
    """The summary and the metrics records of a few steps on few prompts, without evaluation."""
    usual = {"group_size": 8} if "group_size" in hyperparameters(recipe) else {}
    values = {
        "recipe": recipe,
        "steps": steps,
        "prompts_per_step": 4,
        "options": {**usual, **settings.pop("options", {})},
        "eval_prompts": 0,
        "out": str(folder / "run"),
        **settings,
    }
    trainer = start(make_config(values))
    trainer.evaluator = lambda policy: {}
    summary = trainer.fit()
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return summary, [r for r in map(json.loads, lines) if r["step"] > 0]


def whole_and_resumed(recipe: str, folder: Path, **settings: Any) -> tuple[Trainer, Trainer]:
    """The trainers of three steps in one go, and of the same three stopped after the second and resumed."""
    values = {"recipe": recipe, "steps": 3, "eval_prompts": 0, "checkpoint_every": 1, "probe_every": 0, **settings}
    whole = start(make_config({**values, "out": str(folder / "whole")}))
    whole.fit()

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 2:
            raise InterruptedError

    first = start(make_config({**values, "out": str(folder / "stopped")}), stop)
    with pytest.raises(InterruptedError):
        first.fit()
    again, _ = resume(folder / "stopped", [])
    again.fit()
    return whole, again


def same_weights(one: Trainer, other: Trainer) -> bool:
    pairs = zip(one.policy.state_dict().values(), other.policy.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
