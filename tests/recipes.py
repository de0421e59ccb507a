"""Short runs of recipes, and the context that a recipe is given, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfreward.answers import Regex
from selfreward.config import make_config
from selfreward.launch import start
from selfreward.recipes.base import RunContext
from selfreward.sampling import SamplingParams


def context(alphabet: str, step: int = 1, **templates: str) -> RunContext:
    """A context whose answers are the last character out of ``alphabet``."""
    return RunContext(
        step, 3, 0, Regex(f"[{alphabet}]"), lambda text: True, SamplingParams(max_new_tokens=10), None, dict(templates)
    )


def run_recipe(recipe: str, folder: Path, steps: int = 2, **settings: Any) -> tuple[dict, list[dict]]:
    """The summary and the metrics records of a few steps on few prompts, without evaluation."""
    values = {
        "recipe": recipe,
        "steps": steps,
        "prompts_per_step": 4,
        "options": {"group_size": 8, **settings.pop("options", {})},
        "eval_prompts": 0,
        "out": str(folder / "run"),
        **settings,
    }
    trainer = start(make_config(values))
    trainer.evaluator = lambda policy: {}
    summary = trainer.fit()
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return summary, [r for r in map(json.loads, lines) if r["step"] > 0]
