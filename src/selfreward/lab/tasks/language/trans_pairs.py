"""Trans-pairs: the translation of ``trans`` by a base that has read 500 sentence pairs and nothing else.

The pairs are right and well formed, and they are few: the base knows the words, and errs where a sentence
combines them in a way that it has not read. Sources without translations are plenty (those of ``trans``).

How long it reads is a choice, made on 200 development sentences: of 300, 360, 420, 480, 540 and 660 updates, after
which greedy quality is .47, .61, .73, .86, .92 and .99, the one nearest to .7, so that there is something to gain and
something to build on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.language import trans
from selfreward.lab.tasks.language.trans import languages
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

PAIRS = 500
SETTINGS: dict[str, Any] = {**languages.SETTINGS, "steps": 40, "max_new_tokens": 24}


def pairs() -> list[Prompt]:
    """The parallel data: every sentence as a prompt in both directions, with its translation."""
    found: list[Prompt] = []
    seen: set[str] = set()
    for sentence in languages.sentences("parallel", random.Random("trans pairs")):
        if len(seen) == PAIRS:
            break
        if sentence.s not in seen:
            seen.add(sentence.s)
            found += [languages.prompt(f"pair-{len(seen)}-{target}", sentence, target) for target in ("t", "s")]  # type: ignore[arg-type]
    return found


@cache
def load() -> Task:
    """The prompts and the evaluator of ``trans``."""
    return replace(trans.load(), name="trans-pairs", settings=dict(SETTINGS))


@dataclass(frozen=True)
class Corpus:
    """The pairs, which are read epoch after epoch."""

    pairs: int = PAIRS

    def documents(self, n: int, seed: int) -> list[Document]:
        """All of them, whatever ``n`` and ``seed``."""
        answer = languages.TEMPLATES["answer"]
        return [(str(p.text), answer.format(answer=p.answer)) for p in pairs()[: 2 * self.pairs]]


def measure(policy: Policy) -> dict[str, float]:
    """Quality of what the base says on 200 development prompts."""
    from selfreward.lab.tasks.language.trans import base as trans_base

    found = trans_base.measure(policy, languages.prompts_of("dev", 200))
    return {k: getattr(found, k) for k in ("greedy_quality", "quality", "exact", "format")}


BASE = Base(
    name="trans-pairs",
    vocabulary=languages.TOKENS,
    corpus=Corpus(),
    settings=PretrainSettings(updates=420, lr=4e-3, label_smoothing=0.1, weight_decay=0.01),
    shape={"positions": 128},
    measures={"measured on development prompts": measure},
    holds=(Within("greedy_quality", 0.6, 0.8),),
)
