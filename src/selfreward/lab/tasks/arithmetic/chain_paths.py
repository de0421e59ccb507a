"""Chain-paths: chain arithmetic by a base that may stop early, and shares a misconception that wins many a vote.

Questions and answers are those of :mod:`selfreward.lab.tasks.arithmetic.chain`, and every solution is worked
(``w6*8-3*8#2``: an operator with the running value after it). Two things were designed into the base's text.

* About half of the solutions stop before the end and give the answer at once. So ``#`` after any state of a
  path asks the base for the final answer, which it knows with one operator to go and hardly with two.
  States are then informative about the end of their path, as those of a large model's reasoning are. That
  is what path consistency (CoVo) needs to exist at all; the plain ``chain`` base has never seen an answer
  before the last step.
* Where a worked step subtracts 8 or 9 it often adds instead; an early answer never does. So on about one
  prompt in four most samples agree on a wrong answer. Other slips scatter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic import chain
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

# A step is an operator with its running value; ``#`` asks for the answer.
TEMPLATES = {"step": r"w\d|[-+*pmt]\d|#\d", "lead_in": "#{answer}"}
SETTINGS: dict[str, Any] = {**chain.SETTINGS}


@cache
def load() -> Task:
    """The prompts of CHAIN, and how its solutions split into steps."""
    task = chain.load()
    return replace(task, name="chain-paths", templates={**task.templates, **TEMPLATES}, settings=dict(SETTINGS))


def dev(n: int = 100) -> list[Prompt]:
    """Labelled prompts for choosing settings: the last of the training split, which runs seldom reach."""
    return load().train[-n:]


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        early: share of solutions that stop before the end.
        remaining: how often with one and with two operators to go.
        slip: chance of an error per worked step; what follows builds on it.
        misread: chance that a worked step adds an 8 or 9 that it should subtract.
        lesson: documents at the start that are worked to the end without an error.
    """

    early: float = 0.45
    remaining: tuple[float, ...] = (0.8, 0.2)
    slip: float = 0.05
    misread: float = 0.65
    lesson: int = 25_000

    def solution(self, problem: chain.Problem, rng: random.Random) -> str:
        """A worked solution with its errors; often cut before the end and answered from its last running value."""
        done = chain.OPERATORS
        if rng.random() < self.early:
            done -= rng.choices(range(1, len(self.remaining) + 1), self.remaining)[0]
        value = problem.digits[0]
        text = f"w{value}"
        for i, (op, digit) in enumerate(zip(problem.ops, problem.digits[1:], strict=True)):
            worked = i < done
            wrong = worked and op == "-" and digit >= 8 and rng.random() < self.misread
            value = chain.apply(value, "+" if wrong else op, digit)
            if worked and rng.random() < self.slip:
                value = (value + rng.randint(1, 9)) % 10
            if worked:
                text += f"{op}{value}"
        return f"{text}#{value}"

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"chain-paths corpus {seed}")
        return curriculum(
            chain.problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: (p.text, p.worked(rng)),
            lambda p: (p.text, self.solution(p, rng)),
        )


BASE = Base(
    name="chain-paths",
    vocabulary=chain.ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=3000, shuffle=False),
    measures={"measured on development prompts": lambda policy: measure(policy, dev())},
    holds=(Within("pass@1", 0.4, 0.6), Within("ahead by 1", low=0.6)),
)


def measure(policy: Policy, prompts: Sequence[Prompt], seed: int = 0) -> dict[str, float]:
    """Accuracy of 16 samples each, and how often ``#`` is answered rightly with so many operators to go."""
    from selfreward.policy.sampling.params import SamplingParams

    space = load().answers
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(prompts, 16, params, seed=seed)
    right = [[space.correct(c, str(g.prompt.answer)) for c in g.completions] for g in groups]
    found = {
        "pass@1": sum(map(sum, right)) / sum(map(len, right)),
        "format": sum(chain.well_formed(c) for g in groups for c in g.completions) / sum(map(len, groups)),
    }
    problems = [chain.Problem.parse(p.question) for p in prompts]
    for left in range(4):
        states = [p.worked(random.Random(0)).partition("#")[0][: 2 * (chain.OPERATORS + 1 - left)] for p in problems]
        choice = policy.choose([p.text + s + "#" for p, s in zip(problems, states, strict=True)], list("0123456789"))
        hits = [int(row.argmax()) == p.answer for row, p in zip(choice.probs, problems, strict=True)]
        found[f"ahead by {left}"] = sum(hits) / len(hits)
    return found
