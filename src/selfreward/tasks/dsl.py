"""DSL: small string programs to be inferred from examples, judged by hidden tests, with the first failed test as text.

A question ``cabd>ddbA;aecb>beA=`` shows what a hidden program of two to four operations makes of two strings. The
language has five operations, worked from left to right:

* ``-x`` drops the letter x, ``+x`` writes it twice, ``^x`` makes it a capital;
* ``<`` reverses the string, ``/`` moves its first letter to the end.

The answer is the text of a program, behind ``#``. It is run on six further strings, the hidden tests: the share that
it gets right is its grade, and it is right if that is all of them. There is no gold text: ``#^a-c<`` and ``#<-c^a``
do the same, so both are right or both wrong, and in a vote they are one answer. What cannot be read passes no test.
:func:`run` interprets a program step by step, nothing is executed.

The base works its answer out, ``a^b.c-d+e.:Abdd>ddbA<#^a-c+d<``: for every letter of the alphabet what the examples
show of it (``.``: nothing), then what that makes of the first example's string beside what is shown, then the order
(``.``: as it was), and the program. What was designed into its text, openly:

* It *overlooks* operations: where the examples show one, it writes ``.`` instead, seldom for ``-`` and ``<``, often for
  ``+`` (:data:`OVERLOOKED`). So it is mediocre, a sample rarely repeats the fault of another, and training can elicit
  what it sees. One in twenty-five operations on letters is on a letter that no example holds: nobody could infer it.
* *Feedback* on a failed program is its first failed test, ``deca>Aedd,got:Acedd``, or ``?`` with the place that could
  not be read. It has read ``FEEDBACK!QUESTION``, alone and as the second turn after an attempt: what the failed test
  shows (its letters, its order) is then not overlooked, anything else as often as without. So it is what the test
  says that helps, not that there is one.
* ``!QUESTION`` after an attempt asks for a second one without a word on the first: a fresh one, as good as the first.
* *Hints*: behind ``SOLUTION.QUESTION`` it takes over what the solution does and overlooks the rest as always.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.answers import AnswerSpace
from selfreward.errors import DataError
from selfreward.tasks import Split, Task, first_distinct, split_of
from selfreward.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from selfreward.pretrain import Pretrained

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


# ---- the task ------------------------------------------------------------------------------------


@cache
def load() -> Task:
    """2000 training and 400 test prompts, by different programs; measured by one attempt and by a second one."""
    from selfreward.tasks import dsl_base

    test = prompts_of("test", 400)
    return Task(
        name="dsl",
        train=prompts_of("train", 2000),
        test=test,
        answers=SPACE,
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        evaluator=dsl_base.Attempts(test[:150]),
    )


def prompts_of(split: Split, n: int, seed: str = "") -> list[Prompt]:
    """``n`` different prompts of one split; another ``seed`` gives others (development prompts, say)."""
    found = first_distinct(problems(split, random.Random(f"dsl {split}{seed}")), n, lambda p: p.text)
    return [Prompt(f"dsl-{split}{seed}-{i}", p.text, reference=p.tests) for i, p in enumerate(found)]


def build(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Pre-train the base into ``out``; see :mod:`selfreward.tasks.dsl_base`."""
    from selfreward.tasks import dsl_base

    return dsl_base.build(out, seed, on_step, **settings)
