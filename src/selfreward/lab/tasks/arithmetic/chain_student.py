"""Chain-student: chain arithmetic by a weak base that can learn from the better one of ``chain``.

Questions, styles and splits are those of :mod:`selfreward.lab.tasks.arithmetic.chain`, whose base is the teacher. The
student is that base after it has read on in careless solutions: it works fewer problems out and slips more than twice
as often, so that it lacks both the habit and some of the care. Teacher and student have the same size.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.tasks.arithmetic import chain

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Pretrained


SETTINGS: dict[str, Any] = {**chain.SETTINGS}


CORPUS = chain.Corpus(worked=0.30, guess=0.50, easy=0.20, slip=0.07, careful=0.0, naive=0.0, lesson=0)


@cache
def load() -> Task:
    """The prompts of ``chain``."""
    return replace(chain.load(), name="chain-student", settings=dict(SETTINGS), templates={})


def build(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Let the base of ``chain`` read on, into ``out``, with ``task.json`` beside it that says what came of it."""
    from selfreward.evaluation.held_out import evaluate
    from selfreward.lab.pretraining.further_reading import read_further
    from selfreward.lab.pretraining.pretrain import PretrainSettings
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams

    chosen = PretrainSettings(updates=300, lr=2e-3, shuffle=False).updated(**{"seed": seed, **settings})
    documents = CORPUS.documents(chosen.updates * chosen.batch, chosen.seed)
    made = read_further("chain", documents, chosen, out, on_step)
    task, policy = load(), load_policy(str(made.folder), device="cpu")
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"])
    found = evaluate(policy, task.test[:200], task.answers, k=8, params=params)
    made.metrics = {k: found.metrics[k] for k in ("pass@1", "maj@k", "accuracy", "format")}
    made.passed = 0.2 <= made.metrics["pass@1"] <= 0.4
    card = {
        "task": "chain-student",
        "command": f"selfreward pretrain chain-student --out DIR --seed {chosen.seed}",
        "documents": asdict(CORPUS),
        "updates": made.updates,
        "has_properties": made.passed,
        "measured on the test split": {name: round(value, 3) for name, value in made.metrics.items()},
    }
    (made.folder / "task.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return made
