"""From rows of any source to prompts, with problems told by line and field."""

from __future__ import annotations

import difflib
import gzip
import json
import math
import os
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from selfreward.errors import DataError, nearest
from selfreward.types import Message, Prompt

PROMPT_FIELDS = ("prompt", "question", "problem", "instruction", "input", "text", "source")
"""Columns tried for the prompt, in this order, in rows without ``messages``."""

ANSWER_FIELDS = ("answer", "solution", "target", "label", "reference", "ground_truth")
"""Columns tried for the reference answer, in this order."""

ROLES = ("system", "developer", "user", "assistant", "tool")

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 40
_shorten.maxlevel = 2


class RowError(Exception):
    """Why one row cannot be used."""


@dataclass
class Problems:
    """What is wrong with one source: the first ``SHOWN`` in full, the others counted."""

    source: str
    found: list[str] = field(default_factory=list)
    count: int = 0

    SHOWN = 5

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.found) < self.SHOWN:
            self.found.append(text)

    def check(self) -> None:
        """Raise what was added, as one :class:`DataError`."""
        if self.count == 1:
            raise DataError(f"{self.source}, {self.found[0]}")
        if self.count:
            shown = "" if self.count <= self.SHOWN else f"; the first {self.SHOWN}"
            listed = "\n".join(f"  {text}" for text in self.found)
            raise DataError(f"{self.source}: {self.count} problems{shown}:\n{listed}")


@dataclass
class Table:
    """Numbered rows on their way to becoming prompts.

    Attributes:
        source: what the user calls it.
        rows: pairs of a number and a row. A :class:`RowError` in place of a row says why it could
            not be read.
        unit: what the numbers count: ``"line"``, ``"item"`` or ``"row"``.
    """

    source: str
    rows: Iterable[tuple[int, object]]
    unit: str = "line"


def prompts_from(
    table: Table, *, limit: int | None = None, prompt_field: str | None = None, answer_field: str | None = None
) -> list[Prompt]:
    """Every row as a prompt.

    Raises:
        DataError: when any of the rows read cannot be used, ids repeat, or there are none.
    """
    problems = Problems(table.source)
    prompts: list[Prompt] = []
    places: dict[str, str] = {}
    for count, (number, row) in enumerate(table.rows):
        if count == limit:
            break
        place = f"{table.unit} {number}"
        try:
            prompt = prompt_from(number, row, prompt_field, answer_field)
        except RowError as problem:
            problems.add(f"{place}, {problem}")
            continue
        if prompt.id in places:
            problems.add(
                f"{place}, field 'id': {_shorten.repr(prompt.id)} is already the id of {places[prompt.id]}; "
                f"ids must be unique (a row without an id is called by its {table.unit} number)."
            )
            continue
        places[prompt.id] = place
        prompts.append(prompt)
    problems.check()
    if not prompts:
        raise DataError(f'{table.source} has no rows; one looks like {{"prompt": "2+3=", "answer": "5"}}.')
    return prompts


def prompts_of_rows(
    rows: Iterable[str | Mapping[str, Any] | Prompt], prompt_field: str | None = None, answer_field: str | None = None
) -> list[Prompt]:
    """Prompts of rows in memory: texts, dicts with the columns that a file would have, or prompts.

    Raises:
        DataError: as for a file, by the number of the row.
    """
    table = Table("data", enumerate(map(as_row, rows), 1), "row")
    return prompts_from(table, prompt_field=prompt_field, answer_field=answer_field)


def as_row(item: str | Mapping[str, Any] | Prompt) -> Mapping[str, Any]:
    """What a line of a file would hold for a text, a dict (as it is) or a prompt."""
    if isinstance(item, str):
        return {"prompt": item}
    if not isinstance(item, Prompt):
        return item
    asked = {"prompt": item.text} if item.messages is None else {"messages": [dict(m) for m in item.messages]}
    answer = {} if item.reference is None else {"answer": item.reference}
    return {**item.fields, "id": item.id, **asked, **answer}


def prompt_from(number: int, row: object, prompt_field: str | None, answer_field: str | None) -> Prompt:
    """One row as a prompt.

    Raises:
        RowError: naming the field, what is there and what would be right.
    """
    if isinstance(row, RowError):
        raise row
    if not isinstance(row, Mapping):
        raise RowError(f'the row is {_describe(row)}; it should be an object like {{"prompt": "2+3="}}.')
    asked = _prompt_column(row, prompt_field)
    value = row[asked]
    text = messages = None
    if isinstance(value, list):
        messages = _messages(asked, value)
    elif not isinstance(value, str):
        raise RowError(
            f"field {asked!r}: is {_describe(value)}; it should be "
            + ("a list of messages." if asked == "messages" else "a string or a list of messages.")
        )
    elif asked == "messages":
        raise RowError(f"field 'messages': is {_describe(value)}; a plain string belongs in 'prompt'.")
    elif not value.strip():
        raise RowError(f"field {asked!r}: is empty; it should hold the text of the prompt.")
    else:
        text = value
    answered = _answer_column(row, answer_field, asked)
    return Prompt(
        id=_identity(row, number),
        text=text,
        messages=messages,
        fields={k: v for k, v in row.items() if k not in (asked, answered, "id")},
        reference=None if answered is None else _answer(answered, row[answered]),
    )


def _prompt_column(row: Mapping[str, Any], chosen: str | None) -> str:
    """The column that holds the prompt; a null counts as absent, as tables fill gaps with it."""
    if chosen is not None:
        if row.get(chosen) is None:
            state = "is null" if chosen in row else f"is missing.{nearest(chosen, row)}"
            raise RowError(f"field {chosen!r} (chosen as prompt_field): {state}")
        return chosen
    present = [name for name in PROMPT_FIELDS if row.get(name) is not None]
    if row.get("messages") is not None:
        if "prompt" in present:
            raise RowError("the row has both 'prompt' and 'messages'; keep one, or choose it as prompt_field.")
        return "messages"
    if not present:
        columns = ", ".join(_shorten.repr(name) for name in list(row)[:8]) or "none"
        raise RowError(
            f"the row has neither 'prompt' nor 'messages' (columns: {columns}).{_misspelt(row)} Also understood: "
            f"{', '.join(PROMPT_FIELDS[1:])}; another column can be chosen as prompt_field."
        )
    if present[0] == "instruction" and present[1:2] == ["input"] and row["input"] != "":
        # Dropping the input would silently train on half of every question.
        raise RowError(
            "the row splits its question over 'instruction' and 'input'; "
            "join them in 'prompt', or choose one as prompt_field."
        )
    return present[0]


def _misspelt(row: Mapping[str, Any]) -> str:
    for name in row:
        if close := difflib.get_close_matches(name, ("prompt", "messages", "question"), n=1, cutoff=0.75):
            return f" Is {_shorten.repr(name)} meant to be {close[0]!r}?"
    return ""


def _answer_column(row: Mapping[str, Any], chosen: str | None, asked: str) -> str | None:
    if chosen is not None:
        if chosen not in row:
            raise RowError(f"field {chosen!r} (chosen as answer_field): is missing.{nearest(chosen, row)}")
        return chosen
    return next((name for name in ANSWER_FIELDS if name != asked and row.get(name) is not None), None)


def _answer(name: str, value: object) -> str | None:
    """An answer as text; null and blank mean that there is none."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, int | Decimal) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise RowError(f"field {name!r}: is {_describe(value)}; an answer should be a string or a number.")


def _identity(row: Mapping[str, Any], number: int) -> str:
    value = row.get("id")
    if value is None:
        return str(number)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowError(f"field 'id': is {_describe(value)}; it should be a string or a whole number, or be left out.")
    return str(value)


def _messages(name: str, value: list[Any]) -> tuple[Message, ...]:
    """Chat turns, each with the role, the content and any other text of the original (such as a name)."""
    if not value:
        raise RowError(f"field {name!r}: is an empty list; it should end with a message from the user.")
    for i, message in enumerate(value):
        where = f"field '{name}[{i}]"
        if not isinstance(message, Mapping):
            raise RowError(
                f'{where}\': is {_describe(message)}; it should be like {{"role": "user", "content": "2+3="}}.'
            )
        for key in ("role", "content"):
            if key not in message:
                raise RowError(f"{where}': has no {key!r}; a message has 'role' and 'content'.")
            if not isinstance(message[key], str):
                raise RowError(f"{where}.{key}': is {_describe(message[key])}; it should be a string.")
        if message["role"] not in ROLES:
            raise RowError(
                f"{where}.role': {_shorten.repr(message['role'])} is no role.{nearest(message['role'], ROLES)}"
            )
    last = value[-1]
    where = f"field '{name}[{len(value) - 1}]"
    if last["role"] != "user":
        raise RowError(
            f"{where}.role': is {last['role']!r}; the last message should be from 'user', for the model to answer."
        )
    if not last["content"].strip():
        raise RowError(f"{where}.content': is empty; it should hold the user's question.")
    return tuple({k: v for k, v in message.items() if isinstance(v, str)} for message in value)


def _describe(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "the value", int: "the number", float: "the number", str: "the string", list: "the list"}
    shown = str(value).lower() if isinstance(value, bool) else _shorten.repr(value)
    return f"{kinds.get(type(value), 'the object' if isinstance(value, Mapping) else 'the value')} {shown}"


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, compressed when ``path`` ends in ``.gz``."""
    opened: Any = gzip.open if os.fspath(path).endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
