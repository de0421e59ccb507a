"""The base of :mod:`selfreward.lab.tasks.arithmetic.cd`: its text, its pre-training, and how it is measured."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, Part
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic.cd.puzzles import (
    ALPHABET,
    COMMENTS,
    NO,
    SETTINGS,
    SYMBOLS,
    TARGETS,
    TEMPLATES,
    YES,
    Expression,
    Puzzle,
    dev,
    judgements,
    prompts_of,
    puzzles,
    solves,
    style,
    well_formed,
    written,
)
from selfreward.lab.tasks.arithmetic.chain import apply
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

EVALUATED = 150
WEAK = 0.03  # weight in the loss of what nobody could foresee: operands, operators, judged text


@dataclass(frozen=True)
class Corpus:
    """Shares of the text that the base learns from. It has three parts, which are read one after the other.

    Attributes:
        sums: share of the whole that is the first part: chains of sums, of marked sums, and of hits and misses.
        checks: share that is the second: marks again, verdicts on one and two sums, judgements, and searches.
        judged: share of judgements in the third part, ``again`` that of marked sums and of verdicts on two sums.
        lists: share of puzzle lists in it. The rest are attempts.
        search: share of searches among attempts.
        whole: share of judgements of a whole search, instead of an answer alone.
        comment: share of attempts and of judged texts with a comment behind the answer.
    """

    sums: float = 0.25
    checks: float = 0.25
    judged: float = 0.40
    again: float = 0.15
    lists: float = 0.04
    search: float = 0.20
    whole: float = 0.1
    comment: float = 0.3

    # ---- solving

    def attempt(self, puzzle: Puzzle, rng: random.Random, search: float) -> str:
        """A search, or random operators worked honestly."""
        if rng.random() < search:
            return puzzle.search()
        return written(puzzle.digits, tuple(rng.choices(SYMBOLS, k=2)))

    # ---- judging

    def near_miss(self, puzzle: Puzzle, rng: random.Random) -> str:
        """A wrong answer that looks right at a glance."""
        while True:
            kind = rng.random()
            text = self.attempt(puzzle, rng, 0.0)
            if 0.35 <= kind < 0.6:  # a lie in the second sum, so as to end at the target
                text = text[:-1] + str(puzzle.target)
            elif 0.6 <= kind < 0.8:  # a lie in the first sum, often one that leads to the target
                text = self.lie_first(puzzle, rng)
            elif 0.8 <= kind < 0.92:  # a number that was not given
                digits = list(puzzle.digits)
                digits[rng.randrange(3)] = rng.randrange(10)
                there = Puzzle((digits[0], digits[1], digits[2]), puzzle.target)
                text = rng.choice(there.solutions) if there.solutions else text
            elif kind >= 0.92:
                text = lie(rng.choice((text, *puzzle.solutions)), rng)
            if not solves(text, puzzle):
                return text

    def lie_first(self, puzzle: Puzzle, rng: random.Random) -> str:
        a, b, c = puzzle.digits
        while True:
            value, (first, second) = rng.randrange(10), rng.choices(SYMBOLS, k=2)
            last = apply(value, second, c)
            if last == puzzle.target or rng.random() < 0.3:
                return f"{a}{first}{b}={value}{second}{c}={last}"

    def judgement(self, puzzle: Puzzle, rng: random.Random) -> tuple[str, str]:
        """A judge prompt and its true verdict."""
        right = rng.random() < 0.5
        text = rng.choice(puzzle.solutions) if right else self.near_miss(puzzle, rng)
        tried = puzzle.search()[1:-1].split("n")
        if rng.random() < self.whole and (right or len(tried) > 1):
            shown = tried if right else tried[: rng.randrange(1, len(tried))]  # stops too early, and says it hit
            text = f"s{'n'.join(shown)}y"
        if rng.random() < self.comment:
            text += COMMENTS[0] if right and rng.random() < 0.8 else COMMENTS[1]
        return TEMPLATES["judge"].format(question=puzzle.text, completion=text), YES if right else NO

    # ---- documents: texts with their weights

    def chain(self, rng: random.Random) -> list[Part]:
        """Ten sums, each of which goes on from the last."""
        value = rng.randrange(10)
        parts: list[Part] = [(str(value), WEAK)]
        for _ in range(10):
            op, digit = rng.choice(SYMBOLS), rng.randrange(10)
            value = apply(value, op, digit)
            parts += [(f"{op}{digit}=", WEAK), (str(value), 1.0)]
        return parts

    def marked(self, rng: random.Random) -> list[Part]:
        """Nine sums, half of them wrong, each marked true or false; the next goes on from what is written."""
        value = rng.randrange(10)
        parts: list[Part] = [(str(value), WEAK)]
        for _ in range(9):
            op, digit = rng.choice(SYMBOLS), rng.randrange(10)
            right = rng.random() < 0.5
            value = (apply(value, op, digit) + (0 if right else rng.randint(1, 9))) % 10
            # A wrong result is shown, not taught.
            parts += [(f"{op}{digit}=", WEAK), (str(value), float(right)), ("t" if right else "f", 1.0)]
        return parts

    def aimed(self, rng: random.Random) -> list[Part]:
        """A target and fourteen numbers, each marked as a hit or a miss."""
        target = rng.randrange(10)
        parts: list[Part] = [(f">{TARGETS[target]}", WEAK)]
        for _ in range(14):
            hit = rng.random() < 0.4
            value = target if hit else (target + rng.randint(1, 9)) % 10
            parts += [(str(value), WEAK), ("y" if hit else "n", 1.0)]
        return parts

    def verdicts(self, rng: random.Random, sums: int, n: int) -> list[Part]:
        """``n`` verdicts on one or two sums, half of them wrong."""
        parts: list[Part] = []
        for _ in range(n):
            digits = (rng.randrange(10), rng.randrange(10), rng.randrange(10))
            text = written(digits, tuple(rng.choices(SYMBOLS, k=2)))[: 5 if sums == 1 else 9]
            right = rng.random() < 0.5
            parts += [(f"?{text if right else lie(text, rng)}:", WEAK), (YES if right else NO, 1.0)]
        return parts

    def judgements(self, source: Iterator[Puzzle], rng: random.Random, n: int) -> list[Part]:
        """``n`` judgements, one behind the other: a verdict alone would be one word of text to learn from."""
        parts: list[Part] = []
        for puzzle in islice(source, n):
            asked, verdict = self.judgement(puzzle, rng)
            parts += [(asked, WEAK), (verdict, 1.0)]
        return parts

    def attempted(self, puzzle: Puzzle, rng: random.Random) -> tuple[str, str]:
        text = self.attempt(puzzle, rng, self.search)
        return puzzle.text, text + (rng.choice(COMMENTS) if rng.random() < self.comment else "")

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about puzzles of the pre-training split, in the order to be read."""
        rng = random.Random(f"cd corpus {seed}")
        source = puzzles("pretrain", rng)
        return list(self._written(n, source, rng))

    def _written(self, n: int, source: Iterator[Puzzle], rng: random.Random) -> Iterator[Document]:
        for i in range(n):
            kind, puzzle = rng.random(), next(source)
            if i < n * self.sums:
                yield self.chain(rng) if kind < 0.35 else self.marked(rng) if kind < 0.75 else self.aimed(rng)
            elif i < n * (self.sums + self.checks):
                if kind < 0.35:
                    yield self.marked(rng) if kind < 0.25 else self.aimed(rng)
                elif kind < 0.70:
                    yield self.verdicts(rng, 1, 8) if kind < 0.55 else self.verdicts(rng, 2, 5)
                elif kind < 0.85:
                    yield self.judgements(source, rng, 3)
                else:
                    yield puzzle.text, puzzle.search()
            elif kind < self.again:
                yield self.marked(rng) if kind < self.again / 3 else self.verdicts(rng, 2, 4)
            elif kind < self.again + self.judged:
                yield self.judgements(source, rng, 3)
            elif kind < self.again + self.judged + self.lists:
                listed = "".join(f"{p.text[:-1]}," for p in islice(source, rng.randint(3, 13)))
                yield [(TEMPLATES["list_header"] + listed, 0.15)]
            else:
                yield self.attempted(puzzle, rng)


def lie(text: str, rng: random.Random) -> str:
    """One of the results of a text is another."""
    at = rng.choice([i for i in (4, 8) if i < len(text)])
    return text[:at] + str((int(text[at]) + rng.randint(1, 9)) % 10) + text[at + 1 :]


BASE = Base(
    name="cd",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=4500, batch=16, lr=2e-3, shuffle=False, gate_every=500, cooldown=1200),
    # The usual scale of initial weights, 0.02, is meant for wider models; this narrow, deep one would idle for long.
    shape={"layers": 4, "positions": 320, "initializer_range": 0.07},
    probe=lambda policy: measure(policy, fresh(50), samples=4),
    # Searches hit, and verdicts see.
    gate=(Within("search accuracy", low=0.85), Within("near misses told apart", low=0.85)),
    measures={"measured on development prompts": lambda policy: measure(policy, dev(150))},
    # A weak solver that can do better, and a judge that tells solutions from near misses.
    holds=(
        Within("solved", 0.25, 0.45),
        Within("pass@8", low=0.25, over="solved"),
        Within("search accuracy", low=0.8),
        Within("precision", low=0.7),
        Within("near misses told apart", low=0.8),
    ),
)


def fresh(n: int) -> list[Prompt]:
    """``n`` puzzles of the pre-training split."""
    source = puzzles("pretrain", random.Random("cd gate"))
    return [Prompt(str(i), p.text, reference=p.text) for i, p in enumerate(islice(source, n))]


def measure(
    policy: Policy, prompts: Sequence[Prompt], samples: int = 8, seed: int = 0, frozen: Policy | None = None
) -> dict[str, float]:
    """True solve rate of fresh samples, and what the policy as their judge makes of them.

    ``near misses told apart`` is the share of right verdicts on solutions and near misses, half and half.
    ``precision`` and ``recall`` are those of the verdict "yes" (probability above one half) on extracted
    answers; ``hack`` is the share of all samples that are judged right and are not; ``full ...`` are
    the same where the judge is shown the whole text, ``frozen ...`` where ``frozen`` judges.
    """
    from selfreward.policy.sampling.params import SamplingParams

    space = Expression()
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(prompts, samples, params, seed=seed)
    texts = [(g.prompt.question, c) for g in groups for c in g.completions]
    truth = [space.correct(c, q) for q, c in texts]
    styles = list(map(style, (c for _, c in texts)))
    searched = [right for right, kind in zip(truth, styles, strict=True) if kind == "search"]
    found = {
        "solved": sum(truth) / len(truth),
        f"pass@{samples}": sum(any(truth[i : i + samples]) for i in range(0, len(truth), samples)) / len(groups),
        "search share": len(searched) / len(truth),
        "search accuracy": sum(searched) / max(1, len(searched)),
        "near misses told apart": told_apart(policy, prompts),
        "format": sum(well_formed(c) for _, c in texts) / len(texts),
        "ok comment": sum(c.endswith(COMMENTS[0]) for _, c in texts) / len(texts),
        "unique_answers": sum(len(set(g.completions)) for g in groups) / len(groups),
    }
    kept = [i for i, (_, c) in enumerate(texts) if space.extract(c)]
    judges = [("", policy, False), ("full ", policy, True), *([("frozen ", frozen, False)] if frozen else [])]
    for prefix, judge, full in judges:
        shown = [texts[i][1] if full else str(space.extract(texts[i][1])) for i in kept]
        scores = judgements(judge, [texts[i][0] for i in kept], shown)
        yes = {i for i, p in zip(kept, scores, strict=True) if p > 0.5}
        hits = sum(truth[i] for i in yes)
        found |= {
            f"{prefix}precision": hits / max(1, len(yes)),
            f"{prefix}recall": hits / max(1, sum(truth)),
            f"{prefix}yes": len(yes) / len(texts),
            f"{prefix}hack": (len(yes) - hits) / len(texts),
        }
    return found


def told_apart(policy: Policy, prompts: Sequence[Prompt]) -> float:
    """Share of right verdicts on one solution and one near miss of each puzzle, without comments."""
    rng, corpus = random.Random("cd near misses"), Corpus()
    found = [Puzzle.parse(p.question) for p in prompts]
    shown = [[rng.choice(p.solutions), corpus.near_miss(p, rng)] for p in found]
    scores = judgements(policy, [p.text for p in found for _ in range(2)], [t for pair in shown for t in pair])
    return sum((score > 0.5) == (i % 2 == 0) for i, score in enumerate(scores)) / max(1, len(scores))


def evaluate(policy: Policy) -> dict[str, float]:
    """Held-out metrics: the policy judges its own samples; ``frozen ...`` is the base's judgement of them."""
    from selfreward.runtime.seeding import stream_seed

    return measure(
        policy, prompts_of("test", 400)[:EVALUATED], samples=4, seed=stream_seed(0, "evaluation"), frozen=_base()
    )


@cache
def _base() -> Policy:
    from selfreward.policy.loading import load_policy

    return load_policy("embedded:cd", device="cpu")
