"""Prompts from anywhere: a file, a saved or published dataset, an embedded task, a generator of puzzles."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from selfreward.data.files import SUFFIXES, near_names, read_file, suffix_of
from selfreward.data.rows import Table, prompts_from
from selfreward.data.sources import embedded_prompts, hub_table, reasoning_gym_table, saved_table
from selfreward.errors import ConfigError, DataError
from selfreward.types import Prompt


def load_prompts(
    spec: str | os.PathLike[str],
    *,
    limit: int | None = None,
    prompt_field: str | None = None,
    answer_field: str | None = None,
    split: str | None = None,
) -> list[Prompt]:
    """Read prompts from ``spec``.

    Args:
        spec: one of

            - a file: ``.jsonl``, ``.json`` (an array), ``.txt`` (one prompt per line), ``.csv`` or
              ``.parquet``; the first four may end in ``.gz``;
            - a folder written by ``save_to_disk`` of the ``datasets`` library;
            - ``embedded:NAME``, a task of this package;
            - ``reasoning-gym:TASK?seed=0&size=500&KEY=VALUE``;
            - a ``datasets`` id: ``ID``, ``ID:CONFIG`` or ``ID:CONFIG:SPLIT``.
        limit: read the first ``limit`` rows only.
        prompt_field: the column that holds the prompt, a string or a list of chat messages. Without
            it: ``messages``, else the first of :data:`selfreward.data.rows.PROMPT_FIELDS` that the row has.
        answer_field: the column that holds the reference answer. Without it: the first of
            :data:`selfreward.data.rows.ANSWER_FIELDS` that the row has; answers are optional.
        split: which split of a dataset or embedded task; ``train`` when not given.

    Returns:
        At least one prompt, ids unique. Columns that are neither prompt, answer nor id are in
        ``fields``.

    Raises:
        DataError: with up to five problems, each by file, line and field.
        ConfigError: for an option that is out of range or means nothing for this source.
    """
    name = os.fspath(spec)
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; it is the number of prompts to read, at least 1.")
    if name.startswith("embedded:"):
        _refuse(name, prompt_field=prompt_field, answer_field=answer_field)
        return embedded_prompts(name.removeprefix("embedded:"), split)[:limit]
    table = _table(name, limit, split)
    return prompts_from(table, limit=limit, prompt_field=prompt_field, answer_field=answer_field)


def _table(spec: str, limit: int | None, split: str | None) -> Table:
    if spec.startswith("reasoning-gym:"):
        _refuse(spec, split=split)
        return reasoning_gym_table(spec, limit)
    path = Path(spec).expanduser()
    if os.path.isdir(path):
        return saved_table(path, split)
    if os.path.exists(path):
        _refuse(spec, split=split)
        return read_file(path)
    if suffix_of(path) in SUFFIXES or spec.startswith(("/", "./", "../", "~")) or spec.count("/") > 1:
        raise DataError(f"{spec}: file not found.{near_names(path)}")
    scheme, colon, rest = spec.partition(":")
    meant = difflib.get_close_matches(scheme, ("embedded", "reasoning-gym"), n=1, cutoff=0.75)
    if colon and meant:
        raise DataError(f"Unknown source {scheme + ':'!r}. Did you mean '{meant[0]}:{rest}'?")
    return hub_table(spec, split)


def _refuse(spec: str, **options: str | None) -> None:
    for option, value in options.items():
        if value is not None:
            raise ConfigError(f"{option}={value!r} means nothing for {spec}; leave it out.")
