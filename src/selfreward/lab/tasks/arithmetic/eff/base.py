"""The bases of EFF: their text, and how they are made."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.pretraining.tokenizers import BOS
from selfreward.lab.tasks.arithmetic.eff.problems import (
    ALPHABET,
    EFFORTS,
    FILLERS,
    TEMPLATES,
    Problem,
    evaluate,
    problems,
)
from selfreward.lab.tasks.splits import as_prompts

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        worked: share of worked solutions; the others are guesses.
        slip: chance of an error per worked step.
        alone: share of completions that stand without a question, after the begin-of-text token.
        signed: share of questions with an effort sign before them, drawn at random.
        order: share of documents that compare two signs: ``bd>`` is answered by the larger, ``d``.
        terse: share of completions without filler.
        stop: chance of an end after each filler step. It is below ``terse``: rambling goes on, as a manner
            does, and is not a quota that is used up.
        lesson: documents at the start that are worked solutions only.
    """

    worked: float = 0.40
    slip: float = 0.03
    alone: float = 0.15
    signed: float = 0.5
    order: float = 0.05
    terse: float = 0.5
    stop: float = 0.2
    lesson: int = 16_000

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``problem``."""
        kind = rng.random()
        if kind < self.order:
            a, b = rng.sample(list(EFFORTS.values()), 2)
            return f"{a}{b}>", max(a, b)
        completion = self.completion(problem, rng)
        return (BOS if kind < self.order + self.alone else self.question(problem, rng)), completion

    def question(self, problem: Problem, rng: random.Random) -> str:
        sign = rng.choice(list(EFFORTS.values())) if rng.random() < self.signed else ""
        return sign + problem.text

    def completion(self, problem: Problem, rng: random.Random) -> str:
        """A completion in a random style with a random number of filler steps."""
        if rng.random() < self.worked:
            return self.finish(problem.worked(rng, self.slip), rng)
        return f"g#{problem.answer}" + self.filler(rng)

    def finish(self, steps: str, rng: random.Random) -> str:
        return f"{steps}#{steps[-1]}" + self.filler(rng)

    def filler(self, rng: random.Random) -> str:
        if rng.random() < self.terse:
            return ""
        steps = 1
        while steps < FILLERS and rng.random() >= self.stop:
            steps += 1
        return "hm" * steps

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"eff corpus {seed}")
        return curriculum(
            problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: (self.question(p, rng), self.finish(p.worked(rng, self.slip), rng)),
            lambda p: self.document(p, rng),
        )


@dataclass(frozen=True)
class Meaning(Corpus):
    """Text in which a sign means a little, as ``little effort`` does to a language model before any training.

    Attributes:
        meaning: share of signed questions whose answer follows the sign: from ``a`` to ``e`` the share of
            worked solutions rises from 0 to 1, and that of completions without filler falls from 1 to 0.
    """

    signed: float = 0.8
    lesson: int = 0
    meaning: float = 0.4

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        prompt, completion = super().document(problem, rng)
        signs = list(EFFORTS.values())
        if prompt[0] in signs and prompt.endswith("=") and rng.random() < self.meaning:
            share = signs.index(prompt[0]) / (len(signs) - 1)
            completion = replace(self, worked=share, terse=1 - share).completion(problem, rng)
        return prompt, completion


BASE = Base(
    name="eff",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=4000, cooldown=500, shuffle=False),
    probe=lambda policy: evaluate(policy, as_prompts(problems("pretrain", random.Random("eff gate")), 60)),
    gate=(Within("worked accuracy", low=0.85),),
    measures={"measured on the test split": evaluate},
    # Mediocre on average: working is good at every difficulty, guessing is not, and there is filler to leave out.
    holds=(
        Within("pass@1", 0.3, 0.65),
        Within("worked accuracy", low=0.85),
        Within("guess accuracy", high=0.35),
        Within("filler share", low=0.2),
        Within("format", low=0.9),
    ),
)


def with_signs(policy: Policy) -> dict[str, float]:
    """What :func:`evaluate` measures, and length and accuracy behind the signs for the least and the most effort."""
    from selfreward.rollouts.effort import with_effort

    found = evaluate(policy)
    for effort in (LEAST_EFFORT, MOST_EFFORT):
        asked = evaluate(with_effort(policy, effort, TEMPLATES))
        found |= {f"{name} at {effort:g}": asked[name] for name in ("length", "pass@1")}
    return found


LEAST_EFFORT, MOST_EFFORT = min(EFFORTS), max(EFFORTS)

SIGNS = Base(
    name="eff-signs",
    start="eff",
    corpus=Meaning(),
    settings=PretrainSettings(updates=500, lr=3e-3, shuffle=False),
    measures={"measured on the test split": with_signs},
    holds=(*BASE.holds, Within(f"length at {MOST_EFFORT:g}", low=1e-6, over=f"length at {LEAST_EFFORT:g}")),
)
"""The base after it has read on in texts where signs mean a little."""
BASES = {base.name: base for base in (BASE, SIGNS)}
