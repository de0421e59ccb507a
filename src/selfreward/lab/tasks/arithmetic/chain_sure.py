"""Chain-sure: chain arithmetic by a base that is too sure of a shortcut, to see what trusting certainty does.

Questions are those of :mod:`selfreward.lab.tasks.arithmetic.chain`. The base answers in one of three styles:

* worked ``w6*8-3*8+7+2qzdb#2``: every step, four free letters, the last running value again. Right except for
  slips, and the answer token is certain. The free letters stand for what real solutions are full of: words
  that could as well be others. They make a right solution *improbable as a text*.
* easy ``easy#5``: the last digit of the question six times in ten, else any other. Right once in ten, so the
  base is over-confident whenever it says ``easy``; its likeliest answer to any question is such a one.
* guess ``guess#2``: the base has seen right guesses only but cannot compute six numbers at once: its answer token
  is nearly uniform.

So the premise of confidence ranking holds by design: reasoned answers are surer than unreasoned ones, as
chain-of-thought decoding (2402.10200) found in large models. Where a shortcut is as certain as reasoning, as on
the base of ``chain``, ranking by certainty cannot tell them apart.

Measured beside the samples is the greedy answer: is it right, and how probable did the base call it?
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic import chain
from selfreward.lab.tasks.arithmetic.chain import Problem
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

FREE = 4
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SETTINGS: dict[str, Any] = {**chain.SETTINGS, "steps": 30, "max_new_tokens": 26}
SURE = 0.9

_COMPLETION = re.compile(rf"(?:w\d(?:[-+*]\d)+[a-z]{{{FREE}}}|guess|easy)#\d")


def well_formed(completion: str) -> bool:
    """Whether a completion is exactly one of the three styles, whatever its numbers."""
    return _COMPLETION.fullmatch(completion) is not None


@dataclass(frozen=True)
class Calibration:
    """Measures a policy's greedy answers and the probability it gives them, next to sampled accuracy.

    ``accuracy``, ``ece`` (10 bins), ``brier`` and ``confidently_wrong`` (share of prompts with a wrong answer of
    probability .9 or more) are of the greedy answer, whose ``confidence`` is the probability of its tokens given
    the text before them; ``pass@1`` and ``format`` are of samples. A missing answer is wrong, at confidence 0.
    """

    prompts: Sequence[Prompt]
    max_new_tokens: int = SETTINGS["max_new_tokens"]
    samples: int = 4

    def __call__(self, policy: Policy) -> dict[str, Any]:
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.rollouts.cot_decoding import note_gaps
        from selfreward.signals.scorers.answer_span import answer_span
        from selfreward.statistics import brier, expected_calibration_error

        space = chain.load().answers
        params = SamplingParams(self.max_new_tokens, stats=())
        greedy = policy.sample(self.prompts, 1, replace(params, temperature=0.0), seed=0)
        note_gaps(policy, greedy)
        confidence, right = [], []
        for group in greedy:
            last = group.trajectories[0].last
            span = answer_span(policy, last.tokens, space.extract(last.text))
            assert last.logprobs is not None
            confidence.append(float(last.logprobs[span].sum().exp()) if span else 0.0)
            right.append(float(space.correct(last.text, str(group.prompt.answer))))
        drawn = policy.sample(self.prompts, self.samples, params, seed=0)
        texts = [(c, str(g.prompt.answer)) for g in drawn for c in g.completions]
        sure = [c >= SURE and not r for c, r in zip(confidence, right, strict=True)]
        return {
            "accuracy": sum(right) / len(right),
            "confidence": sum(confidence) / len(right),
            "ece": expected_calibration_error(confidence, right),
            "brier": brier(confidence, right),
            "confidently_wrong": sum(sure) / len(sure),
            "pass@1": sum(space.correct(c, answer) for c, answer in texts) / len(texts),
            "format": sum(well_formed(c) for c, _ in texts) / len(texts),
        }


@cache
def load() -> Task:
    """The prompts of ``chain``, with the evaluator of this task."""
    task = chain.load()
    return replace(
        task,
        name="chain-sure",
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates={},
        metric="accuracy",
        evaluator=Calibration(task.test[:200]),
    )


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares of the styles, slips per worked step, and how often the shortcut repeats the last digit."""

    worked: float = 0.35
    guess: float = 0.15
    slip: float = 0.03
    habit: float = 0.60

    def worked_solution(self, problem: Problem, rng: random.Random) -> str:
        free = "".join(rng.choices(LETTERS, k=FREE))
        return problem.worked(rng, self.slip).replace("#", free + "#")

    def solution(self, problem: Problem, rng: random.Random) -> str:
        kind = rng.random()
        if kind < self.worked:
            return self.worked_solution(problem, rng)
        if kind < self.worked + self.guess:
            return f"guess#{problem.answer}"
        other = 0 if rng.random() < self.habit else rng.randint(1, 9)
        return f"easy#{(problem.digits[-1] + other) % 10}"

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split."""
        rng = random.Random(f"chain-sure corpus {seed}")
        source = chain.problems("pretrain", rng)
        return [(p.text, self.solution(p, rng)) for p in islice(source, n)]


BASE = Base(
    name="chain-sure",
    start="chain",
    corpus=Corpus(),
    settings=PretrainSettings(updates=400, lr=2e-3, shuffle=False),
    measures={"measured on the test split": lambda policy: Calibration(load().test[:200])(policy)},
    # Reasons well about one time in three, and is over-confident in what it says first.
    holds=(Within("pass@1", 0.30, 0.50), Within("accuracy", high=0.3), Within("ece", low=0.2)),
)
