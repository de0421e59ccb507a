"""Eff: chains of one to six operations, answered with more or fewer words than they need.

A question is ``6*8-5........=``: digits joined by ``+ - *``, worked from left to right modulo 10, in a
field that always has room for six operations (here 48 -> 8, then 3). One operation is easy, six are hard.
One *effort sign* may stand before it, ``c6*8-5........=``; the signs ``abcde`` stand for 0.25, 0.5, 0.75,
1 and 1.5. The base answers in one of two styles, named by the first character of the completion:

* worked ``w6*8-3#3``: every operator with the running value after it. Right except for slips.
* guess ``g#3``: the answer at once. Right in the text, but the base cannot do it in its head: one in five.

Either may ramble on after the answer with up to twelve filler steps ``hm`` that depend on nothing: half
of the texts have none, and who has begun stops after each with probability .2 only. So a completion can
be shortened in two ways: by leaving out the filler, which costs nothing, and by not thinking, which
costs accuracy. What thinking takes grows with the question: 7 tokens for one operation, 17 for six, so
that one length for all punishes the hard ones. That is what length rewards are to be told apart by.

What was designed into the text of the base, openly: the shares of the styles and of the filler; some
completions without a question, so that the probability of an answer on its own has a meaning; documents
that compare two signs, so that the base knows their order as a language model knows that of numbers.
No document relates a sign to a style, a length or an answer. To the base ``eff-signs``, which is this one
after reading on, signs mean a little: there the answers of four in ten signed questions follow the sign.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import DataError
from selfreward.tasks import Split, Task, split_of
from selfreward.tasks.chain import apply
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy import Policy
    from selfreward.pretrain import Pretrained
    from selfreward.types import Group

FEWEST, MOST = 1, 6
FILLERS = 12
EFFORTS: dict[float, str] = {0.25: "a", 0.5: "b", 0.75: "c", 1.0: "d", 1.5: "e"}
ALPHABET = "0123456789" + "+-*" + "=#.>" + "wghm" + "".join(EFFORTS.values())
STYLES = {"w": "worked", "g": "guess"}
# ``effort R`` puts the sign of R before a prompt; see :mod:`selfreward.effort`.
TEMPLATES = {f"effort {r:g}": sign + "{prompt}" for r, sign in EFFORTS.items()}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-4,
    "kl": 0.1,
    "steps": 60,
    "prompts_per_step": 16,
    "group_size": 8,
    "max_new_tokens": 44,
}
EVALUATED, EVALUATION_SAMPLES = 200, 8

_QUESTION = re.compile(rf"[a-e]?(\d(?:[-+*]\d){{{FEWEST},{MOST}}})(\.*)=")
_COMPLETION = re.compile(r"(?:w\d(?:[-+*]\d)+|g)#\d(?:hm)*")


@dataclass(frozen=True)
class Problem:
    """``digits[0] ops[0] digits[1] ops[1] ...``."""

    digits: tuple[int, ...]
    ops: str

    @staticmethod
    def parse(question: str) -> Problem:
        """The problem that a question (with or without an effort sign) spells.

        Raises:
            DataError: if the text is not a question of this task.
        """
        found = _QUESTION.fullmatch(question)
        if not found or len(found[1] + found[2]) != 2 * MOST + 1:
            raise DataError(f"{question!r} is not an eff question; one looks like '6*8-5........='.")
        return Problem(tuple(int(d) for d in found[1][::2]), found[1][1::2])

    @property
    def text(self) -> str:
        body = str(self.digits[0]) + "".join(f"{o}{d}" for o, d in zip(self.ops, self.digits[1:], strict=True))
        return body.ljust(2 * MOST + 1, ".") + "="

    @property
    def answer(self) -> int:
        return self.values()[-1]

    def values(self) -> list[int]:
        """The running value after each operator."""
        found, value = [], self.digits[0]
        for op, digit in zip(self.ops, self.digits[1:], strict=True):
            value = apply(value, op, digit)
            found.append(value)
        return found

    def worked(self, rng: random.Random, slip: float = 0.0) -> str:
        """A worked solution; each step is off with probability ``slip``, and what follows builds on it."""
        value = self.digits[0]
        steps = f"w{value}"
        for op, digit in zip(self.ops, self.digits[1:], strict=True):
            value = apply(value, op, digit)
            if rng.random() < slip:
                value = (value + rng.randint(1, 9)) % 10
            steps += f"{op}{value}"
        return steps


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """Endless random problems of one split, every number of operations alike."""
    while True:
        ops = "".join(rng.choices("+-*", k=rng.randint(FEWEST, MOST)))
        problem = Problem(tuple(rng.randrange(10) for _ in range(len(ops) + 1)), ops)
        if split_of(problem.text) == split:
            yield problem


def well_formed(completion: str) -> bool:
    """Whether a completion is exactly one of the two styles with whole filler steps."""
    return _COMPLETION.fullmatch(completion) is not None


def style(completion: str) -> str | None:
    """``"worked"`` or ``"guess"``; None for a malformed completion."""
    return STYLES[completion[0]] if well_formed(completion) else None


def fillers(completion: str) -> int:
    """Filler steps in a completion, well formed or not."""
    return completion.count("hm")


def operations(question: str) -> int:
    """The difficulty of a question: how many operations it has."""
    return len(Problem.parse(question).ops)


@cache
def load() -> Task:
    """2000 training and 400 test prompts; ``fields["operations"]`` says how hard each is."""
    from selfreward.answers import Regex

    return Task(
        name="eff",
        train=_prompts("train", 2000),
        test=_prompts("test", 400),
        answers=Regex(r"#(\d)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        evaluator=evaluate,
    )


def dev(n: int = EVALUATED) -> list[Prompt]:
    """Prompts of the training split that training never sees: what choices are made on."""
    return _prompts("train", n, held_back=True)


def _prompts(split: Split, n: int, held_back: bool = False) -> list[Prompt]:
    """Every number of operations alike; there are few questions with one operation, so they come again."""
    found: list[Prompt] = []
    for problem in problems(split, random.Random(f"eff {split} {held_back}")):
        if len(found) == n:
            break
        if split == "train" and _held_back(problem) != held_back:
            continue
        fields = {"operations": len(problem.ops)}
        name = f"eff-{'dev' if held_back else split}-{len(found)}"
        found.append(Prompt(name, problem.text, fields=fields, reference=str(problem.answer)))
    return found


def _held_back(problem: Problem) -> bool:
    """A fifth of the problems of the training split are for development."""
    return split_of(f"dev {problem.text}") == "test"


# ---- measuring -----------------------------------------------------------------------------------


def evaluate(policy: Policy, prompts: Sequence[Prompt] | None = None, seed: int = 0) -> dict[str, Any]:
    """Accuracy by difficulty, length and style of ``prompts`` (by default the first 200 of the test split)."""
    from selfreward.sampling import SamplingParams

    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    chosen = load().test[:EVALUATED] if prompts is None else prompts
    return summarise(policy.sample(chosen, EVALUATION_SAMPLES, params, seed=seed))


def summarise(groups: Sequence[Group]) -> dict[str, float]:
    """What happened in sampled groups whose prompts have answers.

    ``pass@1``; ``accuracy K`` for every number of operations K, ``easy`` (1 and 2) and ``hard`` (5 and 6);
    ``length`` in generated tokens with the end token, ``length K`` too; ``filler share``, of the generated
    tokens; the share of each style and its accuracy.
    """
    space = load().answers
    rows: list[dict[str, Any]] = [
        {
            "operations": operations(g.prompt.question),
            "right": float(space.correct(t.completion, str(g.prompt.answer))),
            "length": len(t.last),
            "filler": 2 * fillers(t.completion),
            "style": style(t.completion),
        }
        for g in groups
        for t in g
    ]

    def mean(name: str, where: Callable[[Mapping[str, Any]], bool] = lambda row: True) -> float | None:
        values = [row[name] for row in rows if where(row)]
        return sum(values) / len(values) if values else None

    found: dict[str, float | None] = {
        "pass@1": mean("right"),
        "easy": mean("right", lambda row: row["operations"] <= 2),
        "hard": mean("right", lambda row: row["operations"] >= 5),
        "length": mean("length"),
        "filler share": sum(row["filler"] for row in rows) / sum(row["length"] for row in rows),
        "format": sum(row["style"] is not None for row in rows) / len(rows),
    }
    for k in range(FEWEST, MOST + 1):
        found[f"accuracy {k}"] = mean("right", lambda row, k=k: row["operations"] == k)  # type: ignore[misc]
        found[f"length {k}"] = mean("length", lambda row, k=k: row["operations"] == k)  # type: ignore[misc]
    for name in STYLES.values():
        found[f"{name} share"] = sum(row["style"] == name for row in rows) / len(rows)
        found[f"{name} accuracy"] = mean("right", lambda row, name=name: row["style"] == name)  # type: ignore[misc]
    return {name: value for name, value in found.items() if value is not None}


def build(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Pre-train the base into ``out``; see :mod:`selfreward.tasks.eff_base`."""
    from selfreward.tasks import eff_base

    return eff_base.build(out, seed, on_step, **settings)
