"""Chain-student: chain arithmetic by a weak base that can learn from the better one of ``chain``.

Questions, styles and splits are those of :mod:`selfreward.lab.tasks.arithmetic.chain`, whose base is the teacher. The
student is that base after it has read on in careless solutions: it works fewer problems out and slips more than twice
as often, so that it lacks both the habit and some of the care. Teacher and student have the same size.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic import chain

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

SETTINGS: dict[str, Any] = {**chain.SETTINGS}


@cache
def load() -> Task:
    """The prompts of ``chain``."""
    return replace(chain.load(), name="chain-student", settings=dict(SETTINGS), templates={})


def measure(policy: Policy) -> dict[str, float]:
    """Held-out metrics on the first 200 test prompts, of 8 samples each."""
    from selfreward.evaluation.held_out import evaluate
    from selfreward.policy.sampling.params import SamplingParams

    task, params = load(), SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"])
    found = evaluate(policy, task.test[:200], task.answers, k=8, params=params)
    return {k: found.metrics[k] for k in ("pass@1", "maj@k", "accuracy", "format")}


BASE = Base(
    name="chain-student",
    start="chain",
    corpus=chain.Corpus(worked=0.30, guess=0.50, easy=0.20, slip=0.07, careful=0.0, naive=0.0, lesson=0),
    settings=PretrainSettings(updates=300, lr=2e-3, shuffle=False),
    measures={"measured on the test split": measure},
    holds=(Within("pass@1", 0.2, 0.4),),
)
