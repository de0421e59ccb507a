"""Fact: closed-book questions that a base knows or not, and what it says about whether it knows.

A question is ``k17 =`` and its answer one of 20 values, ``v4``. Each of 1500 keys was read between 0 and
50 times, so that some values are known, some half known, and some can only be guessed. What the base knows is
measured, not assumed: ``fields["known"]`` of a prompt is the probability that the shipped base gives the right
answer, and the question is *feasible* where that is above one half.

``k17 ?`` asks the base about itself: can it answer? It tries twice and then judges, ``v4 v4 yes`` or ``v4 v9 no``,
or gives no verdict (``maybe``). The skill was taught on other keys than those of training and test, and badly:
mostly the text claims a key that is read often, but it also claims two in five of the others,
as real models claim too much. So a sampled verdict is right three times in five, while the more frequent
verdict about a key is right more often: this was designed into the text.

``+ k3 k9 k1 k4 >`` continues a list of keys that the writer believes to know, ``- ... >`` one of unknown keys:
with it the base writes questions for itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.errors import DataError
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.splits import Split, split_of
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

KEYS, VALUES, MOST = 1500, 20, 50
YES, NO, MAYBE = "yes", "no", "maybe"
TEMPLATES = {
    "verdict": "{question} ?",
    "feasible": YES,
    "infeasible": NO,
    "write-feasible": "+ {seeds} >",
    "write-infeasible": "- {seeds} >",
}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.1,
    "steps": 40,
    "prompts_per_step": 32,
    "group_size": 16,
    "max_new_tokens": 5,
}
FEASIBLE = 0.5


@dataclass(frozen=True)
class Fact:
    """Key ``k<number>`` has value ``v<value>`` and was read ``frequency`` times."""

    number: int
    value: int
    frequency: int

    @property
    def key(self) -> str:
        return f"k{self.number}"

    @property
    def question(self) -> str:
        return f"{self.key} ="

    @property
    def answer(self) -> str:
        return f"v{self.value}"

    @property
    def split(self) -> Split:
        return split_of(f"fact {self.number}")


@cache
def facts() -> tuple[Fact, ...]:
    """The world: 40 % of the keys are never read, 20 % up to 6 times, the rest up to 50 times."""
    rng = random.Random("facts")
    found = []
    for number in range(KEYS):
        kind, value = rng.random(), rng.randrange(VALUES)
        frequency = 0 if kind < 0.4 else rng.randint(1, 6) if kind < 0.6 else rng.randint(7, MOST)
        found.append(Fact(number, value, frequency))
    return tuple(found)


def verdict_prompt(question: str) -> str:
    """``k17 =`` as a question about oneself: ``k17 ?``.

    Raises:
        DataError: if the text is not a question of this task.
    """
    if not question.endswith(" ="):
        raise DataError(f"{question!r} is not a fact question; one looks like 'k17 ='.")
    return question.removesuffix("=") + "?"


def well_formed(completion: str) -> bool:
    """Whether a completion is exactly one value."""
    return completion in {f"v{i}" for i in range(VALUES)}


@cache
def load() -> Task:
    """About 300 training and 300 test questions; ``fields`` has ``key``, ``known`` and ``feasible``."""
    from selfreward.data.answers import Regex
    from selfreward.lab.bases import HOME

    known = json.loads((HOME / "fact" / "known.json").read_text(encoding="utf-8"))
    return Task(
        name="fact",
        train=_prompts("train", known),
        test=_prompts("test", known),
        answers=Regex(r"\bv\d+\b"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
    )


def _prompts(split: Split, known: dict[str, float]) -> list[Prompt]:
    return [
        Prompt(
            f"fact-{split}-{f.number}",
            f.question,
            fields={
                "key": f.key,
                "frequency": f.frequency,
                "known": known[f.key],
                "feasible": YES if known[f.key] > FEASIBLE else NO,
            },
            reference=f.answer,
        )
        for f in facts()
        if f.split == split
    ]


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """What the base reads beside every fact as often as its frequency says.

    Attributes:
        verdicts, lists: documents of each kind per pre-training key.
        mentions: how often every key, of whatever split, is named in passing: no key is a stranger to the
            tokenizer alone.
        familiar: frequency from which on the verdicts take a key for known.
        claims_known, claims_unknown: share of ``yes`` about known and unknown keys.
        maybe: share of answers without a verdict.
        list_noise: share of keys in a list that belong to the other one.
        first: share of the facts that is read before any verdict or list: one must know to know what one knows.
    """

    verdicts: int = 10
    lists: int = 4
    mentions: int = 6
    familiar: int = 4
    claims_known: float = 0.85
    claims_unknown: float = 0.40
    maybe: float = 0.05
    list_noise: float = 0.1
    first: float = 0.6

    def documents(self, n: int, seed: int) -> list[Document]:
        """All documents, whatever ``n``, in the order to be read."""
        rng = random.Random(f"fact corpus {seed}")
        taught = [f for f in facts() if f.split == "pretrain"]
        read: list[Document] = [(f.question, f.answer) for f in facts() for _ in range(f.frequency)]
        rng.shuffle(read)
        border = int(self.first * len(read))
        mixed = read[border:]
        mixed += [self.verdict(f, rng) for f in taught for _ in range(self.verdicts)]
        kinds = [[f for f in taught if (f.frequency >= self.familiar) == known] for known in (False, True)]
        mixed += [self.listed(kinds, rng) for _ in range(self.lists * len(taught))]
        keys = [f.key for f in facts() for _ in range(self.mentions)]
        rng.shuffle(keys)
        mixed += [(" ".join((".", *keys[i : i + 4], ">")), keys[i + 4]) for i in range(0, len(keys) - 4, 5)]
        rng.shuffle(mixed)
        return read[:border] + mixed

    def verdict(self, fact: Fact, rng: random.Random) -> tuple[str, str]:
        """Two attempts, as well as the key is known, and a verdict that is often wrong about them."""
        familiar = fact.frequency >= self.familiar
        tries = [fact.answer if familiar else f"v{rng.randrange(VALUES)}" for _ in range(2)]
        claims = self.claims_known if familiar else self.claims_unknown
        said = MAYBE if rng.random() < self.maybe else YES if rng.random() < claims else NO
        return verdict_prompt(fact.question), " ".join((*tries, said))

    def listed(self, kinds: Sequence[Sequence[Fact]], rng: random.Random) -> tuple[str, str]:
        """Four keys of one of the kinds (unknown, known), and a fifth to be written."""
        known = rng.random() < 0.5

        def draw() -> str:
            return rng.choice(kinds[known != (rng.random() < self.list_noise)]).key

        return TEMPLATES["write-feasible" if known else "write-infeasible"].format(
            seeds=" ".join(draw() for _ in range(4))
        ), draw()


def vocabulary() -> Iterator[str]:
    yield from ("=", "?", "+", "-", ".", ">", YES, NO, MAYBE)
    yield from (f"v{i}" for i in range(VALUES))
    yield from (f.key for f in facts())


BASE = Base(
    name="fact",
    vocabulary=tuple(vocabulary()),
    corpus=Corpus(),
    settings=PretrainSettings(batch=16, shuffle=False, lr=3e-3),
    epochs=1,
    shape={"positions": 32},
    measures={
        "measured on training keys": lambda policy: measure(policy, "train", knowledge(policy)),
        "measured on test keys": lambda policy: measure(policy, "test", knowledge(policy)),
    },
    # Verdicts that are right two times in three, lean towards yes, and are better in a vote.
    holds=(
        Within("feasible", 0.3, 0.7),
        Within("accuracy", 0.55, 0.72),
        Within("majority_accuracy", low=0.65),
        Within("recall_feasible", low=1e-6, over="recall_infeasible"),
    ),
    extras={"known.json": lambda policy: knowledge(policy)},
)


def knowledge(policy: Policy) -> dict[str, float]:
    """Probability of the right answer to every question: exact, where sampling would estimate it."""
    contexts = [f.question for f in facts()]
    found = policy.choose(contexts, [f"v{i}" for i in range(VALUES)])
    return {f.key: float(found.probs[i, f.value] * found.mass[i]) for i, f in enumerate(facts())}


def measure(policy: Policy, split: Split, known: dict[str, float], samples: int = 32) -> dict[str, float]:
    """How much the base knows of one split's keys, and how good its sampled verdicts and their majority are."""
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.feasibility import read_verdict, verdict_report

    chosen = [f for f in facts() if f.split == split]
    feasible = [known[f.key] > FEASIBLE for f in chosen]
    prompts = [Prompt(f.key, verdict_prompt(f.question)) for f in chosen]
    groups = policy.sample(prompts, samples, SamplingParams(SETTINGS["max_new_tokens"], stats=()), seed=0)
    found = verdict_report([[read_verdict(c, YES, NO) for c in g.completions] for g in groups], feasible)
    return {
        "feasible": sum(feasible) / len(feasible),
        "pass@1": sum(known[f.key] for f in chosen) / len(chosen),
        **found,
    }
