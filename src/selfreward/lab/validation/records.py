"""The runs of the zoo as they are kept: what the detector and the verdicts read of each, small enough to commit.

Anybody can replay another detector on the same runs; the same runs give the same bytes.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfreward.errors import DataError
from selfreward.evaluation.sentinel.detector import STEP
from selfreward.runtime.files import read_jsonl, whole_file

Part = Literal["choice", "unseen"]
PARTS: tuple[Part, ...] = ("choice", "unseen")
Record = Mapping[str, Any]
DIGITS = 4
KEPT = re.compile(r"step|truth|entropy|probe/.*|" + "|".join(map(re.escape, sorted(STEP))))


class WatchedRun(NamedTuple):
    """One run of the zoo: its species with rate, its seed, and its records."""

    name: str
    seed: int
    records: list[dict[str, float]]

    @property
    def part(self) -> Part:
        return "unseen" if self.seed % 2 else "choice"


def compact(records: Iterable[Record]) -> list[dict[str, float]]:
    """What the detector and the verdict read of a run, in four digits."""
    return [
        {k: v if k == "step" else round(float(v), DIGITS) for k, v in r.items() if KEPT.fullmatch(k)} for r in records
    ]


def finished(folder: str | Path) -> list[WatchedRun]:
    """All finished runs ``ARM/seed-N`` under a folder of the zoo."""
    found = []
    for path in sorted(Path(folder).glob("*/seed-*/metrics.jsonl")):
        if (path.parent / "summary.json").is_file():
            seed = int(path.parent.name.removeprefix("seed-"))
            found.append(WatchedRun(path.parent.parent.name, seed, compact(read_jsonl(path))))
    return found


def keep_records(runs: Sequence[WatchedRun], path: str | Path) -> Path:
    """Write runs as gzipped JSON lines, a column per statistic. The same runs give the same bytes."""
    lines = []
    for run in runs:
        names = sorted({k for r in run.records for k in r})
        columns = {n: [r.get(n) for r in run.records] for n in names}
        lines.append(json.dumps({"name": run.name, "seed": run.seed, "columns": columns}, separators=(",", ":")))
    target = Path(path)
    with whole_file(target) as partial, partial.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())
    return target


def read_records(path: str | Path) -> list[WatchedRun]:
    """The runs of a file that :func:`keep_records` wrote.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"Cannot read the records {path}: {error}") from None
    found = []
    for row in rows:
        columns: dict[str, list[float | None]] = row["columns"]
        n = len(columns["step"])
        records = [{k: v for k, c in columns.items() if (v := c[i]) is not None} for i in range(n)]
        found.append(WatchedRun(row["name"], row["seed"], records))
    return found


def records_of(evidence_path: Path) -> Path:
    """Where the records behind an evidence file lie."""
    return evidence_path.with_name(evidence_path.stem + "-records.jsonl.gz")
