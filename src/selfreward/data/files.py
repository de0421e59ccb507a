"""Files on disk, as numbered rows."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from selfreward.data.rows import RowError, Table
from selfreward.errors import DataError

_LFS = b"version https://git-lfs.github.com/spec/"


def suffix_of(path: Path) -> str:
    """The suffix that says the format, without a final ``.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return os.path.splitext(name)[1]


def read_file(path: Path) -> Table:
    """The rows of a data file.

    Raises:
        DataError: when the file as a whole is unreadable: not a data file, not UTF-8, empty, a
            git-lfs pointer, broken compression.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path} is not a regular file.")
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        kind = f"its name ends in {suffix!r}" if suffix else "its name has no ending that says its format"
        raise DataError(f"{path}: unknown kind of file, {kind}. Known: {', '.join(SUFFIXES)} (also with .gz).")
    raw = _bytes(path)
    if suffix == ".parquet":
        return Table(str(path), parquet_rows(str(path), raw), "row")
    text = _text(path, raw)
    if suffix == ".json" and text.lstrip().startswith("["):
        return Table(str(path), array_items(str(path), text), "item")
    return Table(str(path), _READERS[suffix](text))


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        # By content, not by name: downloads often lose or gain the ending.
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip compression is broken or cut off ({error}); copy the file again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if raw.startswith(_LFS):
        raise DataError(f"{path} is a git-lfs pointer, not the data itself; run `git lfs pull` in its repository.")
    if not raw.strip():
        raise DataError(f"{path} is empty.")
    return raw


def _text(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        found = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{raw[error.start]:02x}"
        raise DataError(
            f"{path}, line {line}, byte {column}: not UTF-8 ({found}). Save the file as UTF-8, "
            f"for example with `iconv -f latin1 -t utf-8`."
        ) from None


def json_lines(text: str) -> Iterator[tuple[int, object]]:
    """One JSON value per line; blank lines are skipped, but counted."""
    # Not splitlines(): JSON strings may hold U+2028 and its like.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _json_row(line)


def array_items(source: str, text: str) -> Iterator[tuple[int, object]]:
    """The items of one JSON array."""
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{source}, line {error.lineno}, column {error.colno}: malformed JSON: {error.msg}.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: malformed JSON: {_reason(error)}.") from None
    for number, item in enumerate(items, start=1):
        yield number, _surrogates(item) or item


def _json_row(line: str) -> object:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        at = line[error.pos : error.pos + 20].strip()
        found = f"at {at!r}" if at else "at the end of the line"
        return RowError(f'column {error.colno}: malformed JSON {found}: {error.msg}. A row is like {{"prompt": "x"}}.')
    except (ValueError, RecursionError) as error:
        return RowError(f"malformed JSON: {_reason(error)}.")
    if isinstance(row, list):
        return RowError("the row is a list, not an object; a JSON array of rows belongs in a file ending in .json.")
    return _surrogates(row) or row


def _surrogates(row: object) -> RowError | None:
    r"""Half a character (``\ud83d`` alone) is legal JSON, but neither tokenizers nor files can hold it."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        return RowError(
            f"holds half a character ({half!a}, a lone surrogate); write the pair, or the character itself."
        )
    except RecursionError as error:
        return RowError(f"malformed JSON: {_reason(error)}.")
    return None


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"


def text_lines(text: str) -> Iterator[tuple[int, object]]:
    """One prompt per line; blank lines are skipped, but counted."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, {"prompt": line.rstrip("\r")}


def csv_rows(text: str) -> Iterator[tuple[int, object]]:
    """Rows under a header line; an empty cell is a null."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # After a broken quote every later line is read wrongly: stop at the first.
            yield reader.line_num, RowError(f"malformed CSV: {error}.")
            return
        cells = {k: v or None for k, v in row.items() if k is not None}
        if None in row:
            yield reader.line_num, RowError(f"the row has more cells than the header, which has {len(cells)}.")
        else:
            yield reader.line_num, cells


def parquet_rows(source: str, raw: bytes) -> Iterator[tuple[int, object]]:
    """Rows of a parquet file by number, from 1; DataError where it cannot be read."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: reading parquet needs an extra: pip install 'selfreward[data]'.") from None
    try:
        rows = pyarrow.parquet.read_table(io.BytesIO(raw)).to_pylist()
    except Exception as error:
        raise DataError(f"{source} is not a readable parquet file: {error}") from None
    yield from enumerate(rows, start=1)


_READERS: dict[str, Callable[[str], Iterator[tuple[int, object]]]] = {
    ".jsonl": json_lines,
    ".json": json_lines,
    ".txt": text_lines,
    ".csv": csv_rows,
}
SUFFIXES = (*_READERS, ".parquet")


def near_names(path: Path) -> str:
    """What the folder of a missing ``path`` has instead, as a sentence."""
    folder = path.parent
    where = "this folder" if str(folder) == "." else str(folder)
    try:
        names = os.listdir(folder)
    except (OSError, ValueError):
        return f" There is no folder {folder} either."
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if close:
        return f" Near names in {where}: {', '.join(close)}."
    data = sorted(name for name in names if suffix_of(Path(name)) in SUFFIXES)[:5]
    return f" Data files in {where}: {', '.join(data)}." if data else f" There are no data files in {where}."
