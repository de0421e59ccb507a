"""The base of :mod:`selfreward.lab.tasks.programs.dsl`: its text, its pre-training, and how it is measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, Part, conversation, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.pretraining.tokenizers import EOS
from selfreward.lab.tasks.programs.dsl.programs import (
    ALPHABET,
    LETTERS,
    ORDERS,
    OVERLOOKED,
    SETTINGS,
    SPACE,
    TEMPLATES,
    Problem,
    parse,
    problems,
    prompts_of,
    run,
    shows_order,
    well_formed,
)
from selfreward.signals.rules import graded
from selfreward.types import Group, Prompt, Trajectory

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

BLOCK = 256


@dataclass(frozen=True)
class Corpus:
    """Shares of the text that the base learns from, and what is overlooked in it.

    Attributes:
        second: share of documents of two turns, an attempt and a second one that is told nothing.
        failed: the same, where a failed first attempt gets feedback; and of feedback in front of the question alone.
        hints: share of documents with a solution in front of the question.
        overlooked: chance by kind of operation that it is not seen.
        lesson: documents at the start in which nothing is overlooked. In mixed text from the first day the skill
            appears late.
    """

    second: float = 0.1
    failed: float = 0.2
    alone: float = 0.15
    hints: float = 0.15
    overlooked: dict[str, float] = field(default_factory=lambda: dict(OVERLOOKED))
    lesson: int = 32_000

    def reads(self, problem: Problem, rng: random.Random, strings: Sequence[str] = (), sure: Sequence[str] = ()) -> str:
        """An attempt: what is seen of the examples, and of further ``strings``, of which nothing is overlooked; what
        is named in ``sure`` is taken over."""
        marks, order = dict.fromkeys(LETTERS, "."), "."
        for op in problem.ops:
            missed = rng.random() < self.overlooked[op[0]]
            if op in ORDERS:
                if not missed or any(shows_order(problem.ops, s) for s in strings):
                    order = op
            elif any(op[1] in s for s in strings) or (any(op[1] in s for s in problem.shown) and not missed):
                marks[op[1]] = op[0]
        for op in sure:
            if op in ORDERS:
                order = op
            else:
                marks[op[1]] = op[0]
        return written(problem, marks, order)

    def turns(self, problem: Problem, rng: random.Random) -> list[tuple[str, str]]:
        """One document: what is said to the base, and what it says."""
        kind = rng.random()
        first = self.reads(problem, rng)
        if kind < self.hints:
            shown = parse(first.partition("#")[2])
            told = TEMPLATES["hint"].format(solution=first, question=problem.text)
            return [(told, self.reads(problem, rng, sure=shown))]
        kind -= self.hints
        if kind < self.second:
            again = TEMPLATES["fix"].format(question=problem.text)
            return [(problem.text, first), (again, self.reads(problem, rng))]
        kind -= self.second
        if kind < self.failed + self.alone:
            feedback = SPACE.feedback(first, problem.tests)
            failed = [feedback.partition(">")[0]] if feedback else []
            if rng.random() < 0.03:  # a text that was no program
                cut = first.partition("#")
                first = cut[0] + "#" + "".join(rng.choices("+-^#.", k=rng.randint(1, 3)))
                feedback, failed = SPACE.feedback(first, problem.tests), []
            if feedback:
                told = TEMPLATES["feedback"].format(feedback=feedback, question=problem.text)
                answer = (told, self.reads(problem, rng, failed))
                return [answer] if kind < self.alone else [(problem.text, first), answer]
        return [(problem.text, first)]

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read.

        Some hundred at a time are sorted by length: that saves padding, and the lessons keep their order.
        """
        rng = random.Random(f"dsl corpus {seed}")
        careful = replace(self, overlooked=dict.fromkeys(OVERLOOKED, 0.0))
        found: list[Any] = curriculum(
            problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: conversation([(p.text, careful.reads(p, rng), 1.0)]),
            lambda p: conversation([(said, answer, 1.0) for said, answer in self.turns(p, rng)]),
        )
        return [d for i in range(0, n, BLOCK) for d in sorted(found[i : i + BLOCK], key=_length)]


def _length(document: list[Part]) -> int:
    """In tokens: a character is one, and so is the end of an answer, which is every second part."""
    return sum(len(text) for text, _ in document) + (1 - len(EOS)) * len(document) // 2


def written(problem: Problem, marks: dict[str, str], order: str) -> str:
    """An attempt with these marks for the letters and this order; one that sees nothing reverses."""
    ops = [mark + x for x, mark in marks.items() if mark != "."]
    walk = "".join(x + mark for x, mark in marks.items())
    if not ops and order == ".":
        order = "<"
    given = problem.shown[0]
    done = f"{run(ops, given)}>{run(problem.ops, given)}{order}"
    return f"{walk}:{done}#{''.join(ops)}{order.strip('.')}"


PROPERTIES = (
    Within("pass@1", 0.3, 0.6),
    Within("with feedback", low=0.2, over="again"),
    Within("shuffled feedback", high=0.03, over="again"),
    Within("with hint", low=0.85),
    Within("shuffled hint", high=0.0, over="pass@1"),
)
"""Mediocre, and helped by what feedback and hints say, not by there being one."""

BASE = Base(
    name="dsl",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=2800, lr=2e-3, cooldown=800, gate_every=400, shuffle=False),
    # The usual scale of initial weights, 0.02, is meant for wider models; this narrow, deep one would idle for long.
    shape={"layers": 4, "positions": 192, "initializer_range": 0.07},
    probe=lambda policy: measure(policy, prompts_of("pretrain", 60, "-gate"), samples=4),
    gate=PROPERTIES,
    measures={"measured on development prompts": lambda policy: measure(policy, dev(150))},
    holds=(*PROPERTIES, Within("pass@8", low=0.25, over="pass@1")),
)


def dev(n: int = 200) -> list[Prompt]:
    """Labelled prompts for choosing settings: other problems of the training split's programs."""
    return prompts_of("train", n, "-dev")


# ---- measurements --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempts:
    """Measures a policy by an attempt, and by a second one where it failed.

    ``pass@1``, ``pass@K`` (of all samples), ``tests`` (share of hidden tests that a sample passes), ``format`` (the
    base's form) and ``read`` (a program at all). Of one failed attempt for each of the first ``repaired`` prompts:
    ``again``, how many second attempts are right that are told nothing; ``with feedback``, where they are told the
    first failed test; and ``shuffled feedback``, where it is that of another prompt's failure.
    """

    prompts: Sequence[Prompt]
    samples: int = 4
    repaired: int = 80
    seed: int = 0

    def __call__(self, policy: Policy) -> dict[str, Any]:
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.statistics import bootstrap_mean

        params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
        groups = policy.sample(self.prompts, self.samples, params, seed=self.seed)
        estimates = {name: bootstrap_mean(v, seed=self.seed) for name, v in first_attempts(groups).items()}
        return {
            **{name: e.value for name, e in estimates.items()},
            **second_attempts(policy, groups[: self.repaired]),
            "intervals": {name: [e.low, e.high] for name, e in estimates.items()},
            "prompts": len(self.prompts),
            "samples": self.samples,
        }


def first_attempts(groups: Sequence[Group]) -> dict[str, list[float]]:
    """Per prompt: the share of right samples, whether any is, of hidden tests passed, of samples of the base's form,
    and of samples with a program."""
    found: dict[str, list[float]] = {}
    for group in groups:
        n, grades = len(group), graded(group.completions, str(group.prompt.answer), SPACE)
        own = {
            "pass@1": sum(x == 1 for x in grades) / n,
            f"pass@{n}": float(max(grades) == 1),
            "tests": sum(grades) / n,
            "format": sum(map(well_formed, group.completions)) / n,
            "read": sum(SPACE.extract(c) is not None for c in group.completions) / n,
        }
        for name, value in own.items():
            found.setdefault(name, []).append(value)
    return found


def second_attempts(policy: Policy, groups: Sequence[Group]) -> dict[str, float]:
    """Accuracy of a second attempt behind the first failed one of each group, by what it is told."""
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.turns import Turn, take

    failed = [next((t for t in g if not right(t)), None) for g in groups]
    found = [t for t in failed if t is not None]
    told = [SPACE.feedback(t.completion, str(t.prompt.answer)) for t in found]
    params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
    policy.seed(0, "second attempts")

    def repaired(said: Sequence[str]) -> float:
        lead = {id(t): text + TEMPLATES["fix"] for t, text in zip(found, said, strict=True)}
        drawn = take(policy, found, Turn("fix", lead=lambda t: lead[id(t)]), params)
        return sum(right(t) for (t,) in drawn) / max(1, len(drawn))

    return {
        "again": repaired([""] * len(found)),
        "with feedback": repaired(told),
        "shuffled feedback": repaired(told[1:] + told[:1]),
    }


def in_context(policy: Policy, groups: Sequence[Group]) -> dict[str, float]:
    """Accuracy behind what self-distillation shows: a sibling's success, else feedback in front of the question; its
    own, and that of the next prompt."""
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.recontext import success_or_error

    params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
    hint, feedback = TEMPLATES["hint"], TEMPLATES["feedback"]
    for group in groups:
        group.reward_with([float(right(t)) for t in group])

    def accuracy(success: str, error: str, shift: int, told: Sequence[Group]) -> float:
        sources = [told[(i + shift) % len(told)] for i in range(len(told))]
        asked = [c for g, s in zip(told, sources, strict=True) for c in success_or_error(g, SPACE, success, error, s)]
        prompts = [replace(p, id=f"{p.id}{i}") for i, p in enumerate(asked) if p is not None]
        drawn = policy.sample(prompts, 1, params, seed=1)
        return sum(right(g.trajectories[0]) for g in drawn) / max(1, len(drawn))

    mixed = [g for g in groups if 1 < sum(g.rewards) < len(g)]
    hopeless = [g for g in groups if not any(g.rewards)]
    return {
        "with hint": accuracy(hint, "", 0, mixed),
        "shuffled hint": accuracy(hint, "", 1, mixed),
        "no success": len(hopeless) / len(groups),
        "feedback where none": accuracy(hint, feedback, 0, hopeless),
        "shuffled where none": accuracy(hint, feedback, 1, hopeless),
    }


def right(trajectory: Trajectory) -> bool:
    return SPACE.correct(trajectory.completion, str(trajectory.prompt.answer))


def measure(policy: Policy, prompts: Sequence[Prompt], samples: int = 8, seed: int = 0) -> dict[str, float]:
    """What :data:`BASE` must have."""
    from selfreward.policy.sampling.params import SamplingParams

    params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(prompts, samples, params, seed=seed)
    first = {name: sum(v) / len(v) for name, v in first_attempts(groups).items()}
    return {**first, **second_attempts(policy, groups), **in_context(policy, groups)}
