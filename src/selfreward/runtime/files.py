"""Files and folders that are whole or as they were before, and logs of one JSON object per line.

Everything is written beside its final name, flushed to disk and renamed, which a file system does in one go: a process
that dies, or a disk that is full, never leaves half a file under the name that others read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to that takes the name ``path`` once the block has ended; folders above are made.

    If the block fails, what was there before stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, errors: str = "strict") -> Path:
    """Write a file that is there whole or as it was before, and return its path.

    Args:
        errors: what happens to characters that UTF-8 cannot hold (lone surrogates), as in :func:`open`.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors=errors)
    return path


@contextmanager
def whole_folder(final: Path, durable: bool = True) -> Iterator[Path]:
    """A folder to write into that takes the name ``final`` once the block has ended, flushed to disk if ``durable``.

    If the block fails, or the process dies in it, what was there before stays as it was.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.parent / f".{final.name}.partial"
    old = final.parent / f".{final.name}.old"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for path in [*partial.iterdir(), partial] if durable else []:
            _flush(path)
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            os.rename(final, old)
        os.rename(partial, final)
        if durable:
            _flush(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All records of a log that this package wrote (``metrics.jsonl``, ``rollouts.jsonl``), oldest first.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if a line is not JSON, such as a last one that was cut off (see :func:`truncate_jsonl`).
    """
    return [json.loads(line) for line in _lines(path.read_text(encoding="utf-8"))]


def last_record(path: Path) -> dict[str, Any] | None:
    """The newest whole record near the end of a log that is still written; None if there is none.

    Only the last 8 KiB are read, so that it is cheap to look again and again.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = _lines(file.read().decode("utf-8", "replace"))
    except OSError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            return record
    return None


def truncate_jsonl(path: Path, step: int) -> None:
    """Drop records after ``step``, and a half-written last line, so that no step is logged twice."""
    if not path.is_file():
        return
    kept = []
    for line in _lines(path.read_text(encoding="utf-8", errors="replace")):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("step", 0) <= step:
            kept.append(line)
    write_text(path, "".join(line + "\n" for line in kept))


def _lines(text: str) -> list[str]:
    """The lines with something on them. Not ``splitlines``: JSON strings may hold U+2028 and its like."""
    return [line for line in text.split("\n") if line.strip()]


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
