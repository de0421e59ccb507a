"""Chain-wide: chains of 2 to 9 operations, a third each nearly solved, half solved and nearly hopeless.

A question is a chain as in :mod:`selfreward.lab.tasks.arithmetic.chain`, padded to one width:
``6*8-5...............=``. The base answers by working it out (``w6*8-3#3``, right except for slips), by guessing
(``guess#5``, mostly wrong) or by giving up (``skip``). How often it does which depends on the length and was designed
into its text: short chains (2 and 3 operations) are nearly always worked, middle ones (4 to 6) about half of the
time, long ones (7 to 9) one time in twenty. So the skill is there at every length, and at most lengths it is rarely
used.

A question that ends in ``?`` asks the base about itself: the first character of the answer is the pass rate
in eighths (``0`` to ``8``), the second the length of a right solution, in steps of three tokens (``a`` is up to 3,
``h`` 22 to 24). The base has read random answers only: it knows the form and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.errors import DataError
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic.chain import ALPHABET, SYMBOLS, Problem
from selfreward.lab.tasks.splits import Split, split_of
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

SHORTEST, LONGEST = 2, 9
BANDS = {"easy": (2, 3), "middle": (4, 5, 6), "hard": (7, 8, 9)}
PASS_STEPS, LENGTHS, LENGTH_STEP = 8, "abcdefgh", 3
TEMPLATES = {"meta-letters": LENGTHS, "meta-length-step": str(LENGTH_STEP)}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.1,
    "steps": 48,
    "prompts_per_step": 16,
    "group_size": 8,
    "max_new_tokens": 24,
}


def band_of(problem: Problem) -> str:
    """``easy``, ``middle`` or ``hard``, by the number of operations."""
    return next(name for name, lengths in BANDS.items() if len(problem.ops) in lengths)


def question_of(problem: Problem) -> str:
    """The problem padded to one width, so that every step stands as far from its operator as any other."""
    return problem.text[:-1].ljust(2 * LONGEST + 1, ".") + "="


def parse(question: str) -> Problem:
    """The problem that a question text spells.

    Raises:
        DataError: if the text is not a question of this task.
    """
    body = question.removesuffix("=").rstrip(".")
    digits, ops = body[::2], body[1::2]
    sound = digits.isdigit() and set(ops) <= set(SYMBOLS) and len(digits) == len(ops) + 1
    whole = question.endswith("=") and len(question) == 2 * LONGEST + 2
    if not sound or not whole or not SHORTEST <= len(ops) <= LONGEST:
        raise DataError(f"{question!r} is not a chain-wide question; one looks like '6*8-5..............='.")
    return Problem(tuple(map(int, digits)), ops)


def problems(split: Split, rng: random.Random, lengths: Sequence[int] | None = None) -> Iterator[Problem]:
    """Endless random problems of one split; the number of operations is drawn by band, then within the band."""
    while True:
        n = rng.choice(lengths or rng.choice(list(BANDS.values())))
        ops = "".join(rng.choices(SYMBOLS, k=n))
        problem = Problem(tuple(rng.randrange(10) for _ in range(n + 1)), ops)
        if split_of(f"wide {question_of(problem)}") == split:
            yield problem


def well_formed(completion: str) -> bool:
    """Whether a completion is worked, a guess or a ``skip``, whatever its numbers."""
    if completion == "skip":
        return True
    head, _, answer = completion.partition("#")
    steps = head[1:]
    worked = head[:1] == "w" and steps[::2].isdigit() and set(steps[1::2]) <= set(SYMBOLS) and len(steps) % 2 == 1
    return (head == "guess" or worked) and len(answer) == 1 and answer.isdigit()


def prompts_of(split: Split, n: int, label: str = "", bands: Sequence[str] = tuple(BANDS)) -> list[Prompt]:
    """``n`` problems, the bands taking turns; ``fields["band"]`` names the band."""
    rng = random.Random(f"chain-wide {label or split}")
    sources = [problems(split, rng, BANDS[band]) for band in bands]
    found: dict[str, Prompt] = {}
    while len(found) < n:
        problem = next(sources[len(found) % len(sources)])
        name = f"wide-{label or split}-{len(found)}"
        question = question_of(problem)
        fields = {"band": band_of(problem), "meta": question[:-1] + "?"}
        found.setdefault(question, Prompt(name, question, fields=fields, reference=str(problem.answer)))
    return list(found.values())


@cache
def load() -> Task:
    """1200 training and 300 test prompts; any first part of them has the bands in equal shares."""
    from selfreward.data.answers import Regex

    return Task(
        name="chain-wide",
        train=prompts_of("train", 1200),
        test=prompts_of("test", 300),
        answers=Regex(r"#(\d)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        evaluator=lambda policy: evaluate(policy, load().test),
    )


def evaluate(policy: Policy, prompts: Sequence[Prompt], samples: int = 4, seed: int = 0) -> dict[str, float]:
    """``pass@1`` over all prompts and per band, and the share of prompts with any right answer per band."""
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.runtime.seeding import stream_seed

    params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
    space = load().answers
    rates: dict[str, list[float]] = {}
    lengths = []
    for group in policy.sample(prompts, samples, params, seed=stream_seed(seed, "evaluation")):
        right = [space.correct(c, str(group.prompt.answer)) for c in group.completions]
        rates.setdefault(group.prompt.fields["band"], []).append(sum(right) / samples)
        lengths += [len(t.last) for t in group]
    everything = [r for rs in rates.values() for r in rs]
    return {
        "pass@1": sum(everything) / len(everything),
        **{f"{band}/pass@1": sum(rs) / len(rs) for band, rs in rates.items()},
        **{f"{band}/solved": sum(r > 0 for r in rs) / len(rs) for band, rs in rates.items()},
        "length": sum(lengths) / len(lengths),
    }


# ---- what the base says of itself ------------------------------------------------------------------


def meta_answer(rng: random.Random) -> str:
    """A random answer in the right form."""
    return f"{rng.randint(0, PASS_STEPS)}{rng.choice(LENGTHS)}"


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares of the text that the base learns from.

    Attributes:
        worked, guess: shares of the styles per band; the rest gives up.
        slip: chance of an error per worked step.
        meta: share of questions about the base itself.
        lesson: documents at the start that are worked solutions only: in mixed text from the first day
            the skill appears late, for some seeds never.
    """

    worked: tuple[float, float, float] = (0.95, 0.45, 0.05)
    guess: tuple[float, float, float] = (0.05, 0.25, 0.15)
    slip: float = 0.01
    meta: float = 0.12
    lesson: int = 40_000

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``problem``."""
        question = question_of(problem)
        if rng.random() < self.meta:
            return question[:-1] + "?", meta_answer(rng)
        level, kind = list(BANDS).index(band_of(problem)), rng.random()
        if kind < self.worked[level]:
            return question, problem.worked(rng, self.slip)
        return question, f"guess#{problem.answer}" if kind < self.worked[level] + self.guess[level] else "skip"

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"chain-wide corpus {seed}")
        return curriculum(
            problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: (question_of(p), p.worked(rng, self.slip)),
            lambda p: self.document(p, rng),
        )


def base_on(name: str, corpus: Corpus, holds: tuple[Within, ...]) -> Base:
    """A base that reads ``corpus`` and must have the properties ``holds``."""
    return Base(
        name=name,
        vocabulary=ALPHABET,
        corpus=corpus,
        settings=PretrainSettings(updates=4500, cooldown=1250, shuffle=False, gate_every=250),
        probe=lambda policy: measure(policy, prompts_of("pretrain", 90, "gate"), samples=8),
        gate=(Within("hard/worked accuracy", low=0.75), Within("hard/pass@1", high=0.299)),
        measures={"measured on development problems": lambda policy: measure(policy, prompts_of("train", 300, "dev"))},
        holds=holds,
    )


BASE = base_on(
    "chain-wide",
    Corpus(),
    (
        Within("easy/pass@1", low=0.85),
        Within("middle/pass@1", 0.3, 0.65),
        Within("hard/pass@1", 0.02, 0.12),
        Within("hard/worked accuracy", low=0.75),
    ),
)
"""A third solved, a third open, a third rarely right although the skill is there."""


def measure(policy: Policy, prompts: Sequence[Prompt], samples: int = 16, seed: int = 0) -> dict[str, float]:
    """Per band: the pass rate, the share of worked solutions, and how many of those are right."""
    from selfreward.policy.sampling.params import SamplingParams

    space = load().answers
    found: dict[str, list[tuple[bool, bool]]] = {band: [] for band in BANDS}
    for group in policy.sample(prompts, samples, SamplingParams(SETTINGS["max_new_tokens"], stats=()), seed=seed):
        for c in group.completions:
            right = space.correct(c, str(group.prompt.answer))
            found[group.prompt.fields["band"]].append((c.startswith("w"), right))
    result: dict[str, float] = {}
    for band, seen in found.items():
        worked = [right for w, right in seen if w]
        result[f"{band}/pass@1"] = sum(right for _, right in seen) / max(1, len(seen))
        result[f"{band}/worked share"] = len(worked) / max(1, len(seen))
        result[f"{band}/worked accuracy"] = sum(worked) / max(1, len(worked))
    return result
