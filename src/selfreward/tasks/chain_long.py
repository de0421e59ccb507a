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

What this is made for: a single sample is rarely right from end to end, a wrong step can be seen by comparing it
with the question, and from it on nothing good can follow, so that searching step by step pays.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.answers import AnswerSpace
from selfreward.errors import DataError
from selfreward.tasks import Split, Task, split_of
from selfreward.tasks.chain import LETTERS, SYMBOLS, apply
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy import Policy
    from selfreward.pretrain import Document, Pretrained

ALPHABET = "0123456789" + SYMBOLS + LETTERS + "="
OPERATORS = 10
STEP = r"[-+*pmt]\d"
MISREAD = {"+": "-", "-": "+", "*": "+"}
TEMPLATES = {"step": STEP, "step_tokens": "2"}
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


def clean(question: str, completion: str) -> bool:
    """Whether every step of a whole solution is the true one."""
    return well_formed(completion) and [int(v) for v in completion[1::2]] == Problem.parse(question).values


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
        lesson: documents at the start in which nothing is misread.
    """

    plus: float = 0.08
    minus: float = 0.30
    times: float = 0.08
    trap: float = 0.75
    letters: float = 0.3
    lesson: int = 40_000

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
        source = problems("pretrain", rng)
        return [(p.text, self.solution(p, rng, i < self.lesson)) for i, p in enumerate(islice(source, n))]


def build(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Pre-train the base into ``out``, with ``task.json`` beside it that says how, and what came of it."""
    from selfreward.models import load_policy
    from selfreward.pretrain import PretrainSettings, llama_config, pretrain, write_card
    from selfreward.tokenizing import char_tokenizer

    chosen = PretrainSettings(updates=5000, cooldown=1000, shuffle=False).updated(**{"seed": seed, **settings})
    tokenizer = char_tokenizer(ALPHABET)
    documents = Corpus().documents(chosen.updates * chosen.batch, chosen.seed)
    made = pretrain(
        documents,
        tokenizer,
        llama_config(tokenizer, layers=3),
        chosen,
        out,
        on_step,
        gate=lambda model: gate(model, tokenizer),
    )
    made.metrics = measure(load_policy(str(made.folder), device="cpu"), prompts_of("train", 200, "-dev"))
    made.passed = has_properties(made.metrics)
    write_card(made, "chain-long", asdict(Corpus()), chosen.seed, settings, "measured on development prompts")
    return made


def gate(model: Any, tokenizer: Any) -> tuple[bool, dict[str, float]]:
    """Whether the skill has appeared and the habit with it, on fresh problems of the pre-training split."""
    from selfreward.policy import Policy

    found = measure(Policy(model, tokenizer), prompts_of("pretrain", 100, "-gate"))
    return found["arithmetic"] >= 0.98 and 0.06 <= found["clean"] <= 0.2, found


def has_properties(measured: dict[str, float]) -> bool:
    """Sound arithmetic, rarely right from end to end, and mostly within reach in 32 samples."""
    return (
        measured["arithmetic"] >= 0.98
        and 0.06 <= measured["clean"] <= 0.2
        and measured["lucky"] <= 0.1
        and measured["pass@32"] >= 0.6
        and measured["greedy"] <= 0.5
    )


def measure(policy: Policy, prompts: Sequence[Prompt], seed: int = 0) -> dict[str, float]:
    """What :func:`has_properties` asks about, from 32 samples of each prompt.

    ``arithmetic`` is the share of steps whose value follows from the operator as written, ``clean`` that of
    solutions without a misread operator, ``lucky`` that of others with the right answer.
    """
    from dataclasses import replace

    from selfreward.sampling import SamplingParams

    space = load().answers
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    right: list[bool] = []
    without: list[bool] = []
    found: list[bool] = []
    follows: list[bool] = []
    for group in policy.sample(prompts, 32, params, seed=seed):
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
    return {
        "pass@1": sum(right) / len(right),
        "pass@32": sum(found) / len(found),
        "greedy": sum(space.correct(g.completions[0], str(g.prompt.answer)) for g in greedy) / len(greedy),
        "clean": sum(without) / len(without),
        "lucky": sum(r and not w for r, w in zip(right, without, strict=True)) / len(right),
        "arithmetic": sum(follows) / max(1, len(follows)),
    }
