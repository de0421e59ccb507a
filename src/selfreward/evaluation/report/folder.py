"""Reads what a run left behind, whatever state it is in.

A run may have been killed in mid-line, be still going, or lack files. Nothing of that is an error
here: what can be read is read, and what cannot becomes a note that the page shows.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Record = dict[str, Any]


class ShownAlarm(NamedTuple):
    """A warning of a monitor, and the step at which it fired where that is known."""

    step: int | None
    text: str


@dataclass
class RunFolder:
    """The readable part of a run folder.

    Attributes:
        metrics: one record per step, in order of steps.
        first, last: groups of the earliest and latest steps in the rollout log.
        notes: what was missing or damaged, for the reader.
    """

    path: Path
    metrics: list[Record] = field(default_factory=list)
    first: list[Record] = field(default_factory=list)
    last: list[Record] = field(default_factory=list)
    summary: Record = field(default_factory=dict)
    config: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def alarms(self) -> list[ShownAlarm]:
        """Every alarm once, in the order in which they fired."""
        found = [a for r in self.metrics for a in read_alarms(r.get("alarms"), r["step"])]
        found += read_alarms(self.summary.get("alarms"))
        return list({a.text: a for a in reversed(found)}.values())[::-1]


def read_run(path: Path, groups: int = 4) -> RunFolder:
    """Read the run at ``path``, with at most ``groups`` rollout groups from each end."""
    run = RunFolder(path)
    records = [r for r in _lines(path / "metrics.jsonl", run.notes) if isinstance(r.get("step"), int)]
    # A resumed run may repeat the steps after its last checkpoint; the later record is what counted.
    run.metrics = [r for _, r in sorted({r["step"]: r for r in records}.items())]
    run.first, run.last = _ends(path / "rollouts.jsonl", groups, run.notes)
    run.summary = _object(path / "summary.json", run.notes)
    try:
        run.config = (path / "config.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        run.notes.append("config.yaml is missing.")
    return run


def read_object(path: Path) -> tuple[Record, list[str]]:
    """A JSON object and the notes on what was wrong with it."""
    notes: list[str] = []
    return _object(path, notes), notes


def number(value: Any) -> float:
    """``value`` as a float; NaN for whatever is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan


def read_alarms(alarms: Any, step: int | None = None) -> list[ShownAlarm]:
    """Alarms of one record: objects as the monitor writes them, or plain sentences."""
    if not isinstance(alarms, Sequence) or isinstance(alarms, str):
        return []
    found = []
    for alarm in alarms:
        if isinstance(alarm, Mapping):
            parts = [str(alarm[k]) for k in ("name", "meaning", "message") if alarm.get(k)]
            if parts and alarm.get("statistic"):
                parts[0] += f" ({alarm['statistic']} {number(alarm.get('value')):.3g})"
            found.append(ShownAlarm(alarm.get("step", step), ": ".join(parts) or json.dumps(alarm, default=str)))
        else:
            found.append(ShownAlarm(step, str(alarm)))
    return found


def _object(path: Path, notes: list[str]) -> Record:
    try:
        value = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        notes.append(f"{path.name} is missing.")
    except ValueError:
        notes.append(f"{path.name} is damaged and was left out.")
    else:
        if isinstance(value, dict):
            return value
        notes.append(f"{path.name} does not hold an object and was left out.")
    return {}


def _raw(path: Path, notes: list[str]) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for i, line in enumerate(file, start=1):
                if line.strip():
                    yield i, line
    except OSError:
        notes.append(f"{path.name} is missing.")


def _parse(
    path: Path, numbered: Iterator[tuple[int, str]] | Sequence[tuple[int, str]], notes: list[str]
) -> list[Record]:
    records, bad = [], []
    for i, line in numbered:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            records.append(value)
        else:
            bad.append(i)
    if bad:
        where = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        notes.append(f"{path.name}: {len(bad)} unreadable line{'s' if len(bad) > 1 else ''} left out (line {where}).")
    return records


def _lines(path: Path, notes: list[str]) -> list[Record]:
    return _parse(path, _raw(path, notes), notes)


def _ends(path: Path, groups: int, notes: list[str]) -> tuple[list[Record], list[Record]]:
    """The first and last groups of a log that may be far larger than memory should hold."""
    head: list[tuple[int, str]] = []
    # One more than is shown: the last line of a killed run is often half a line.
    tail: deque[tuple[int, str]] = deque(maxlen=groups + 1)
    for item in _raw(path, notes):
        if len(head) < groups:
            head.append(item)
        tail.append(item)
    first = _parse(path, head, notes)
    last = _parse(path, [item for item in tail if item not in head], notes)[-groups:]
    return first, last
