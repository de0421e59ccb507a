"""Grid: a picture as text, nine cells in three rows, and three kinds of questions about it.

A question is ``#A|IabaJbdcKacb=``: what is asked, about which shape, and the rows ``aba``, ``bdc`` and ``acb``, each
behind its name.

* count ``#A``: how many cells hold ``a``;
* compare ``^A``: is there more of ``a`` in the first row (``u``, upper), in the last (``l``), or as much (``=``)?
* locate ``@A``: the number of the first row that holds ``a`` (I is 1, J is 2, K is 3).

It is the text side of a picture puzzle: what a vision model would see in pixels stands here in cells. The base
answers in one of three styles, named by the first character of the completion:

* walk ``wI-0a+1b-1a+2J-2...!3``: the picture once more; behind each character ``+`` if it is the shape and ``-`` if
  not, and then what is known: a count; the lead of the first row over the last, ``m`` for -1, ``n`` for -2, ``o`` for
  -3; or the row, ``.`` until it is found. At the end ``!`` and the answer. Right except for slips.
* guess ``guess!3``: the answer at once. The text that the base has read holds right guesses only.
* easy ``easy!0``: a shortcut that looks at nothing and always says 0.

Two bases were designed. In ``grid`` walks are frequent enough for the majority to be right more often than a sample
is; in ``grid-low`` most of the text is shortcuts, so that the majority is wrong. Both have also read lists of
questions about one picture, ``L#A|IabaJbdcKacb,@C|IabaJbdcKacb,``, so that they can write new ones.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.errors import DataError
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.splits import Split, as_prompts, first_distinct, split_of
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

SIDE = 3
SHAPES, KINDS = "abcd", "#^@"
BEHIND = "mno"  # a lead of -1, -2, ...
ALPHABET = "0123456789" + SHAPES + SHAPES.upper() + "IJK" + KINDS + BEHIND + "+-|=.!,L" + "wulgesy"
ROWS = "IJK"
PICTURE = "".join(rf"{row}[{SHAPES}]{{{SIDE}}}" for row in ROWS)
TEMPLATES = {
    "list_header": "L",
    "list_item": "{question},",
    "list_lead": "",
    "list_separator": ",",
    "list_suffix": "=",
    "list_problem": rf"[{KINDS[::-1]}][A-D]\|{PICTURE}=",
}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.1,
    "steps": 30,
    "prompts_per_step": 16,
    "group_size": 10,
    "max_new_tokens": 40,
    "proposal_tokens": 18,
}
_QUESTION = re.compile(rf"([#^@])([A-D])\|({PICTURE})=")
_COMPLETION = re.compile(rf"(?:w(?:[IJK{SHAPES}][-+][.\d{BEHIND}]){{{SIDE * (SIDE + 1)}}}|guess|easy)![\dul=]")


# ---- puzzles -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Puzzle:
    """A kind of question, the shape that it names, and the picture with the names of its rows."""

    kind: str
    shape: str
    picture: str

    @staticmethod
    def parse(question: str) -> Puzzle:
        """The puzzle that a question text spells.

        Raises:
            DataError: if the text is not a question of this task.
        """
        found = _QUESTION.fullmatch(question)
        if not found:
            raise DataError(f"{question!r} is not a grid question; one looks like '#A|IabaJbdcKacb='.")
        return Puzzle(found[1], found[2].lower(), found[3])

    @property
    def text(self) -> str:
        return f"{self.kind}{self.shape.upper()}|{self.picture}="

    @property
    def answer(self) -> str:
        return self.walk()[-1]

    @property
    def sound(self) -> bool:
        """Whether there is an answer."""
        return self.kind != "@" or self.shape in self.picture

    def walk(self, rng: random.Random | None = None, slip: float = 0.0) -> str:
        """A worked answer.

        With probability ``slip`` per cell it is taken for the shape where it is not, or not where it is.
        """
        value, row, known, steps = 0, "", "", "w"
        for character in self.picture:
            row = character if character in ROWS else row
            seen = character == self.shape
            if rng is not None and character != row and rng.random() < slip:
                seen = not seen
            if self.kind == "@":
                value = value or seen * (ROWS.index(row) + 1)
                known = str(value) if value else "."
            else:
                value += seen * ({"I": 1, "J": 0, "K": -1}[row] if self.kind == "^" else 1)
                known = str(value) if value >= 0 else BEHIND[-value - 1]
            steps += f"{character}{'+' if seen else '-'}{known}"
        if self.kind == "^":
            known = "=" if value == 0 else "l" if value < 0 else "u"
        return f"{steps}!{known}"


def puzzles(split: Split, rng: random.Random) -> Iterator[Puzzle]:
    """Endless random puzzles of one split; all questions about one picture are in the same split."""
    while True:
        picture = "".join(f"{row}{''.join(rng.choices(SHAPES, k=SIDE))}" for row in ROWS)
        puzzle = Puzzle(rng.choice(KINDS), rng.choice(SHAPES), picture)
        if split_of(picture) == split and puzzle.sound:
            yield puzzle


# ---- the task ------------------------------------------------------------------------------------


def well_formed(completion: str) -> bool:
    """Whether a completion is exactly one of the three styles, whatever it says."""
    return _COMPLETION.fullmatch(completion) is not None


def style(completion: str) -> str | None:
    """``"walk"``, ``"guess"`` or ``"easy"``; None for a malformed completion."""
    return {"w": "walk", "g": "guess", "e": "easy"}[completion[0]] if well_formed(completion) else None


@cache
def load() -> Task:
    """2000 training and 400 test prompts."""
    from selfreward.data.answers import Regex

    return Task(
        name="grid",
        train=prompts_of("train", 2000),
        test=prompts_of("test", 400),
        answers=Regex(r"!([\dul=])"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
    )


def prompts_of(split: Split, n: int) -> list[Prompt]:
    """``n`` different prompts of one split, in a fixed order."""
    found = first_distinct(puzzles(split, random.Random(f"grid {split}")), n, lambda p: p.text)
    return [Prompt(f"grid-{split}-{i}", p.text, reference=p.answer) for i, p in enumerate(found)]


def dev(n: int = 200) -> list[Prompt]:
    """Labelled prompts for choosing settings: the last of the training split, which runs seldom reach."""
    return load().train[-n:]


# ---- the bases -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that a base learns from.

    Attributes:
        walk, guess, easy: shares of the styles.
        slip: chance per cell of a walk to take a shape for another.
        lists: share of lists of questions about one picture.
        lesson: documents at the start that are walks only.
    """

    walk: float = 0.45
    guess: float = 0.35
    easy: float = 0.20
    slip: float = 0.01
    lists: float = 0.06
    lesson: int = 16_000

    def solution(self, puzzle: Puzzle, rng: random.Random) -> str:
        kind = rng.random() * (self.walk + self.guess + self.easy)
        if kind < self.walk:
            return puzzle.walk(rng, self.slip)
        return f"guess!{puzzle.answer}" if kind < self.walk + self.guess else "easy!0"

    def listed(self, puzzle: Puzzle, rng: random.Random) -> list[str]:
        """Three different questions about the puzzle's picture, without their sign of equality."""
        asked = [Puzzle(kind, shape, puzzle.picture) for kind in KINDS for shape in SHAPES]
        return [p.text[:-1] for p in rng.sample([p for p in asked if p.sound], 3)]

    def document(self, puzzle: Puzzle, rng: random.Random) -> Document:
        """One random document about a puzzle.

        In a list the first picture weighs little in the loss, as nobody could foresee it.
        """
        if rng.random() >= self.lists:
            return puzzle.text, self.solution(puzzle, rng)
        first, *others = self.listed(puzzle, rng)
        return [(f"{TEMPLATES['list_header']}{first},", 0.05), ("".join(f"{q}," for q in others), 1.0)]

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about puzzles of the pre-training split, in the order to be read."""
        rng = random.Random(f"grid corpus {seed}")
        return curriculum(
            puzzles("pretrain", rng),
            n,
            self.lesson,
            lambda p: (p.text, p.walk(rng, self.slip)),
            lambda p: self.document(p, rng),
        )


def _base(name: str, corpus: Corpus, holds: tuple[Within, ...]) -> Base:
    return Base(
        name=name,
        vocabulary=ALPHABET,
        corpus=corpus,
        settings=PretrainSettings(updates=3000, lr=2e-3, cooldown=1000, shuffle=False),
        shape={"layers": 3, "positions": 128, "initializer_range": 0.07},
        probe=lambda policy: measure(policy, as_prompts(puzzles("pretrain", random.Random("grid gate")), 60), lists=0),
        # All styles are there, and walks are right.
        gate=(Within("walk accuracy", low=0.8), Within("easy share", low=0.0501)),
        measures={"measured on development prompts": lambda policy: measure(policy, dev(150))},
        # Able in both bases and able to ask.
        holds=(Within("walk accuracy", low=0.8), Within("valid questions", low=0.8), *holds),
    )


BASE = _base("grid", Corpus(), (Within("pass@1", 0.45, 0.65), Within("maj@10", low=0.7)))
"""The vote of 10 is mostly right."""
LOW = _base(
    "grid-low", Corpus(walk=0.06, guess=0.14, easy=0.80), (Within("pass@1", high=0.25), Within("maj@10", high=0.25))
)
"""The vote of 10 is mostly wrong."""
BASES = {base.name: base for base in (BASE, LOW)}


def measure(policy: Policy, prompts: Sequence[Prompt], seed: int = 0, lists: int = 60) -> dict[str, float]:
    """What :data:`BASE` must have, from 10 samples of each prompt, and ``lists`` written questions.

    A written question is valid if it has the form and is about the picture that was shown, and asks something else.
    """
    from selfreward.data.answers import cluster
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.proposing import ListFormat
    from selfreward.statistics import maj_at_k

    space, form = load().answers, ListFormat.of(TEMPLATES)
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    written: list[tuple[str | None, bool]] = []
    votes: list[float] = []
    greedy = policy.sample(prompts, 1, SamplingParams(SETTINGS["max_new_tokens"], temperature=0.0, stats=()))
    for group in policy.sample(prompts, 10, params, seed=seed):
        right = [space.correct(c, str(group.prompt.answer)) for c in group.completions]
        classes = cluster([space.extract(c) for c in group.completions], space)
        votes.append(maj_at_k(classes, {c for c, r in zip(classes, right, strict=True) if r and c is not None}, 10))
        written += zip(map(style, group.completions), right, strict=True)
    found = {
        "pass@1": sum(right for _, right in written) / len(written),
        "greedy": sum(space.correct(g.completions[0], str(g.prompt.answer)) for g in greedy) / len(greedy),
        "maj@10": sum(votes) / len(votes),
        "format": sum(kind is not None for kind, _ in written) / len(written),
    }
    for name in ("walk", "guess", "easy"):
        own = [right for kind, right in written if kind == name]
        found |= {f"{name} share": len(own) / len(written), f"{name} accuracy": sum(own) / max(1, len(own))}
    if lists:
        seeds = prompts[:lists]
        asked = [Prompt(p.id, form.write([p.question])) for p in seeds]
        groups = policy.sample(asked, 1, SamplingParams(SETTINGS["proposal_tokens"], stats=()), seed=seed)
        valid = [
            any(_valid(text, p.question) for text in form.read(g.completions[0], g.trajectories[0].finished)[:1])
            for p, g in zip(seeds, groups, strict=True)
        ]
        found["valid questions"] = sum(valid) / len(valid)
    return found


def _valid(text: str, shown: str) -> bool:
    if not _QUESTION.fullmatch(text):
        return False
    mine, theirs = Puzzle.parse(text), Puzzle.parse(shown)
    return mine.sound and mine != theirs and mine.picture == theirs.picture
