"""The problems of :mod:`selfreward.lab.tasks.arithmetic.eff`: questions, effort signs, prompts, and measurements."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfreward.data.answers import Regex
from selfreward.errors import DataError
from selfreward.lab.tasks.arithmetic.chain import apply
from selfreward.lab.tasks.splits import Split, split_of
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.types import Group

FEWEST, MOST = 1, 6
FILLERS = 12
EFFORTS: dict[float, str] = {0.25: "a", 0.5: "b", 0.75: "c", 1.0: "d", 1.5: "e"}
ALPHABET = "0123456789" + "+-*" + "=#.>" + "wghm" + "".join(EFFORTS.values())
STYLES = {"w": "worked", "g": "guess"}
# ``effort R`` puts the sign of R before a prompt; see :mod:`selfreward.rollouts.effort`.
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


def dev(n: int = EVALUATED) -> list[Prompt]:
    """Prompts of the training split that training never sees: what choices are made on."""
    return prompts_of("train", n, held_back=True)


def prompts_of(split: Split, n: int, held_back: bool = False) -> list[Prompt]:
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
    from selfreward.policy.sampling.params import SamplingParams

    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    chosen = prompts_of("test", 400)[:EVALUATED] if prompts is None else prompts
    return summarise(policy.sample(chosen, EVALUATION_SAMPLES, params, seed=seed))


def summarise(groups: Sequence[Group]) -> dict[str, float]:
    """What happened in sampled groups whose prompts have answers.

    ``pass@1``; ``accuracy K`` for every number of operations K, ``easy`` (1 and 2) and ``hard`` (5 and 6);
    ``length`` in generated tokens with the end token, ``length K`` too; ``filler share``, of the generated
    tokens; the share of each style and its accuracy.
    """
    space = Regex(r"#(\d)")
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
