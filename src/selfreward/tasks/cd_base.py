"""The base of :mod:`selfreward.tasks.cd`: its text, its pre-training, and how it is measured."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.tasks.cd import (
    ALPHABET,
    COMMENTS,
    NO,
    SETTINGS,
    SYMBOLS,
    TEMPLATES,
    YES,
    Puzzle,
    dev,
    judgements,
    load,
    puzzles,
    solves,
    well_formed,
    written,
)
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy import Policy
    from selfreward.pretrain import Document, Pretrained

EVALUATED, SAMPLES = 150, 8


@dataclass(frozen=True)
class Corpus:
    """Shares of the text that the base learns from.

    Attributes:
        judged: share of judgements.
        lists: share of puzzle lists.
        solved: share of attempts that are solutions (of the others about one in five hits by chance).
        comment: share of attempts and of judged texts with a comment behind the answer.
        lesson: documents at the start that are attempts only, half of them solutions, without comments: in
            mixed text from the first day the arithmetic appears late or never.
    """

    judged: float = 0.50
    lists: float = 0.05
    solved: float = 0.35
    comment: float = 0.3
    lesson: int = 45_000

    def attempt(self, puzzle: Puzzle, rng: random.Random, solved: bool) -> str:
        """A solution, or random operators worked honestly."""
        if solved:
            return rng.choice(puzzle.solutions)
        return written(puzzle.digits, tuple(rng.choices(SYMBOLS, k=2)))

    def near_miss(self, puzzle: Puzzle, rng: random.Random) -> str:
        """A wrong answer that looks right at a glance."""
        while True:
            kind = rng.random()
            if kind < 0.35:  # honest, but ends elsewhere
                text = self.attempt(puzzle, rng, False)
            elif kind < 0.7:  # a lie in one of the two sums, so as to end at the target
                text = self.attempt(puzzle, rng, False)
                if rng.random() < 0.5:
                    text = text[:-1] + str(puzzle.target)
                else:
                    other = self.attempt(puzzle, rng, True)
                    wrong = str(rng.randrange(10))
                    text = text[:4] + wrong + other[5:7] + "=" + str(puzzle.target)
            elif kind < 0.9:  # a number that was not given
                digits = list(puzzle.digits)
                digits[rng.randrange(3)] = rng.randrange(10)
                there = Puzzle((digits[0], digits[1], digits[2]), puzzle.target)
                text = rng.choice(there.solutions) if there.solutions else ""
            else:
                text = rng.choice(puzzle.solutions)
                text = text[: (at := rng.choice((0, 2, 4, 6, 8)))] + str(rng.randrange(10)) + text[at + 1 :]
            if text and not solves(text, puzzle):
                return text

    def judgement(self, puzzle: Puzzle, rng: random.Random) -> tuple[str, str]:
        """A judge prompt and its true verdict."""
        right = rng.random() < 0.5
        text = rng.choice(puzzle.solutions) if right else self.near_miss(puzzle, rng)
        if rng.random() < self.comment:
            text += COMMENTS[0] if right and rng.random() < 0.8 else COMMENTS[1]
        return TEMPLATES["judge"].format(question=puzzle.text, completion=text), YES if right else NO

    def document(self, puzzle: Puzzle, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``puzzle``."""
        kind = rng.random()
        if kind < self.judged:
            return self.judgement(puzzle, rng)
        if kind < self.judged + self.lists:
            source = puzzles("pretrain", rng)
            return TEMPLATES["list_header"], "".join(f"{next(source).text[:-1]}," for _ in range(5))
        text = self.attempt(puzzle, rng, rng.random() < self.solved)
        return puzzle.text, text + (rng.choice(COMMENTS) if rng.random() < self.comment else "")

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about puzzles of the pre-training split, in the order to be read."""
        rng = random.Random(f"cd corpus {seed}")
        source = puzzles("pretrain", rng)
        first = [(p.text, self.attempt(p, rng, rng.random() < 0.5)) for p in islice(source, min(n, self.lesson))]
        return [*first, *(self.document(p, rng) for p in islice(source, n - len(first)))]


def build(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Pre-train the base into ``out``, with ``task.json`` beside it that says how, and what came of it."""
    from selfreward.models import load_policy
    from selfreward.pretrain import PretrainSettings, llama_config, pretrain
    from selfreward.tokenizing import char_tokenizer

    chosen = PretrainSettings(updates=5000, cooldown=1000, shuffle=False).updated(**{"seed": seed, **settings})
    tokenizer = char_tokenizer(ALPHABET)
    documents = Corpus().documents(chosen.updates * chosen.batch, chosen.seed)
    made = pretrain(documents, tokenizer, llama_config(tokenizer, positions=128), chosen, out, on_step, gate)
    made.metrics = measure(load_policy(str(made.folder), device="cpu"), dev(100))
    made.passed = 0.2 <= made.metrics["solved"] <= 0.35 and made.metrics["precision"] >= 0.7
    card = {
        "task": "cd",
        "command": f"selfreward pretrain cd --out DIR --seed {chosen.seed}",
        "documents": asdict(Corpus()),
        "updates": made.updates,
        "has_properties": made.passed,
        "measured on development prompts": {name: round(value, 3) for name, value in made.metrics.items()},
    }
    (made.folder / "task.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return made


def gate(model: Any) -> tuple[bool, dict[str, float]]:
    """Whether solving and judging have appeared, on fresh puzzles of the pre-training split."""
    from selfreward.policy import Policy
    from selfreward.tokenizing import char_tokenizer

    source = puzzles("pretrain", random.Random("cd gate"))
    prompts = [Prompt(str(i), p.text, reference=p.text) for i, p in zip(range(40), source)]
    found = measure(Policy(model, char_tokenizer(ALPHABET)), prompts, samples=4)
    return found["solved"] >= 0.2 and found["precision"] >= 0.85 and found["recall"] >= 0.8, found


def measure(
    policy: Policy, prompts: Sequence[Prompt], samples: int = SAMPLES, seed: int = 0, frozen: Policy | None = None
) -> dict[str, float]:
    """True solve rate of fresh samples, and what the policy as their judge makes of them.

    ``precision`` and ``recall`` are those of the verdict "yes" (probability above one half) on extracted
    answers; ``hack`` is the share of all samples that are judged right and are not; ``full ...`` are
    the same where the judge is shown the whole text, ``frozen ...`` where ``frozen`` judges.
    """
    from selfreward.sampling import SamplingParams

    space = load().answers
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(prompts, samples, params, seed=seed)
    texts = [(g.prompt.question, c) for g in groups for c in g.completions]
    truth = [space.correct(c, q) for q, c in texts]
    found = {
        "solved": sum(truth) / len(truth),
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


def evaluate(policy: Policy) -> dict[str, float]:
    """Held-out metrics: the policy judges its own samples; ``frozen ...`` is the base's judgement of them."""
    from selfreward.sampling import stream_seed

    return measure(policy, load().test[:EVALUATED], seed=stream_seed(0, "evaluation"), frozen=_base())


@cache
def _base() -> Policy:
    from selfreward.models import load_policy

    return load_policy("embedded:cd", device="cpu")
