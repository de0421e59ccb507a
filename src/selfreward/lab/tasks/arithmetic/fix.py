"""Fix: chain arithmetic with a second attempt, and a reflection that names the step to redo.

Questions are those of :mod:`selfreward.lab.tasks.arithmetic.chain` in symbols, ``6*8-5*6+9+5=``, four in five with
exactly one minus and the others without. Every attempt is worked, one operator and running value per step, in one of
two styles:

* careful ``w6*8-3*8+7+2#2``: right except for slips.
* hasty ``h6*8+3*8+7+2#2``: the minus is read as a plus; without a minus it is as careful.

*Second attempt.* After an attempt, ``!QUESTION`` (without the space) asks for another. The base answers in the same
two styles, *without looking at its first attempt* (``redo``), or it says ``keep#2`` with the first answer, or, seldom,
it takes a closer look: ``f6*8-3*8+7+2#2`` is careful and hardly slips. So the base can use the form of a second
attempt but does not correct: its two attempts are equally good, and it breaks about as much as it repairs.

*Reflection.* After a failed attempt, ``?`` asks what went wrong. The base answers with five marks and a step to
redo: ``sYNYYY.2`` compares the operators of question and attempt, step by step, and names the one that differs;
``bxxxxx.4`` (blind) names any step. ``>QUESTION`` then asks for a retry, ``r6*8-3*8+7+2#2``, which *obeys*: it is as
hasty as the failed attempt, but for the step that the reflection named. A retry after the wrong step repeats the
mistake, so it is the reflection that decides.

All of this is designed into the corpus: the styles, their shares, and that a second attempt ignores the first.
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
from selfreward.lab.pretraining.documents import Document, conversation, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic.chain import OPERATORS, Problem, apply
from selfreward.lab.tasks.arithmetic.chain import problems as chain_problems
from selfreward.lab.tasks.splits import Split, as_prompts, first_distinct
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

ALPHABET = "0123456789+-*=#!?>.YNwhfrsbxkep"
TEMPLATES = {"fix": "!{question}", "reflect": "?", "retry": ">{question}"}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.1,
    "steps": 60,
    "prompts_per_step": 16,
    "group_size": 16,
    "max_new_tokens": 16,
    "beta2": 1.0,
}

_WORKED = rf"\d(?:[-+*]\d){{{OPERATORS}}}#\d"
_COMPLETION = re.compile(rf"[whfr]{_WORKED}|keep#\d")
_REFLECTION = re.compile(rf"[sb][YNx]{{{OPERATORS}}}\.([1-{OPERATORS}])")


# ---- problems and what is written about them -----------------------------------------------------


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """Endless problems of one split in symbols: four in five with one minus, the others without."""
    wanted = 1
    for problem in chain_problems(split, rng):
        if problem.ops.count("-") == wanted:
            yield replace(problem, letters=False)
            wanted = int(rng.random() < 0.8)


def work(problem: Problem, ops: str, style: str, rng: random.Random, slip: float = 0.0) -> str:
    """A worked solution that reads ``ops``; each step is off with chance ``slip``, and what follows builds on it."""
    value = problem.digits[0]
    steps = str(value)
    for op, digit in zip(ops, problem.digits[1:], strict=True):
        value = apply(value, op, digit)
        if rng.random() < slip:
            value = (value + rng.randint(1, 9)) % 10
        steps += f"{op}{value}"
    return f"{style}{steps}#{value}"


def misread(problem: Problem) -> str:
    """The operators with the minus read as a plus."""
    return problem.ops.replace("-", "+")


def first_difference(question: str, attempt: str) -> int | None:
    """The step, from 1, at which an attempt's operator is not the question's; None without one or for another text."""
    if not re.fullmatch(rf"[whfr]{_WORKED}", attempt):
        return None
    asked, read = question[1:-1:2], attempt[2 : 2 + 2 * OPERATORS : 2]
    return next((i + 1 for i, (a, b) in enumerate(zip(asked, read, strict=True)) if a != b), None)


def reflection(problem: Problem, ops: str, rng: random.Random, seeing: bool) -> tuple[str, int]:
    """A reflection on an attempt that read ``ops``, and the step that it names."""
    if not seeing:
        step = rng.randint(1, OPERATORS)
        return f"b{'x' * OPERATORS}.{step}", step
    marks = "".join("Y" if a == b else "N" for a, b in zip(problem.ops, ops, strict=True))
    step = marks.index("N") + 1
    return f"s{marks}.{step}", step


def named_step(text: str) -> int | None:
    """The step that a reflection names; None for another text."""
    match = _REFLECTION.fullmatch(text)
    return int(match[1]) if match else None


def well_formed(completion: str) -> bool:
    """Whether a completion is an attempt of any style, whatever its numbers."""
    return _COMPLETION.fullmatch(completion) is not None


# ---- the task ------------------------------------------------------------------------------------


@cache
def load() -> Task:
    """2000 training and 400 test prompts; measured by two attempts, and by reflection and retry."""
    from selfreward.data.answers import Regex

    test = prompts_of("test", 400)
    return Task(
        name="fix",
        train=prompts_of("train", 2000),
        test=test,
        answers=Regex(r"#(\d)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        metric="acc@t2",
        evaluator=Both(test[:250]),
    )


def prompts_of(split: Split, n: int, seed: str = "") -> list[Prompt]:
    """``n`` distinct prompts of a split; another ``seed`` gives others (development prompts, say)."""
    found = first_distinct(problems(split, random.Random(f"fix {split}{seed}")), n, lambda p: p.key)
    return as_prompts(found, n, f"fix-{split}{seed}-")


@dataclass(frozen=True)
class TwoTurns:
    """Measures a policy by an attempt and a second attempt (:func:`selfreward.evaluation.turn_report.turn_report`)."""

    prompts: Sequence[Prompt]
    samples: int = 4

    def __call__(self, policy: Policy) -> dict[str, Any]:
        from selfreward.evaluation.turn_report import turn_report
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.rollouts.turns import Turn, play

        space = load().answers
        turns = [Turn("attempt"), Turn("fix", lead=TEMPLATES["fix"])]
        params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
        policy.seed(0, "two turns")
        texts = [
            ([s.text for s in t.segments if s.trainable], str(t.prompt.answer))
            for g in play(policy, self.prompts, turns, params, self.samples)
            for t in g
        ]
        right = [[space.correct(text, gold) for text in both] for both, gold in texts]
        found = turn_report(right, [[space.extract(text) for text in both] for both, _ in texts])
        for name, style in (("hasty", "h"), ("careful", "w")):
            found[f"{name}@t1"] = sum(both[0].startswith(style) for both, _ in texts) / len(texts)
        for name, style in (("keep", "k"), ("closer look", "f")):
            found[f"{name}@t2"] = sum(both[1].startswith(style) for both, _ in texts) / len(texts)
        return found


@dataclass(frozen=True)
class Retries:
    """Measures reflection: failed attempts, a reflection on each, a retry.

    ``first`` is the accuracy of the attempts. Of those that failed: ``retry``, how many the retry makes right;
    ``reflection``, how often the step that the reflection names is the misread one (where there is one);
    ``seeing``, the share of reflections that compare; and ``retry swapped``, the retries when every trajectory is
    given the reflection that was written on another prompt's failure. ``two tries``: right at once or after the retry.
    """

    prompts: Sequence[Prompt]
    samples: int = 4

    def __call__(self, policy: Policy) -> dict[str, Any]:
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.rollouts.turns import Turn, prompt_only, segment_of, take

        space = load().answers
        params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
        policy.seed(0, "retries")
        starts = [prompt_only(policy, p) for p in self.prompts]
        tried = [t for own in take(policy, starts, Turn("attempt"), params, self.samples) for t in own]
        failed = [t for t in tried if not space.correct(t.completion, str(t.prompt.answer))]
        retry = Turn("retry", TEMPLATES["retry"])
        reflected = [t for (t,) in take(policy, failed, Turn("reflection", TEMPLATES["reflect"]), params)]
        retried = [t for (t,) in take(policy, reflected, retry, params)]
        texts = [t.completion for t in reflected]
        # Half way round the list is another prompt's failure.
        other = texts[len(texts) // 2 :] + texts[: len(texts) // 2]
        given = {id(t): text for t, text in zip(failed, other, strict=True)}
        told = Turn("reflection", TEMPLATES["reflect"], say=lambda t: given[id(t)])
        swapped = [t for (t,) in take(policy, [t for (t,) in take(policy, failed, told, params)], retry, params)]
        true = [first_difference(t.prompt.question, getattr(segment_of(t, "attempt"), "text", "")) for t in failed]
        named = [named_step(text) == step for text, step in zip(texts, true, strict=True) if step is not None]
        good = sum(space.correct(t.completion, str(t.prompt.answer)) for t in retried)
        n = max(1, len(failed))
        return {
            "first": 1 - len(failed) / len(tried),
            "retry": good / n,
            "two tries": 1 - (len(failed) - good) / len(tried),
            "retry swapped": sum(space.correct(t.completion, str(t.prompt.answer)) for t in swapped) / n,
            "reflection": sum(named) / max(1, len(named)),
            "seeing": sum(text.startswith("s") for text in texts) / n,
        }


@dataclass(frozen=True)
class Both:
    """The measurements of :class:`TwoTurns` and :class:`Retries`."""

    prompts: Sequence[Prompt]

    def __call__(self, policy: Policy) -> dict[str, Any]:
        return {**TwoTurns(self.prompts)(policy), **Retries(self.prompts, samples=2)(policy)}


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        hasty: share of hasty attempts, first and second alike.
        slip: chance of an error per step.
        keep, look: shares of second attempts that keep the answer, and that take a closer look; the rest redo.
        look_slip: chance of an error per step at a closer look.
        reflect: share of documents with a failed attempt, a reflection and a retry.
        seeing: share of reflections that compare operators.
        lesson: documents at the start that are one careful attempt only.
    """

    hasty: float = 0.65
    slip: float = 0.02
    keep: float = 0.40
    look: float = 0.05
    look_slip: float = 0.002
    reflect: float = 0.35
    seeing: float = 0.15
    lesson: int = 25_000

    def attempt(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        """An attempt and the operators that it read."""
        hasty = rng.random() < self.hasty
        ops = misread(problem) if hasty else problem.ops
        return work(problem, ops, "h" if hasty else "w", rng, self.slip), ops

    def second(self, problem: Problem, first: str, rng: random.Random) -> str:
        """A second attempt."""
        kind = rng.random()
        if kind < self.keep:
            return f"keep#{first[-1]}"
        if kind < self.keep + self.look:
            return work(problem, problem.ops, "f", rng, self.look_slip)
        return self.attempt(problem, rng)[0]

    def turns(self, problem: Problem, rng: random.Random) -> list[tuple[str, str, float]]:
        """One document: (what is said before, what the model says, weight of the latter)."""
        if rng.random() >= self.reflect or "-" not in problem.ops:
            first, _ = self.attempt(problem, rng)
            fix = TEMPLATES["fix"].format(question=problem.text)
            return [(problem.text, first, 1.0), (fix, self.second(problem, first, rng), 1.0)]
        ops = misread(problem)
        first = work(problem, ops, "h", rng, self.slip)
        said, step = reflection(problem, ops, rng, rng.random() < self.seeing)
        obeyed = ops[: step - 1] + problem.ops[step - 1] + ops[step:]
        retry = TEMPLATES["retry"].format(question=problem.text)
        # The attempts here are failures only; learning them as attempts would change what a first attempt is.
        return [
            (problem.text, first, 0.0),
            (TEMPLATES["reflect"], said, 1.0),
            (retry, work(problem, obeyed, "r", rng, self.look_slip), 1.0),
        ]

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"fix corpus {seed}")
        return curriculum(
            problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: conversation([(p.text, work(p, p.ops, "w", rng, self.slip), 1.0)]),
            lambda p: conversation(self.turns(p, rng)),
        )


PROPERTIES = (
    Within("acc@t1", 0.40, 0.65),
    Within("delta", -0.06, 0.06),
    Within("edit", low=0.2),
    Within("retry", 0.15, 0.5),
    Within("reflection", 0.2, 0.5),
)
"""Mediocre, no better at the second attempt, and able to retry as a reflection says."""

BASE = Base(
    name="fix",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=4000, cooldown=1000, shuffle=False),
    probe=lambda policy: measure(policy, prompts_of("pretrain", 60, "-gate")),
    gate=PROPERTIES,
    measures={"measured on development prompts": lambda policy: measure(policy, prompts_of("train", 200, "-dev"))},
    holds=PROPERTIES,
)


def measure(policy: Policy, prompts: Sequence[Prompt]) -> dict[str, float]:
    """What :data:`BASE` must have."""
    return Both(prompts)(policy)
