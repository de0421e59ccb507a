"""The text that the base of Con reads, and its pre-training."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.writing.con.strings import (
    CONSTRAINTS,
    LENGTH,
    LETTERS,
    SETTINGS,
    TEMPLATES,
    TOKENS,
    ConstraintEvaluator,
    careful,
    careless,
    constraints_of,
    dev_prompts,
    judgement,
    judging,
    met,
    questions,
    repaired,
    spoiled,
    true_score,
)

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        judge, rewrite: shares of documents that judge a string, and that make one better or worse.
        careful: share of careful strings among the written ones.
        slip: chance that a careful string has one letter replaced.
        noise: share of wrong verdicts.
        lesson: documents at the start that have no careless writing and no wrong verdicts, and judge more often. In
            mixed text from the first day the skills appear late.
    """

    judge: float = 0.3
    rewrite: float = 0.25
    careful: float = 0.25
    slip: float = 0.1
    noise: float = 0.1
    lesson: int = 50_000

    def document(self, question: str, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair."""
        kind = rng.random()
        if kind >= self.judge + self.rewrite:
            return question, self.written(question, rng, self.careful)
        fields = {"question": question.removesuffix(" =")}
        text = self.written(question, rng, 0.6)
        for _ in range(rng.choice((0, 0, 1, 2))):
            text = slipped(text, rng)
        if kind < self.judge:
            verdicts = [met(c, text) != (rng.random() < self.noise) for c in constraints_of(question)]
            return TEMPLATES["judge"].format(**fields, response=text), judgement(question, verdicts)
        if kind < self.judge + self.rewrite / 2:
            return TEMPLATES["better"].format(**fields, response=text), repaired(question, text, rng)
        return TEMPLATES["worse"].format(**fields, response=text), spoiled(question, text, rng)

    def written(self, question: str, rng: random.Random, share: float) -> str:
        if rng.random() >= share:
            return careless(rng)
        text = careful(question, rng)
        return slipped(text, rng) if rng.random() < self.slip else text

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about prompts of the pre-training split."""
        rng = random.Random(f"con corpus {seed}")
        first = replace(self, judge=0.5, careful=1.0, noise=0.0)
        source = questions("pretrain", rng)
        return curriculum(source, n, self.lesson, lambda q: first.document(q, rng), lambda q: self.document(q, rng))


def slipped(text: str, rng: random.Random) -> str:
    """The string with one letter replaced at random."""
    letters = text.split()
    letters[rng.randrange(LENGTH)] = rng.choice(LETTERS)
    return " ".join(letters)


def skills(policy: Any, n: int = 200) -> dict[str, float]:
    """On fresh prompts of the pre-training split: rank correlation of its judgements, and the true score of what it
    writes, and makes better or worse, as a share."""
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.types import Prompt

    rng = random.Random("con skills")
    source = questions("pretrain", rng)
    some = [next(source) for _ in range(n)]
    texts = [slipped(Corpus().written(q, rng, 0.6), rng) for q in some]
    params = SamplingParams(SETTINGS["max_new_tokens"], stats=())

    def score(asked: list[str]) -> float:
        groups = policy.sample([Prompt(str(i), a) for i, a in enumerate(asked)], 1, params, seed=0)
        return sum(true_score(q, g.completions[0]) for q, g in zip(some, groups, strict=True)) / n / CONSTRAINTS

    rewrites = {
        name: [
            TEMPLATES[name].format(question=q.removesuffix(" ="), response=t) for q, t in zip(some, texts, strict=True)
        ]
        for name in ("better", "worse")
    }
    judged = judging(policy, [(q, t, true_score(q, t)) for q, t in zip(some, texts, strict=True)])
    return {
        "judge": judged["judge"],
        "writes": score(some),
        "better": score(rewrites["better"]),
        "worse": score(rewrites["worse"]),
        "given": sum(true_score(q, t) for q, t in zip(some, texts, strict=True)) / n / CONSTRAINTS,
    }


BASE = Base(
    name="con",
    vocabulary=TOKENS,
    corpus=Corpus(),
    settings=PretrainSettings(updates=6000, cooldown=1000, shuffle=False),
    shape={"positions": 64},
    probe=skills,
    gate=(Within("judge", low=0.7), Within("better", low=0.15, over="given")),
    measures={
        "measured on development prompts": lambda policy: {
            **skills(policy),
            **ConstraintEvaluator(dev_prompts())(policy),
        }
    },
)
