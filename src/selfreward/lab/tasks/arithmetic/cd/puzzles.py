"""The puzzles of :mod:`selfreward.lab.tasks.arithmetic.cd`: grammar, solutions, splits, prompts, verdicts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from selfreward.data.answers import AnswerSpace
from selfreward.errors import DataError
from selfreward.lab.tasks.arithmetic.chain import apply
from selfreward.lab.tasks.splits import Split, first_distinct, split_of
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

SYMBOLS = "+-*"
TARGETS = "ABCDEFGHIJ"
ALPHABET = "0123456789" + SYMBOLS + "=>|:?,~LYN" + "okhms" + "tfyn" + TARGETS
COMMENTS = ("~ok", "~hm")
YES, NO = "Y", "N"
TEMPLATES = {
    "judge": "?{question}|{completion}:",
    "yes": YES,
    "no": NO,
    "list_header": "L",
    "list_item": "{question},",
    "list_lead": "",
    "list_separator": ",",
    "list_suffix": "=",
    "list_problem": r"\d{3}>[A-J]=",
}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.1,
    "steps": 30,
    "prompts_per_step": 8,
    "group_size": 16,
    "max_new_tokens": 96,
    "proposal_tokens": 40,
}
_PUZZLE = re.compile(r"(\d{3})>([A-J])=?")
_ANSWER = re.compile(r"(\d)([-+*])(\d)=(\d)([-+*])(\d)=(\d)")
_PLAIN = _ANSWER.pattern.replace("(", "").replace(")", "")
_SEARCH = rf"s(?:{_PLAIN}n)*({_PLAIN})y"
_LAST = re.compile(rf"{_SEARCH}|({_PLAIN})")
_COMPLETION = re.compile(rf"(?:{_SEARCH}|{_PLAIN})(?:~ok|~hm)?")


@dataclass(frozen=True)
class Puzzle:
    """Three digits as shown, and the number to reach."""

    digits: tuple[int, int, int]
    target: int

    @staticmethod
    def parse(question: str) -> Puzzle:
        """The puzzle that a question text spells.

        Raises:
            DataError: if the text is not a question of this task.
        """
        found = _PUZZLE.fullmatch(question)
        if not found:
            raise DataError(f"{question!r} is not a countdown puzzle; one looks like '735>G='.")
        a, b, c = map(int, found[1])
        return Puzzle((a, b, c), TARGETS.index(found[2]))

    @property
    def text(self) -> str:
        return "".join(map(str, self.digits)) + f">{TARGETS[self.target]}="

    @property
    def key(self) -> str:
        """Identifies the puzzle: splits are made on this key."""
        return self.text[:-1]

    @property
    def solutions(self) -> list[str]:
        """Every answer that solves it."""
        return _solutions(self.digits, self.target)

    def search(self) -> str:
        """All pairs of operators in their order, up to the first that solves it."""
        tried: list[str] = []
        for ops in product(SYMBOLS, repeat=2):
            tried.append(written(self.digits, ops))
            if tried[-1][-1] == str(self.target):
                break
        return f"s{'n'.join(tried)}y"


def written(digits: tuple[int, ...], ops: tuple[str, ...]) -> str:
    """The answer that works these digits and operators from left to right."""
    value = apply(digits[0], ops[0], digits[1])
    return f"{digits[0]}{ops[0]}{digits[1]}={value}{ops[1]}{digits[2]}={apply(value, ops[1], digits[2])}"


@cache
def _solutions(digits: tuple[int, ...], target: int) -> list[str]:
    tried = {written(digits, (first, second)) for first in SYMBOLS for second in SYMBOLS}
    return sorted(t for t in tried if t[-1] == str(target))


def solves(answer: str, puzzle: Puzzle) -> bool:
    """The exact verifier: form, numbers, arithmetic of both steps, target."""
    found = _ANSWER.fullmatch(answer)
    if not found:
        return False
    a, first, b, value, second, c, last = found.groups()
    return (
        tuple(map(int, (a, b, c))) == puzzle.digits
        and apply(int(a), first, int(b)) == int(value)
        and apply(int(value), second, int(c)) == int(last) == puzzle.target
    )


@dataclass(frozen=True)
class Expression(AnswerSpace):
    """The answer of a completion: the one that a search marks as a hit, or the only one, without its comment.

    A search that was cut off has none.

    The reference is the puzzle: being right is verified, not compared.
    """

    def extract(self, text: str) -> str | None:
        found = _LAST.match(text)
        return (found[1] or found[2]) if found else None

    def from_reference(self, reference: str) -> str:
        return reference

    def correct(self, completion: str, reference: str) -> bool:
        answer = self.extract(completion)
        return answer is not None and solves(answer, Puzzle.parse(reference))


def well_formed(completion: str) -> bool:
    """Whether a completion is an answer or a search, with at most a comment, whatever its numbers."""
    return _COMPLETION.fullmatch(completion) is not None


def style(completion: str) -> str | None:
    """``"direct"`` or ``"search"``; None for a malformed completion."""
    return None if not well_formed(completion) else "search" if completion[0] == "s" else "direct"


def puzzles(split: Split, rng: random.Random) -> Iterator[Puzzle]:
    """Endless random solvable puzzles of one split."""
    while True:
        digits = (rng.randrange(10), rng.randrange(10), rng.randrange(10))
        puzzle = Puzzle(digits, rng.randrange(10))
        if split_of(puzzle.key) == split and puzzle.solutions:
            yield puzzle


def trainable(question: str) -> bool:
    """A check for self-made puzzles: whether one may be trained on, because the test split does not hold it.

    There are few thousand puzzles, so a model that writes its own would otherwise meet the test.
    """
    return split_of(Puzzle.parse(question).key) != "test"


def prompts_of(split: Split, n: int) -> list[Prompt]:
    """``n`` different prompts of one split, in a fixed order."""
    found = first_distinct(puzzles(split, random.Random(f"cd {split}")), n, lambda p: p.text)
    return [Prompt(f"cd-{split}-{i}", p.text, reference=p.text) for i, p in enumerate(found)]


def dev(n: int = 200) -> list[Prompt]:
    """Labelled prompts for choosing settings: the last of the training split."""
    return prompts_of("train", 1000)[-n:]


def judgements(policy: Policy, questions: list[str], shown: list[str]) -> list[float]:
    """The probability of yes that ``policy`` gives each shown answer, or text."""
    contexts = [TEMPLATES["judge"].format(question=q, completion=s) for q, s in zip(questions, shown, strict=True)]
    return [float(p) for p in policy.choose(contexts, (YES, NO)).probs[:, 0]] if contexts else []
