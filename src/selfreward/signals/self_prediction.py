"""What a model predicts about its own attempts, and what such a prediction is worth (MASA, arXiv 2510.03259).

A meta answer says of a problem, before it is solved: how often the model will be right, how long a right solution
will be, and which concepts it will use. Truth is measured on the model's own rollouts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PASS_STEPS = 8
"""Pass rates are asked for in eighths, whatever the number of rollouts."""


@dataclass(frozen=True)
class MetaAnswer:
    """A prediction; a part that is missing or ill-typed is None.

    Attributes:
        pass_rate: 0 to 8 eighths.
        length: tokens of a right solution.
        concepts: words or phrases that right solutions contain.
    """

    pass_rate: int | None = None
    length: int | None = None
    concepts: tuple[str, ...] | None = None

    @property
    def rate(self) -> float | None:
        """The predicted pass rate in [0, 1]."""
        return None if self.pass_rate is None else self.pass_rate / PASS_STEPS


def read_meta(text: str) -> MetaAnswer:
    """The last JSON object of ``text`` that has a known field: ``pass_rate``, ``solution_length``, ``concepts``.

    ``concepts`` is a list of texts or one text with commas (the released code calls it ``math_notion``, which is
    read, too). Example: ``'... {"pass_rate": 6, "solution_length": "long"}'`` has pass rate 6 and no length.
    """
    known = {"pass_rate", "solution_length", "concepts", "math_notion"}
    for found in reversed(_objects(text)):
        if known & found.keys():
            return MetaAnswer(
                _whole(found.get("pass_rate"), 0, PASS_STEPS),
                _whole(found.get("solution_length"), 1, None),
                _texts(found.get("concepts", found.get("math_notion"))),
            )
    return MetaAnswer()


def read_buckets(text: str, letters: str, step: int) -> MetaAnswer:
    """The two-character form of tiny models: a digit 0 to 8 and a letter for the length in steps.

    Example: ``"6c"`` with letters ``abcdefgh`` and steps of 3: pass rate 6/8, length 9.
    """
    rate = int(text[0]) if text[:1].isdigit() and int(text[0]) <= PASS_STEPS else None
    at = letters.find(text[1]) if len(text) > 1 else -1
    return MetaAnswer(rate, (at + 1) * step if at >= 0 else None)


@dataclass(frozen=True)
class Wording:
    """How meta answers are written: as JSON, or (tiny models) as a digit and one of ``letters`` per ``step`` tokens."""

    letters: str = ""
    step: int = 1

    def read(self, text: str) -> MetaAnswer:
        return read_buckets(text, self.letters, self.step) if self.letters else read_meta(text)

    def write(self, answer: MetaAnswer) -> str:
        """The text that is read as ``answer``, whose parts must be there."""
        assert answer.length is not None
        if self.letters:
            return f"{answer.pass_rate}{self.letters[answer.length // self.step - 1]}"
        found = {"concepts": list(answer.concepts or ()), "pass_rate": answer.pass_rate}
        return json.dumps({**found, "solution_length": answer.length}, ensure_ascii=False)

    def rounded(self, tokens: int) -> int:
        """A length in the steps in which it is predicted, up to the largest that can be said."""
        steps = -(-tokens // self.step)
        return self.step * (min(steps, len(self.letters)) if self.letters else steps)


def pass_reward(predicted: float | None, true: float) -> float:
    """``0.01 ** |predicted - true|``: 1 when exact, .1 half the scale away. None gets 0.

    Example: 6/8 for a true .5: ``.01 ** .25 = .316``.
    """
    return 0.0 if predicted is None else 0.01 ** abs(predicted - true)


def predicted_length_reward(predicted: int | None, correct_lengths: Sequence[int], strict: bool = True) -> float:
    """1 where the prediction lies between the shortest and the longest right solution; 0 without one.

    The paper's inequality is strict, so that with one right solution, or with equal ones, nobody can be right;
    ``strict=False`` counts the ends. Example: 9 between 6 and 12 gets 1, 6 gets 0 and unstrictly 1.
    """
    if predicted is None or not correct_lengths:
        return 0.0
    low, high = min(correct_lengths), max(correct_lengths)
    return float(low < predicted < high or (not strict and low <= predicted <= high))


def concept_reward(
    concepts: Sequence[str] | None, problem: str, solutions: Sequence[str], correct: Sequence[bool]
) -> float:
    """Share of the concepts that more right than wrong solutions contain.

    Concepts are put into the singular; those that the problem already names are left out. A concept counts by
    substring, as in the released code, so generic words win easily. Nothing left: 0.

    Example: concepts ``["primes", "sum"]``, problem ``"find x"``, solutions ``"prime"`` (right), ``"sum"`` (wrong): .5.
    """
    kept = dict.fromkeys(s for s in map(singular, concepts or ()) if s and s not in problem)
    if not kept:
        return 0.0
    votes = {c: sum(1 if ok else -1 for text, ok in zip(solutions, correct, strict=True) if c in text) for c in kept}
    return sum(v > 0 for v in votes.values()) / len(votes)


def meta_accuracy(
    said: Sequence[Sequence[MetaAnswer]], rates: Sequence[float], lengths: Sequence[Sequence[int]]
) -> dict[str, float]:
    """How right predictions are, whoever they were paid for: mean error of the pass rate, share of length hits.

    Args:
        said: answers per problem; ``rates``: its true pass rate; ``lengths``: those of its right solutions.
    """
    errors, hits = [], []
    for answers, rate, right in zip(said, rates, lengths, strict=True):
        errors += [abs(a.rate - rate) if a.rate is not None else 1.0 for a in answers]
        if right:
            hits += [predicted_length_reward(a.length, right, strict=False) for a in answers]
    found = {"meta/pass_error": errors, "meta/length_hits": hits}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def singular(word: str) -> str:
    """A regular English plural without its ending: identities, boxes, cosines."""
    low = word.lower()
    if low.endswith("ies") and low != "series":
        return word[:-3] + "y"
    if low.endswith(("ches", "shes", "xes", "zes", "oes")):
        return word[:-2]
    if low.endswith("s") and not low.endswith("ss") and low != "series":
        return word[:-1]
    return word


def _objects(text: str) -> list[dict[str, Any]]:
    """All outermost JSON objects in ``text``, in order."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        found.append(value)
        at = end
    return [v for v in found if isinstance(v, dict)]


def _whole(value: Any, low: int, high: int | None) -> int | None:
    sound = isinstance(value, int) and not isinstance(value, bool)
    return value if sound and low <= value and (high is None or value <= high) else None


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = value.strip("[] ").split(",")
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        return None
    return tuple(s for s in (v.strip() for v in value) if s)
