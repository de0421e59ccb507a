"""The language of :mod:`selfreward.lab.tasks.programs.dsl`: its programs, their interpreter, hidden tests, prompts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from selfreward.data.answers import AnswerSpace
from selfreward.errors import DataError
from selfreward.lab.tasks.splits import Split, first_distinct, split_of
from selfreward.types import Prompt

LETTERS = "abcde"
ON_LETTERS, ORDERS = "-+^", "</"
WIDTH, EXAMPLES, TESTS = 4, 2, 6
LONGEST = 8  # operations in a program: doubling again and again would fill the memory
ALPHABET = LETTERS + LETTERS.upper() + ON_LETTERS + ORDERS + ".:>;=#!?,got"
OVERLOOKED = {"-": 0.1, "+": 0.55, "^": 0.35, "<": 0.1, "/": 0.4}
TEMPLATES = {"fix": "!{question}", "feedback": "{feedback}!{question}", "hint": "{solution}.{question}"}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.1,
    "steps": 40,
    "prompts_per_step": 16,
    "group_size": 8,
    "max_new_tokens": 40,
}
_OPERATION = re.compile(rf"[{re.escape(ON_LETTERS)}][{LETTERS}]|[{ORDERS}]")
_PROGRAM = rf"(?:{_OPERATION.pattern}){{1,{LONGEST}}}"
_WALK = "".join(rf"{x}[{re.escape(ON_LETTERS)}.]" for x in LETTERS)
_COMPLETION = re.compile(rf"{_WALK}:[a-eA-E]*>[a-eA-E]*[{ORDERS}.]#{_PROGRAM}")


# ---- the language --------------------------------------------------------------------------------


def parse(program: str) -> list[str]:
    """The operations of a program text, in order.

    Raises:
        DataError: from where the text cannot be read, for an empty one, or for more than eight operations.
    """
    found, at = [], 0
    while match := _OPERATION.match(program, at):
        found.append(match[0])
        at = match.end()
    if at < len(program):
        raise DataError(f"The program {program!r} cannot be read from {program[at:]!r} on; one looks like '-a+c<'.")
    if not 1 <= len(found) <= LONGEST:
        raise DataError(f"A program has 1 to {LONGEST} operations; {program!r} has {len(found)}.")
    return found


def run(program: str | Sequence[str], text: str) -> str:
    """What a program makes of a string. Example: ``-a^b<`` makes ``dcB`` of ``abcd``.

    Raises:
        DataError: for a text that is no program.
    """
    for op in parse(program) if isinstance(program, str) else program:
        text = step(op, text)
    return text


def step(op: str, text: str) -> str:
    """What one operation makes of a string; letters are small ones, a capital is another letter."""
    match op[0]:
        case "<":
            return text[::-1]
        case "/":
            return text[1:] + text[:1]
        case kind:
            x = op[1]
            return text.replace(x, {"-": "", "+": x + x, "^": x.upper()}[kind])


# ---- problems ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A hidden program with the strings of its examples and of its tests."""

    ops: tuple[str, ...]
    shown: tuple[str, ...]
    hidden: tuple[str, ...]

    @property
    def text(self) -> str:
        return self._pairs(self.shown) + "="

    @property
    def tests(self) -> str:
        """The hidden tests, as they stand in the reference."""
        return self._pairs(self.hidden)

    @property
    def key(self) -> str:
        """Identifies the hidden program whatever the order of what can be exchanged: splits are made on this key."""
        return "".join(sorted(self.ops))

    def _pairs(self, strings: Sequence[str]) -> str:
        return ";".join(f"{s}>{run(self.ops, s)}" for s in strings)


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """Endless random problems of one split: operations on one to three letters (at most two are dropped), then at most
    one on the order.

    The tests tell the program from itself without any one of its operations, and the first example shows the order.
    """
    while True:
        letters = rng.sample(LETTERS, rng.randint(1, 3))
        ops = [rng.choice(ON_LETTERS) + x for x in letters]
        ops += rng.choice(("", *ORDERS))
        if len(ops) < 2 or sum(op[0] == "-" for op in ops) > 2 or split_of("".join(sorted(ops))) != split:
            continue
        while True:
            strings = tuple("".join(rng.sample(LETTERS, WIDTH)) for _ in range(EXAMPLES + TESTS))
            problem = Problem(tuple(ops), strings[:EXAMPLES], strings[EXAMPLES:])
            if len(set(strings)) == len(strings) and shows_order(ops, strings[0]) and _tested(problem):
                yield problem
                break


def shows_order(ops: Sequence[str], text: str) -> bool:
    """Whether the three orders of what the operations on letters make of a string can be told apart."""
    made = run([op for op in ops if op not in ORDERS], text)
    return len({made, *(step(order, made) for order in ORDERS)}) == 1 + len(ORDERS)


def _tested(problem: Problem) -> bool:
    shorter = [problem.ops[:i] + problem.ops[i + 1 :] for i in range(len(problem.ops))]
    return all(passed(ops, problem.tests) < TESTS for ops in shorter)


# ---- answers -------------------------------------------------------------------------------------


def passed(program: str | Sequence[str], tests: str) -> int:
    """How many of the tests ``in>out;in>out`` a program passes."""
    return sum(run(program, given) == wanted for given, wanted in _cases(tests))


def first_failure(program: str | Sequence[str], tests: str) -> str:
    """The first failed test and what came of it, ``abcd>dcB,got:dcb``; empty where all pass."""
    for given, wanted in _cases(tests):
        got = run(program, given)
        if got != wanted:
            return f"{given}>{wanted},got:{got}"
    return ""


def _cases(tests: str) -> Iterator[tuple[str, str]]:
    for case in tests.split(";"):
        given, _, wanted = case.partition(">")
        yield given, wanted


@cache
def _panel() -> tuple[str, ...]:
    rng = random.Random("dsl panel")
    return tuple("".join(rng.sample(LETTERS, n)) for n in (5, 5, 5, 4, 4, 4))


@dataclass(frozen=True)
class Program(AnswerSpace):
    """The answer is the program behind the last ``#``; two that do the same to every string are one answer.

    The reference holds the hidden tests: being right is passing them all, not being written like something.
    """

    def extract(self, text: str) -> str | None:
        _, mark, program = text.rpartition("#")
        try:
            return "".join(parse(program)) if mark else None
        except DataError:
            return None

    def canonical(self, answer: str) -> str:
        """What the program makes of six fixed strings of four and five letters."""
        return ";".join(run(answer, text) for text in _panel())

    def from_reference(self, reference: str) -> str:
        return reference

    def correct(self, completion: str, reference: str) -> bool:
        return self.grade(completion, reference) == 1.0

    def grade(self, completion: str, reference: str) -> float:
        """Share of the hidden tests that pass, 0 to 1."""
        program = self.extract(completion)
        return 0.0 if program is None else passed(program, reference) / len(reference.split(";"))

    def feedback(self, completion: str, reference: str) -> str:
        """What went wrong: the first failed test, or ``?`` and the four characters from which on the text is no
        program. Empty for a right answer."""
        program = self.extract(completion)
        if program is not None:
            return first_failure(program, reference)
        _, _, rest = completion.rpartition("#")
        while match := _OPERATION.match(rest):
            rest = rest[match.end() :]
        return "?" + rest[:4]


SPACE = Program()


def well_formed(completion: str) -> bool:
    """Whether a completion is worked out letter by letter and ends in a program, whatever it says."""
    return _COMPLETION.fullmatch(completion) is not None


def prompts_of(split: Split, n: int, seed: str = "") -> list[Prompt]:
    """``n`` different prompts of one split; another ``seed`` gives others (development prompts, say)."""
    found = first_distinct(problems(split, random.Random(f"dsl {split}{seed}")), n, lambda p: p.text)
    return [Prompt(f"dsl-{split}{seed}-{i}", p.text, reference=p.tests) for i, p in enumerate(found)]
