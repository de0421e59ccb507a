"""Steps: chain arithmetic whose solutions can be reviewed step by step, by a base that solves and reviews.

Questions are those of :mod:`selfreward.lab.tasks.arithmetic.chain` in symbols, ``6*8-5*6+9+5=``. Every solution is
worked, one operator and running value per step, in one of two styles named by its first character:

* careful ``w6*8-3*8+7+2#2``: right except for slips.
* hasty ``h6*8+3*8+7+2#2``: minus is mostly read as plus. Two hasty solutions of a question often agree
  on the same wrong answer, so that a vote can be wrong however many samples it counts.

The more multiplications a question has, the more often the base is hasty: the number of ``*`` is the
difficulty. A review of a solution, ``?QUESTION SOLUTION>`` (without the space), answers with the
operator and a verdict per step, ``*Y-Y*N``, and stops at the first wrong one; a clean solution gets five
``Y``. A step is wrong when it does not follow from the question and the step before it. The base reviews
poorly: it sees that a minus was read as a plus, and misses most slips.

All of this is designed into the corpus, as are the reviews: the base is not meant to show where
reviewing comes from, but what solving does to it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic.chain import OPERATORS, Problem, apply
from selfreward.lab.tasks.arithmetic.chain import problems as chain_problems
from selfreward.lab.tasks.splits import Split
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

ALPHABET = "0123456789+-*=#?>YNwh"
RIGHT, WRONG = "Y", "N"
TEMPLATES = {"review": "?{question}{completion}>", "right": RIGHT, "wrong": WRONG, "steps": str(OPERATORS)}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.1,
    "steps": 60,
    "prompts_per_step": 16,
    "group_size": 16,
    "max_new_tokens": 18,
}

_COMPLETION = re.compile(rf"[wh]\d(?:[-+*]\d){{{OPERATORS}}}#\d")


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """Endless random problems of one split, spelt with symbols."""
    for problem in chain_problems(split, rng):
        yield replace(problem, letters=False)


def well_formed(completion: str) -> bool:
    """Whether a completion is a worked solution, whatever its numbers."""
    return _COMPLETION.fullmatch(completion) is not None


def difficulty(question: str) -> int:
    """The number of multiplications."""
    return question.count("*")


def write(problem: Problem, rng: random.Random, style: str, slip: float = 0.0, misread: float = 0.0) -> str:
    """A worked solution: each step is off with chance ``slip``, and each minus is a plus with chance ``misread``."""
    value = problem.digits[0]
    steps = str(value)
    for op, digit in zip(problem.ops, problem.digits[1:], strict=True):
        done = "+" if op == "-" and rng.random() < misread else op
        value = apply(value, done, digit)
        if rng.random() < slip:
            value = (value + rng.randint(1, 9)) % 10
        steps += f"{done}{value}"
    return f"{style}{steps}#{value}"


def first_error(problem: Problem, solution: str) -> int | None:
    """The step, from 1, that first fails to follow from the question and the step before it."""
    value = int(solution[1])
    if value != problem.digits[0]:
        return 1
    for i, (op, digit) in enumerate(zip(problem.ops, problem.digits[1:], strict=True)):
        written = int(solution[3 + 2 * i])
        if written != apply(value, op, digit):
            return i + 1
        value = written
    return None


def review(problem: Problem, error: int | None) -> str:
    """The review that finds its first error at step ``error``."""
    marks = [RIGHT] * OPERATORS if error is None else [RIGHT] * (error - 1) + [WRONG]
    return "".join(op + mark for op, mark in zip(problem.ops, marks))


@cache
def load() -> Task:
    """2000 training and 400 test prompts; ``fields["difficulty"]`` counts the multiplications."""
    from selfreward.data.answers import Regex

    return Task(
        name="steps",
        train=prompts_of("train", 2000),
        test=prompts_of("test", 400),
        answers=Regex(r"#(\d)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
    )


def prompts_of(split: Split, n: int, seed: str = "") -> list[Prompt]:
    """``n`` distinct prompts of a split; another ``seed`` gives others (development prompts, say)."""
    found: dict[str, Prompt] = {}
    for problem in problems(split, random.Random(f"steps {split}{seed}")):
        if len(found) == n:
            break
        fields = {"difficulty": difficulty(problem.text)}
        name = f"steps-{split}{seed}-{len(found)}"
        found.setdefault(problem.key, Prompt(name, problem.text, fields=fields, reference=str(problem.answer)))
    return list(found.values())


def bank(n: int, split: Split = "test", seed: int = 0) -> list[tuple[str, str, int | None]]:
    """``n`` (question, solution, first error) with errors in half of them, alike in both styles.

    Style says nothing about truth here: a reviewer has to look at the steps.
    """
    rng = random.Random(f"steps bank {split} {seed}")
    found: list[tuple[str, str, int | None]] = []
    for problem in problems(split, rng):
        if len(found) == n:
            break
        style, wanted = "wh"[len(found) % 2], len(found) // 2 % 2 == 0
        text = (
            write(problem, rng, style, slip=0.2, misread=0.3 * (style == "h")) if wanted else write(problem, rng, style)
        )
        error = first_error(problem, text)
        if (error is not None) == wanted:
            found.append((problem.text, text, error))
    return found


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        hasty: chance of a hasty solution, by the number of multiplications (0 to 3).
        slip: chance of an error per step.
        misread: chance that a hasty solution takes a minus for a plus.
        reviews: share of documents that are reviews.
        reviewed_slip: slips per step in half of the reviewed solutions (the other half has ``slip``).
        noise: share of reviews with a random verdict.
        lesson: documents at the start that are careful solutions only.
    """

    hasty: tuple[float, ...] = (0.2, 0.5, 0.75, 0.85)
    slip: float = 0.03
    misread: float = 0.9
    reviews: float = 0.25
    reviewed_slip: float = 0.15
    noise: float = 0.1
    lesson: int = 25_000

    def solution(self, problem: Problem, rng: random.Random, slip: float) -> str:
        """A solution as the base writes it."""
        if rng.random() < self.hasty[difficulty(problem.text)]:
            return write(problem, rng, "h", slip, self.misread)
        return write(problem, rng, "w", slip)

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``problem``."""
        if rng.random() >= self.reviews:
            return problem.text, self.solution(problem, rng, self.slip)
        text = self.solution(problem, rng, self.reviewed_slip if rng.random() < 0.5 else self.slip)
        error = first_error(problem, text)
        if rng.random() < self.noise:
            error = rng.choice([None, *range(1, OPERATORS + 1)])
        return TEMPLATES["review"].format(question=problem.text, completion=text), review(problem, error)

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"steps corpus {seed}")
        return curriculum(
            problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: (p.text, write(p, rng, "w", self.slip)),
            lambda p: self.document(p, rng),
        )


BASE = Base(
    name="steps",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=4000, cooldown=1000, shuffle=False),
    shape={"layers": 3},
    probe=lambda policy: measure(policy, prompts_of("pretrain", 60, "-gate"), "pretrain"),
    gate=(Within("careful accuracy", low=0.8), Within("review f1", low=0.5)),
    measures={
        "measured on development prompts": lambda policy: measure(policy, prompts_of("train", 100, "-dev"), "train")
    },
    # Mediocre at both: room above a sample, a vote that is often wrong, reviews better than chance.
    holds=(
        Within("pass@1", 0.35, 0.65),
        Within("maj@16", high=0.85),
        Within("careful accuracy", low=0.8),
        Within("review f1", 0.2, 0.85),
    ),
)


def measure(policy: Policy, prompts: Sequence[Prompt], split: Split, seed: int = 0) -> dict[str, float]:
    """What :data:`BASE` must have, from 16 samples per prompt and 200 greedy reviews."""
    from selfreward.data.answers import cluster
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.step_review import detection_f1, parse_review
    from selfreward.statistics import maj_at_k

    space = load().answers
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    truth: list[bool] = []
    careful: list[bool] = []
    votes: list[float] = []
    for group in policy.sample(prompts, 16, params, seed=seed):
        right = [space.correct(c, str(group.prompt.answer)) for c in group.completions]
        classes = cluster([space.extract(c) for c in group.completions], space)
        votes.append(maj_at_k(classes, {c for c, r in zip(classes, right, strict=True) if r and c is not None}, 16))
        truth += right
        careful += [r for c, r in zip(group.completions, right, strict=True) if c.startswith("w")]
    items = bank(200, split)
    asked = [Prompt(str(i), TEMPLATES["review"].format(question=q, completion=s)) for i, (q, s, _) in enumerate(items)]
    greedy = replace(params, temperature=0.0)
    reviews = [g.completions[0] for g in policy.sample(asked, 1, greedy, role="judge", seed=seed)]
    f1, on_errors, on_clean = detection_f1(
        [parse_review(r, RIGHT, WRONG, OPERATORS) for r in reviews], [e for *_, e in items]
    )
    return {
        "pass@1": sum(truth) / len(truth),
        "maj@16": sum(votes) / len(votes),
        "careful share": len(careful) / len(truth),
        "careful accuracy": sum(careful) / max(1, len(careful)),
        "review f1": f1,
        "review on errors": on_errors,
        "review on clean": on_clean,
    }
