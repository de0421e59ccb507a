"""Rollouts that were produced elsewhere: a file of prompts and completions, as groups.

One row per prompt::

    {"prompt": "2+3=", "completions": ["5", "it is 6"], "correct": [true, false], "answer": "5"}

``completions`` are texts or objects with ``text`` (as in a run's own ``rollouts.jsonl``); ``correct`` (true,
false, or a grade from 0 to 1), ``answer``, ``scores`` (``{"my reward": [0.2, 0.9]}``, rewards to be audited
beside ours) and ``twin_completions`` (answers to another wording of the prompt) are optional. Rows with one
``completion`` each are put together by prompt.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from selfreward.data.files import read_file
from selfreward.data.rows import ANSWER_FIELDS, Problems, RowError, prompt_from
from selfreward.errors import DataError
from selfreward.types import Group, Prompt, Segment, Trajectory

MANY = ("completions", "responses", "samples", "outputs", "generations")
ONE = ("completion", "response", "output", "generation")
# On a segment whose tokens are its characters, because nobody said what a token is.
CHARACTERS = "characters"


@dataclass
class Rollouts:
    """Groups with what the file says about their completions.

    Attributes:
        truths: ``[groups][completions]`` in [0, 1], NaN where the file does not say.
        scores: rewards that the file brings, by name, in the same shape.
    """

    groups: list[Group] = field(default_factory=list)
    truths: list[list[float]] = field(default_factory=list)
    scores: dict[str, list[list[float | None]]] = field(default_factory=dict)


@dataclass
class _Row:
    prompt: Prompt
    texts: list[str]
    truths: list[float]
    scores: dict[str, list[float | None]]
    twin: list[str]


def read_rollouts(path: str | os.PathLike[str], limit: int | None = None) -> Rollouts:
    """Read a file of rollouts (``.jsonl``, ``.json``, either with ``.gz``, or ``.parquet``).

    Raises:
        DataError: with up to five problems, each by line and field.
    """
    if not os.path.exists(path):
        raise DataError(f"{os.fspath(path)}: there is no such file.")
    table = read_file(Path(path))
    problems = Problems(table.source)
    rows: list[_Row] = []
    joined: dict[str, _Row] = {}
    for number, raw in table.rows:
        try:
            row, single = _row(number, raw)
        except RowError as problem:
            problems.add(f"{table.unit} {number}, {problem}")
            continue
        key = row.prompt.question
        if single and key in joined:
            _append(joined[key], row)
            continue
        if single:
            joined[key] = row
        if limit is not None and len(rows) == limit:
            break
        rows.append(row)
    problems.check()
    if not rows:
        raise DataError(f'{table.source} has no rows; one looks like {{"prompt": "2+3=", "completions": ["5", "6"]}}.')
    return _groups(rows)


def _append(row: _Row, other: _Row) -> None:
    for name in {*row.scores, *other.scores}:
        mine = row.scores.setdefault(name, [None] * len(row.texts))
        mine += other.scores.get(name, [None] * len(other.texts))
    row.texts += other.texts
    row.truths += other.truths
    row.twin += other.twin


def _groups(rows: Sequence[_Row]) -> Rollouts:
    found = Rollouts()
    names = dict.fromkeys(name for row in rows for name in row.scores)
    for i, row in enumerate(rows):
        key = f"{i}/{row.prompt.id}"
        group = text_group(row.prompt, row.texts, key)
        if row.twin:
            group.meta["view"] = text_group(row.prompt, row.twin, f"{key}/twin")
        found.groups.append(group)
        found.truths.append(row.truths)
        for name in names:
            found.scores.setdefault(name, []).append(row.scores.get(name, [None] * len(row.texts)))
    return found


def text_group(prompt: Prompt, texts: Sequence[str], key: str) -> Group:
    """A group of bare texts: characters stand for tokens, so that lengths mean something; no statistics."""
    return Group(key, prompt, [Trajectory(prompt, [_characters(t)]) for t in texts])


def _characters(text: str) -> Segment:
    tokens = torch.tensor([ord(c) for c in text] or [0])
    return Segment("solver", tokens, text, trainable=True, meta={CHARACTERS: True})


# ---- one row -------------------------------------------------------------------------------------


def _row(number: int, raw: object) -> tuple[_Row, bool]:
    if isinstance(raw, RowError):
        raise raw
    if not isinstance(raw, Mapping):
        raise RowError('the row is not an object; one looks like {"prompt": "2+3=", "completions": ["5", "6"]}.')
    many = next((name for name in MANY if raw.get(name) is not None), None)
    one = next((name for name in ONE if raw.get(name) is not None), None)
    name = many or one
    if name is None:
        columns = ", ".join(repr(c) for c in list(raw)[:8]) or "none"
        raise RowError(f"the row has neither 'completions' nor 'completion' (columns: {columns}).")
    values = raw[name]
    if many and not isinstance(values, list):
        raise RowError(f"field {name!r}: is {_kind(values)}; it should be a list of texts.")
    items = values if many else [values]
    if not items:
        raise RowError(f"field {name!r}: is an empty list; it should hold at least one text.")
    texts, truths, scores = _completions(name, items, bool(many))
    # The columns of rollouts are not columns of the prompt, and some would be taken for its text or answer.
    rest = {k: v for k, v in raw.items() if k not in (name, "correct", "scores", "twin_completions", "group", "step")}
    prompt = prompt_from(
        number, rest, None, next((a for a in ANSWER_FIELDS if isinstance(rest.get(a), str | int)), None)
    )
    if raw.get("correct") is not None:
        given = raw["correct"] if many else [raw["correct"]]
        truths = _truths("correct", given, len(texts))
    own = raw.get("scores")
    if own is not None:
        if not isinstance(own, Mapping):
            raise RowError(f"field 'scores': is {_kind(own)}; it should be an object of lists, one list per reward.")
        for label, column in own.items():
            scores[str(label)] = _numbers(f"scores.{label}", column if many else [column], len(texts))
    twin = raw.get("twin_completions") or []
    if not isinstance(twin, list):
        raise RowError(f"field 'twin_completions': is {_kind(twin)}; it should be a list of texts.")
    return _Row(prompt, texts, truths, scores, _completions("twin_completions", twin, True)[0]), not many


def _completions(
    name: str, items: Sequence[Any], many: bool
) -> tuple[list[str], list[float], dict[str, list[float | None]]]:
    texts: list[str] = []
    truths: list[float] = []
    rewards: list[float | None] = []
    for i, item in enumerate(items):
        where = f"{name}[{i}]" if many else name
        if isinstance(item, str):
            texts.append(item)
            truths.append(math.nan)
            rewards.append(None)
            continue
        if not isinstance(item, Mapping) or not isinstance(item.get("text"), str):
            raise RowError(f"field '{where}': is {_kind(item)}; it should be a text, or an object with a 'text'.")
        texts.append(item["text"])
        truths += [math.nan] if item.get("correct") is None else _truths(f"{where}.correct", [item["correct"]], 1)
        rewards += _numbers(f"{where}.reward", [item.get("reward")], 1)
    return texts, truths, {} if all(r is None for r in rewards) else {"reward": rewards}


def _truths(name: str, values: object, n: int) -> list[float]:
    found = [math.nan if v is None else v for v in _numbers(name, values, n)]
    for i, v in enumerate(found):
        if not math.isnan(v) and not 0 <= v <= 1:
            raise RowError(f"field '{name}[{i}]': is {v:g}; it should be true, false, or a grade from 0 to 1.")
    return found


def _numbers(name: str, values: object, n: int) -> list[float | None]:
    if not isinstance(values, list):
        raise RowError(f"field {name!r}: is {_kind(values)}; it should be a list with one value per completion.")
    if len(values) != n:
        raise RowError(f"field {name!r}: has {len(values)} values for {n} completion{'' if n == 1 else 's'}.")
    for i, v in enumerate(values):
        if v is not None and not isinstance(v, bool | int | float):
            raise RowError(f"field '{name}[{i}]': is {_kind(v)}; it should be a number, true or false.")
    return [None if v is None or not math.isfinite(v) else float(v) for v in values]


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else "something else")
