"""Chain-long: ten steps of arithmetic modulo 10, where one misread operator spoils everything after it.

A question is ``6*3-4+8...+9=6``: eleven digits joined by ``+ - *``, worked from left to right, and once more the
first digit, from which the solution goes on. A solution is one operator and running value per step,
``*8-4+2...``, until all ten are done; its answer is the last two running values. Operators may be written as
letters (``p m t``), which changes nothing: every solution can be written in about a thousand ways.

Designed into the base's text, openly: arithmetic is right, but an operator is sometimes *misread*, plus as
minus, minus and times as plus. Rarely where it is easy; three times out of ten for a minus; three times out of
four for a minus after a multiplication, so that a question with one of these is mostly answered wrongly. Factors
are 3, 7 and 9 and no summand is 0 or 5, so that an error is never harmless by itself; two of them can cancel
out, and then a wrong solution has the right answer.

A second base, ``chain-long-judged``, has learnt the same and can also be asked: a question with a partial solution and
``?`` behind it is answered by ``Y`` as long as no operator was misread, else by ``N``. It knows its errors when it is
shown them, but does not look while it writes. The first one is blind to them: a value head on it does not find them.

What this is made for: a single sample is rarely right from end to end, a wrong step can be seen by comparing it
with the question, and from it on nothing good can follow, so that searching step by step pays.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.answers import AnswerSpace
from selfreward.data.task import Task
from selfreward.errors import DataError
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic.chain import LETTERS, SYMBOLS, apply
from selfreward.lab.tasks.splits import Split, split_of
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

ALPHABET = "0123456789" + SYMBOLS + LETTERS + "="
OPERATORS = 10
STEP = r"[-+*pmt]\d"
MISREAD = {"+": "-", "-": "+", "*": "+"}
ASK, YES, NO = "?", "Y", "N"
TEMPLATES = {
    "step": STEP,
    "step_tokens": "2",
    "value": ASK,
    "process_reward": "selfreward.lab.tasks.arithmetic.chain_long:noisy_steps",
}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.0,
    "steps": 24,
    "prompts_per_step": 16,
    "group_size": 16,
    "max_new_tokens": 2 * OPERATORS + 1,
}
_QUESTION = re.compile(rf"\d(?:[-+*]\d){{{OPERATORS}}}=\d")
_COMPLETION = re.compile(rf"(?:{STEP}){{{OPERATORS}}}")
_PREFIX = re.compile(rf"(?:{STEP}){{0,{OPERATORS}}}")
_TO_SYMBOLS, _TO_LETTERS = str.maketrans(LETTERS, SYMBOLS), str.maketrans(SYMBOLS, LETTERS)


@dataclass(frozen=True)
class Problem:
    """``digits[0] ops[0] digits[1] ops[1] ...``."""

    digits: tuple[int, ...]
    ops: str

    @staticmethod
    def parse(question: str) -> Problem:
        """The problem that a question text spells.

        Raises:
            DataError: if the text is not a question of this task.
        """
        if not _QUESTION.fullmatch(question) or question[0] != question[-1]:
            raise DataError(f"{question!r} is not a question of chain-long; one looks like '6*3-4+8-1+2*7-2+1-9+3=6'.")
        return Problem(tuple(int(d) for d in question[0:-2:2]), question[1:-2:2])

    @property
    def text(self) -> str:
        body = "".join(f"{o}{d}" for o, d in zip(self.ops, self.digits[1:], strict=True))
        return f"{self.digits[0]}{body}={self.digits[0]}"

    @property
    def values(self) -> list[int]:
        """The running value after each operator."""
        found, value = [], self.digits[0]
        for op, digit in zip(self.ops, self.digits[1:], strict=True):
            value = apply(value, op, digit)
            found.append(value)
        return found

    @property
    def answer(self) -> str:
        return "".join(map(str, self.values[-2:]))


@dataclass(frozen=True)
class LastTwo(AnswerSpace):
    """The last two running values of a solution with all its steps; without them there is no answer."""

    def extract(self, text: str) -> str | None:
        return text[-3] + text[-1] if _COMPLETION.fullmatch(text) else None


def well_formed(completion: str) -> bool:
    """Whether a completion has all its steps, whatever its numbers."""
    return _COMPLETION.fullmatch(completion) is not None


def on_track(question: str, partial: str) -> bool:
    """Whether the last running value of a partial solution is the true one, so that the answer is within reach.

    Example: after ``6*3-4...`` the text ``t8p2`` has lost it (8 - 4 is 4), and ``*8m4`` has not.
    """
    if not _PREFIX.fullmatch(partial):
        return False
    return not partial or int(partial[-1]) == Problem.parse(question).values[len(partial) // 2 - 1]


def traps(question: str) -> int:
    """How often a minus comes right after a multiplication."""
    ops = Problem.parse(question).ops
    return sum(ops[i : i + 2] == "*-" for i in range(len(ops) - 1))


def sound(question: str, partial: str) -> bool:
    """Whether every step so far is the true one."""
    if not _PREFIX.fullmatch(partial):
        return False
    values = [int(v) for v in partial[1::2]]
    return values == Problem.parse(question).values[: len(values)]


def clean(question: str, completion: str) -> bool:
    """Whether a solution is whole and every step of it the true one."""
    return well_formed(completion) and sound(question, completion)


def noisy_steps(question: str, completion: str, noise: float = 1.5) -> list[float]:
    """A stand-in for a process reward model: 2 per step that follows from the question, else -2, plus normal noise.

    The noise belongs to the text: the same step of the same solution always gets the same number.
    """
    problem, value, found = Problem.parse(question), int(question[0]), []
    for i, (op, digit) in enumerate(zip(problem.ops, problem.digits[1:], strict=True)):
        step = completion[2 * i : 2 * i + 2]
        if not re.fullmatch(STEP, step):
            break
        follows = int(step[1]) == apply(value, op, digit)
        value = int(step[1])
        source = random.Random(f"{question} {completion[: 2 * i + 2]}")
        found.append((2.0 if follows else -2.0) + source.gauss(0, noise))
    return found


def plain(completion: str) -> str:
    """A solution with all its operators written as symbols."""
    return completion.translate(_TO_SYMBOLS)


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """Endless random problems of one split."""
    while True:
        ops = "".join(rng.choices(SYMBOLS, k=OPERATORS))
        digits = (rng.randrange(10), *(int(rng.choice("379" if op == "*" else "12346789")) for op in ops))
        problem = Problem(digits, ops)
        if split_of(problem.text) == split:
            yield problem


@cache
def load() -> Task:
    """2000 training and 400 test prompts."""
    return Task(
        name="chain-long",
        train=prompts_of("train", 2000),
        test=prompts_of("test", 400),
        answers=LastTwo(),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
    )


def prompts_of(split: Split, n: int, seed: str = "") -> list[Prompt]:
    """``n`` distinct prompts of a split; another ``seed`` gives others (development prompts, say)."""
    found: dict[str, Prompt] = {}
    for problem in problems(split, random.Random(f"chain-long {split}{seed}")):
        if len(found) == n:
            break
        name = f"chain-long-{split}{seed}-{len(found)}"
        found.setdefault(problem.text, Prompt(name, problem.text, reference=problem.answer))
    return list(found.values())


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Error rates of the text that the base learns from.

    Attributes:
        plus, minus, times: chance that the operator is misread.
        trap: the same for a minus right after a multiplication.
        letters: chance that an operator is written as a letter.
        lesson: documents at the start in which nothing is misread, verdicts aside.
        verdicts: share of documents that ask about a partial solution.
    """

    plus: float = 0.08
    minus: float = 0.30
    times: float = 0.08
    trap: float = 0.75
    letters: float = 0.3
    lesson: int = 40_000
    verdicts: float = 0.0

    def solution(self, problem: Problem, rng: random.Random, careful: bool = False) -> str:
        """A solution as the base writes it."""
        value, text, before = problem.digits[0], "", ""
        rates = {"+": self.plus, "-": self.minus, "*": self.times}
        for op, digit in zip(problem.ops, problem.digits[1:], strict=True):
            rate = self.trap if before + op == "*-" else rates[op]
            done = MISREAD[op] if not careful and rng.random() < rate else op
            value = apply(value, done, digit)
            text += (done.translate(_TO_LETTERS) if rng.random() < self.letters else done) + str(value)
            before = op
        return text

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"chain-long corpus {seed}")
        return curriculum(
            problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: self.document(p, rng, careful=True),
            lambda p: self.document(p, rng, careful=False),
        )

    def document(self, problem: Problem, rng: random.Random, careful: bool) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``problem``."""
        if not self.verdicts or rng.random() >= self.verdicts:
            return problem.text, self.solution(problem, rng, careful)
        partial = self.solution(problem, rng)[: 2 * rng.randint(1, OPERATORS)]
        return f"{problem.text}{partial}{ASK}", YES if sound(problem.text, partial) else NO


_HOLDS = (
    Within("arithmetic", low=0.98),
    Within("clean", 0.06, 0.2),
    Within("lucky", high=0.1),
    Within("pass@32", low=0.6),
    Within("greedy", high=0.5),
)
"""Sound arithmetic, rarely right from end to end, and mostly within reach in 32 samples."""
# The skill has appeared, and the habit with it.
_GATE = (Within("arithmetic", low=0.98), Within("clean", 0.06, 0.2))

BASE = Base(
    name="chain-long",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=7000, cooldown=1000, shuffle=False),
    shape={"layers": 3},
    probe=lambda policy: measure(policy, prompts_of("pretrain", 100, "-gate")),
    gate=_GATE,
    measures={"measured on development prompts": lambda policy: measure(policy, prompts_of("train", 200, "-dev"))},
    holds=_HOLDS,
)

JUDGED = replace(
    BASE,
    name="chain-long-judged",
    vocabulary=ALPHABET + ASK + YES + NO,
    corpus=Corpus(verdicts=0.35),
    probe=lambda policy: measure(policy, prompts_of("pretrain", 100, "-gate"), judged=True),
    gate=(*_GATE, Within("verdict auroc", low=0.95)),
    measures={
        "measured on development prompts": lambda policy: measure(policy, prompts_of("train", 200, "-dev"), judged=True)
    },
    holds=(*_HOLDS, Within("verdict auroc", low=0.9)),
)
"""The base that also tells sound beginnings of solutions from others when it is asked."""
BASES = {base.name: base for base in (BASE, JUDGED)}


def measure(policy: Policy, prompts: Sequence[Prompt], judged: bool = False, seed: int = 0) -> dict[str, float]:
    """What :data:`BASE` must have, from 32 samples of each prompt.

    ``arithmetic`` is the share of steps whose value follows from the operator as written, ``clean`` that of
    solutions without a misread operator, ``lucky`` that of others with the right answer; ``verdict auroc`` says how
    well the base tells sound beginnings of its own solutions from others when asked.
    """
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.statistics import auroc

    space = load().answers
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    right: list[bool] = []
    without: list[bool] = []
    found: list[bool] = []
    follows: list[bool] = []
    drawn = policy.sample(prompts, 32, params, seed=seed)
    for group in drawn:
        question, reference = group.prompt.question, str(group.prompt.answer)
        problem = Problem.parse(question)
        here = [space.correct(c, reference) for c in group.completions]
        right += here
        found.append(any(here))
        without += [clean(question, c) for c in group.completions]
        for text in filter(well_formed, group.completions):
            value = problem.digits[0]
            for i, digit in enumerate(problem.digits[1:]):
                written = int(text[2 * i + 1])
                follows.append(written == apply(value, plain(text[2 * i]), digit))
                value = written
    greedy = policy.sample(prompts, 1, replace(params, temperature=0.0), seed=seed)
    measured = {
        "pass@1": sum(right) / len(right),
        "pass@32": sum(found) / len(found),
        "greedy": sum(space.correct(g.completions[0], str(g.prompt.answer)) for g in greedy) / len(greedy),
        "clean": sum(without) / len(without),
        "lucky": sum(r and not w for r, w in zip(right, without, strict=True)) / len(right),
        "arithmetic": sum(follows) / max(1, len(follows)),
    }
    if judged:
        rng = random.Random(seed)
        begun = [
            (p.question, t.completion[: 2 * rng.randint(1, OPERATORS)]) for p, g in zip(prompts, drawn) for t in g
        ][::8]
        asked = policy.choose([q + partial + ASK for q, partial in begun], (YES, NO)).probs[:, 0]
        measured["verdict auroc"] = auroc(asked.numpy(), [sound(q, partial) for q, partial in begun])
    return measured
