"""Train language models on rewards that they make themselves, and know whether to believe them.

``import selfreward as sr`` loads nothing else: every name below is imported when it is first asked for.
Pure functions keep their own address (``from selfreward.signals.vote import vote``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from selfreward.data import load_prompts
    from selfreward.data.answers import AnswerSpace, answer_space
    from selfreward.data.rollout_files import read_rollouts
    from selfreward.data.schemes import load_task
    from selfreward.data.task import Task
    from selfreward.errors import UserError
    from selfreward.policy.loading import load_policy
    from selfreward.policy.policy import Policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.recipes.base import Recipe
    from selfreward.recipes.grpo import GRPO
    from selfreward.recipes.registry import RECIPES
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.adapters import reward
    from selfreward.signals.registry import SIGNALS
    from selfreward.training.api import Run, audit, compare, evaluate, resume, select, train
    from selfreward.types import Experience, Group, Pair, Prompt, Row, Segment, Trajectory

_HOMES = {
    "train": "training.api",
    "resume": "training.api",
    "compare": "training.api",
    "evaluate": "training.api",
    "audit": "training.api",
    "select": "training.api",
    "Run": "training.api",
    "reward": "signals.adapters",
    "load_policy": "policy.loading",
    "load_prompts": "data",
    "load_task": "data.schemes",
    "read_rollouts": "data.rollout_files",
    "Policy": "policy.policy",
    "SamplingParams": "policy.sampling.params",
    "Task": "data.task",
    "AnswerSpace": "data.answers",
    "answer_space": "data.answers",
    "Recipe": "recipes.base",
    "GRPO": "recipes.grpo",
    "RunContext": "rollouts.run",
    "SIGNALS": "signals.registry",
    "RECIPES": "recipes.registry",
    **dict.fromkeys(("Prompt", "Segment", "Trajectory", "Group", "Row", "Pair", "Experience"), "types"),
    "UserError": "errors",
}

__all__ = [
    "GRPO",
    "RECIPES",
    "SIGNALS",
    "AnswerSpace",
    "Experience",
    "Group",
    "Pair",
    "Policy",
    "Prompt",
    "Recipe",
    "Row",
    "Run",
    "RunContext",
    "SamplingParams",
    "Segment",
    "Task",
    "Trajectory",
    "UserError",
    "__version__",
    "answer_space",
    "audit",
    "compare",
    "evaluate",
    "load_policy",
    "load_prompts",
    "load_task",
    "read_rollouts",
    "resume",
    "reward",
    "select",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from selfreward.errors import nearest

        raise AttributeError(f"selfreward has no {name!r}.{nearest(name, _HOMES)}")
    found = getattr(import_module(f"selfreward.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
