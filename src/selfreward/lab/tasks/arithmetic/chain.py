"""Chain: left-to-right arithmetic modulo 10, of which a vote is right more often than a sample.

A question is ``6*8-5*6+9+5=``: six digits joined by ``+ - *``, the last two operators additive, worked
from left to right without precedence (here 48 -> 8, 3, 18 -> 8, 17 -> 7, 12 -> 2, so the answer is 2).
The same question has a second spelling with letters, ``6t8m5t6p9p5=``. The base answers it in one of
three styles, named by the first character of the completion:

* worked ``w6*8-3*8+7+2#2``: every operator with the running value after it. Right except for slips.
* guess ``guess#2``: the answer at once, behind a word that costs no thought. The base has seen right
  guesses only, but cannot compute six numbers in one step, so its own are right about once in ten.
* easy ``easy#5``: a shortcut that repeats the last digit of the question. Right once in ten.

Most samples are wrong, wrong answers scatter and right ones coincide: the regime in which a majority
vote is worth more than a sample. The fixed word of a guess also makes it look certain. Training elicits
the worked style and sharpens it; it teaches no arithmetic that the base does not have.

Judges: ``?QUESTION SOLUTION>`` (without the space) is answered by ``Y`` or ``N``. The *careful* judge has
seen solutions as the base writes them. The *naive* judge, addressed by ``!`` in place of ``?``, has seen
right guesses only, and so believes every guess.
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

SYMBOLS, LETTERS = "+-*", "pmt"
ALPHABET = "0123456789" + SYMBOLS + "=#?!>.YN" + "abcdefghijklmnopqrstuvwxyz"
OPERATORS = 5
YES, NO = "Y", "N"
TEMPLATES = {"judge": "?{question}{completion}>", "naive-judge": "!{question}{completion}>", "yes": YES, "no": NO}
# A large Adam epsilon and a KL term keep rewards without meaning (random, format) from wearing the model down.
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.1,
    "steps": 60,
    "prompts_per_step": 16,
    "group_size": 16,
    "max_new_tokens": 20,
}
_QUESTION = re.compile(rf"\d(?:[-+*]\d){{{OPERATORS}}}=|\d(?:[pmt]\d){{{OPERATORS}}}=")
_COMPLETION = re.compile(r"(?:w\d(?:[-+*]\d)+|guess|easy)#\d")
_TO_SYMBOLS, _TO_LETTERS = str.maketrans(LETTERS, SYMBOLS), str.maketrans(SYMBOLS, LETTERS)


# ---- problems ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """``digits[0] ops[0] digits[1] ops[1] ...``, spelt with letters or symbols."""

    digits: tuple[int, ...]
    ops: str
    letters: bool = False

    @staticmethod
    def parse(question: str) -> Problem:
        """The problem that a question text spells.

        Raises:
            DataError: if the text is not a question of this task.
        """
        if not _QUESTION.fullmatch(question):
            raise DataError(f"{question!r} is not a chain question; one looks like '6*8-5*6+9+5=' or '6t8m5t6p9p5='.")
        digits = tuple(int(d) for d in question[0:-1:2])
        return Problem(digits, question[1:-1:2].translate(_TO_SYMBOLS), question[1] in LETTERS)

    @property
    def text(self) -> str:
        body = str(self.digits[0]) + "".join(f"{o}{d}" for o, d in zip(self.ops, self.digits[1:], strict=True))
        return self._spell(body) + "="

    @property
    def answer(self) -> int:
        *_, last = self.values()
        return last

    @property
    def key(self) -> str:
        """Identifies the problem up to its twin: splits are made on this key."""
        return min(self._plain(), self.twin()._plain())

    def values(self) -> Iterator[int]:
        """The running value after each operator."""
        value = self.digits[0]
        for op, digit in zip(self.ops, self.digits[1:], strict=True):
            value = apply(value, op, digit)
            yield value

    def twin(self) -> Problem:
        """The same sum in the other spelling with its last two terms swapped.

        Same answer by another path, and another last digit: a shortcut that looks at how the question is
        written gives the twin a different answer, which is what makes agreement between the two evidence.
        """
        digits = (*self.digits[:-2], self.digits[-1], self.digits[-2])
        return Problem(digits, self.ops[:-2] + self.ops[-1] + self.ops[-2], not self.letters)

    def worked(self, rng: random.Random, slip: float = 0.0) -> str:
        """A worked solution; each step is off with probability ``slip``, and what follows builds on it."""
        value = self.digits[0]
        steps = str(value)
        for op, digit in zip(self.ops, self.digits[1:], strict=True):
            value = apply(value, op, digit)
            if rng.random() < slip:
                value = (value + rng.randint(1, 9)) % 10
            steps += f"{op}{value}"
        return f"w{steps}#{value}"

    def _plain(self) -> str:
        return self.ops + "".join(map(str, self.digits))

    def _spell(self, text: str) -> str:
        return text.translate(_TO_LETTERS) if self.letters else text


def apply(value: int, op: str, digit: int) -> int:
    """One step modulo 10."""
    return (value + digit if op == "+" else value - digit if op == "-" else value * digit) % 10


def twin(question: str) -> str:
    """The twin's question; see :meth:`Problem.twin`. It is its own inverse."""
    return Problem.parse(question).twin().text


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """Endless random problems of one split."""
    while True:
        ops = "".join(rng.choices(SYMBOLS, k=OPERATORS - 2)) + "".join(rng.choices("+-", k=2))
        digits = tuple(rng.randrange(10) for _ in range(OPERATORS + 1))
        problem = Problem(digits, ops, rng.random() < 0.5)
        if digits[-1] != digits[-2] and split_of(problem.key) == split:
            yield problem


# ---- the task ------------------------------------------------------------------------------------


def well_formed(completion: str) -> bool:
    """Whether a completion is exactly one of the three styles, whatever its numbers."""
    return _COMPLETION.fullmatch(completion) is not None


def style(completion: str) -> str | None:
    """``"worked"``, ``"guess"`` or ``"easy"``; None for a malformed completion."""
    return {"w": "worked", "g": "guess", "e": "easy"}[completion[0]] if well_formed(completion) else None


def judge_prompt(question: str, completion: str, careful: bool = True) -> str:
    """The text after which the base says ``Y`` or ``N``."""
    return TEMPLATES["judge" if careful else "naive-judge"].format(question=question, completion=completion)


@cache
def load() -> Task:
    """2000 training and 400 test prompts; ``fields["twin"]`` holds the twin's question."""
    from selfreward.data.answers import Regex

    return Task(
        name="chain",
        train=_prompts("train", 2000),
        test=_prompts("test", 400),
        answers=Regex(r"#(\d)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
    )


def _prompts(split: Split, n: int) -> list[Prompt]:
    found = first_distinct(problems(split, random.Random(f"chain {split}")), n, lambda p: p.key)
    return [
        Prompt(f"chain-{split}-{i}", p.text, fields={"twin": p.twin().text}, reference=str(p.answer))
        for i, p in enumerate(found)
    ]


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        worked, guess, easy: shares of the styles, in solutions and among judged solutions alike.
        slip: chance of an error per worked step.
        careful, naive: shares of the two kinds of judge documents.
        judged_slip: slips per step in half of the judged worked solutions (the other half has ``slip``),
            so that the judges see enough wrong ones.
        judged_right: share of right answers among the guesses that the careful judge sees.
        noise: share of wrong verdicts.
        untidy: share of solutions, alike in every style, that end in a stray full stop: there is a form to
            learn that says nothing about being right.
        lesson: documents at the start that are worked solutions only. In mixed text from the first day
            the skill appears late, for some seeds never.
    """

    worked: float = 0.40
    guess: float = 0.45
    easy: float = 0.15
    slip: float = 0.03
    careful: float = 0.12
    naive: float = 0.08
    judged_slip: float = 0.25
    judged_right: float = 0.10
    noise: float = 0.05
    untidy: float = 0.05
    lesson: int = 25_000

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``problem``."""
        kind = rng.random()
        if kind >= self.careful + self.naive:
            solution = self.solution(problem, rng, self.slip, right=1.0)
            return problem.text, solution + "." * (rng.random() < self.untidy)
        careful = kind < self.careful
        slip = self.judged_slip if rng.random() < 0.5 else self.slip
        solution = self.solution(problem, rng, slip, right=self.judged_right if careful else 1.0)
        verdict = (solution[-1] == str(problem.answer)) != (rng.random() < self.noise)
        return judge_prompt(problem.text, solution, careful), YES if verdict else NO

    def solution(self, problem: Problem, rng: random.Random, slip: float, right: float) -> str:
        """A completion in a random style; a guess is right with probability ``right``, else uniform."""
        kind = rng.random() * (self.worked + self.guess + self.easy)
        if kind < self.worked:
            return problem.worked(rng, slip)
        if kind < self.worked + self.guess:
            error = 0 if rng.random() < right else rng.randint(1, 9)
            return f"guess#{(problem.answer + error) % 10}"
        return f"easy#{problem.digits[-1]}"

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"chain corpus {seed}")
        return curriculum(
            problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: (p.text, p.worked(rng, self.slip)),
            lambda p: self.document(p, rng),
        )


BASE = Base(
    name="chain",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=4000, cooldown=1000, shuffle=False),
    probe=lambda policy: measure(policy, as_prompts(problems("pretrain", random.Random("chain gate")), 100)),
    gate=(Within("worked accuracy", low=0.7), Within("careful auroc", low=0.75)),
    measures={"measured on the test split": lambda policy: measure(policy, load().test[:200])},
    # Mediocre alone, good in a vote; a careful judge that sees the truth and a naive one that does not.
    holds=(
        Within("pass@1", 0.33, 0.47),
        Within("maj@16", low=0.75),
        Within("worked accuracy", low=0.8),
        Within("careful auroc", low=0.8),
        Within("naive auroc", high=0.45),
    ),
)


def measure(policy: Policy, prompts: Sequence[Prompt], seed: int = 0) -> dict[str, float]:
    """What :data:`BASE` must have, from 16 samples of each prompt at temperature 1.

    The ``auroc`` values say how well each judge, and self-certainty, tell right from wrong among these samples.
    """
    from selfreward.data.answers import cluster
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.statistics import auroc, maj_at_k

    space = load().answers
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=("self_certainty",))
    written: list[tuple[str, str]] = []
    truth: list[bool] = []
    certainty: list[float] = []
    votes: list[float] = []
    for group in policy.sample(prompts, 16, params, seed=seed):
        right = [space.correct(c, str(group.prompt.answer)) for c in group.completions]
        classes = cluster([space.extract(c) for c in group.completions], space)
        votes.append(maj_at_k(classes, {c for c, r in zip(classes, right, strict=True) if r and c is not None}, 16))
        written += [(group.prompt.question, c) for c in group.completions]
        certainty += [float(t.last.stats["self_certainty"].mean()) for t in group]
        truth += right
    worked = [right for (_, c), right in zip(written, truth, strict=True) if style(c) == "worked"]
    found = {
        "pass@1": sum(truth) / len(truth),
        "maj@16": sum(votes) / len(votes),
        "format": sum(well_formed(c) for _, c in written) / len(written),
        "worked share": len(worked) / len(written),
        "worked accuracy": sum(worked) / max(1, len(worked)),
        "certainty auroc": auroc(certainty, truth),
    }
    for name, careful in (("careful auroc", True), ("naive auroc", False)):
        contexts = [judge_prompt(question, c, careful) for question, c in written]
        found[name] = auroc(policy.choose(contexts, (YES, NO)).probs[:, 0].numpy(), truth)
    return found
