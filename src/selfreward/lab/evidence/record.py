"""Evidence files: what was measured, what was claimed, and whether it holds.

``evidence/SLUG.json`` is written by ``selfreward reproduce SLUG`` and read by everything that shows
a status. This module knows the file; :mod:`selfreward.lab.catalogue.systems` derives the status from it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from selfreward.errors import DataError, nearest
from selfreward.runtime.files import write_text

Metrics = Mapping[str, Any]

MINIMUM_SEEDS = 3
PACKAGED_EVIDENCE = Path(__file__).parents[1] / "catalogue" / "evidence"


@dataclass
class Check:
    """One pass or falsification rule and what came out.

    Attributes:
        statement: the rule in words, with its threshold.
        observed: the measured number.
        interval: its confidence interval (low, high), or None where none applies.
    """

    name: str
    statement: str
    observed: float
    interval: tuple[float, float] | None
    holds: bool


@dataclass
class Evidence:
    """The small-scale proof of one system's claim, for or against it.

    Attributes:
        arms: arm name -> seed (as text) -> metrics. Every arm has every seed.
        mechanism: ``name`` of what makes the method special and ``count`` of the samples or tokens
            that it touched.
        command: the command line that regenerates the file.
        fingerprint: what the recipe does in its first steps at a fixed seed; replayed by the tests.
        reason: why a check fails, at what size (required reading for a falsified claim).
        curves: arm -> seed -> name of a quantity -> its values during training (``step`` among them).
    """

    id: str
    slug: str
    claim: str
    task: str
    arms: dict[str, dict[str, Metrics]]
    checks: list[Check]
    mechanism: dict[str, Any]
    seeds: list[int]
    command: str
    wall_s: float
    machine: str | dict[str, Any]
    fingerprint: dict[str, Any]
    reason: str = ""
    curves: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False, repr=False)

    @property
    def holds(self) -> bool:
        """Every check holds (and there is one)."""
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def alive(self) -> bool:
        """The method's special mechanism did something."""
        return self.mechanism["count"] > 0

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.holds]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evidence:
        """Read and validate an evidence file.

        Raises:
            DataError: naming the file, the field and what would be right.
        """
        path = Path(path)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}).") from None
        return cls.parse(raw, where=str(path), path=path)

    @classmethod
    def parse(cls, raw: Any, where: str = "evidence", path: Path | None = None) -> Evidence:
        """Build from decoded JSON; ``where`` starts every error message."""
        if not isinstance(raw, Mapping):
            raise DataError(f"{where}: must hold one JSON object, not {_kind(raw)}.")
        known = [f.name for f in fields(cls) if f.name != "path"]
        for key in raw:
            if key not in known:
                raise DataError(f"{where}: unknown field {key!r}.{nearest(str(key), known)}")
        missing = [name for name in known if name not in raw and name not in ("reason", "curves")]
        if missing:
            raise DataError(f"{where}: missing field{'s' * (len(missing) > 1)} {', '.join(missing)}.")
        values = dict(raw)
        values["checks"] = [
            _check(item, f"{where}: checks[{i}]") for i, item in enumerate(_list(raw["checks"], f"{where}: checks"))
        ]
        evidence = cls(**values, path=path)
        evidence.validate(where)
        return evidence

    def validate(self, where: str = "evidence") -> None:
        """Raise :class:`DataError` unless every field has the right shape and every number is finite."""
        for name in ("id", "slug", "claim", "task", "command"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise DataError(f"{where}: {name} must be a text that is not empty, not {value!r}.")
        if not isinstance(self.reason, str):
            raise DataError(f"{where}: reason must be a text, not {_kind(self.reason)}.")
        if not self.machine or not isinstance(self.machine, str | Mapping):
            raise DataError(f"{where}: machine must be a text or an object that says what it ran on.")
        if not self.checks:
            raise DataError(f"{where}: checks is empty; a claim without a check proves nothing.")
        for i, check in enumerate(self.checks):
            _check(asdict(check), f"{where}: checks[{i}]")
        if not _is_number(self.wall_s) or self.wall_s < 0:
            raise DataError(f"{where}: wall_s must be a number of seconds, not {self.wall_s!r}.")
        seeds = _list(self.seeds, f"{where}: seeds")
        if not seeds or not all(isinstance(s, int) and not isinstance(s, bool) for s in seeds):
            raise DataError(f"{where}: seeds must be a list of whole numbers, not {self.seeds!r}.")
        if len(set(seeds)) < len(seeds):
            raise DataError(f"{where}: seeds names a seed twice: {self.seeds!r}.")
        self._validate_arms(where)
        if not isinstance(self.mechanism, Mapping) or not isinstance(self.mechanism.get("name"), str):
            raise DataError(f'{where}: mechanism must be {{"name": ..., "count": ...}}.')
        count = self.mechanism.get("count")
        if not isinstance(count, int | float) or not _is_number(count) or count < 0:
            raise DataError(f"{where}: mechanism.count must be a number of samples or tokens, not {count!r}.")
        if not isinstance(self.fingerprint, Mapping) or not self.fingerprint:
            raise DataError(f"{where}: fingerprint must be an object with the recipe's first steps.")
        _finite(self.to_dict(), where)

    def _validate_arms(self, where: str) -> None:
        if not isinstance(self.arms, Mapping) or not self.arms:
            raise DataError(f"{where}: arms must be an object of arm -> seed -> metrics.")
        wanted = {str(seed) for seed in self.seeds}
        for arm, runs in self.arms.items():
            if not isinstance(runs, Mapping) or not all(isinstance(m, Mapping) for m in runs.values()):
                raise DataError(f"{where}: arms.{arm} must be an object of seed -> metrics.")
            if {str(seed) for seed in runs} != wanted:
                raise DataError(
                    f"{where}: arms.{arm} has the seeds {', '.join(map(str, runs)) or 'none'}; "
                    f"seeds says {', '.join(sorted(wanted))}. Every arm needs every seed."
                )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, seeds of arms as text."""
        values = asdict(self)
        del values["path"]
        values["arms"] = {arm: {str(s): m for s, m in runs.items()} for arm, runs in values["arms"].items()}
        for name in ("reason", "curves"):
            if not values[name]:
                del values[name]
        return values

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Validate and write; a reader sees the old file or the whole new one, never a part."""
        path = Path(path)
        self.validate(str(path))
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            return write_text(path, text)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from None


def evidence_directories() -> list[Path]:
    """Where evidence is looked up: ``./evidence``, the repository's, then the installed package's."""
    found = [Path.cwd() / "evidence"]
    repository = Path(__file__).resolve().parents[4]
    if (repository / "pyproject.toml").is_file() and (repository / "src" / "selfreward").is_dir():
        found.append(repository / "evidence")
    found.append(PACKAGED_EVIDENCE)
    unique = dict.fromkeys(path.resolve() for path in found)
    return [path for path in unique if path.is_dir()]


def find_evidence(slug: str, directories: Sequence[str | os.PathLike[str]] | None = None) -> Path | None:
    """The first ``SLUG.json`` of ``directories`` (default :func:`evidence_directories`)."""
    for directory in evidence_directories() if directories is None else directories:
        path = Path(directory) / f"{slug}.json"
        if path.is_file():
            return path
    return None


def _check(raw: Any, where: str) -> Check:
    if not isinstance(raw, Mapping):
        raise DataError(f"{where}: must be an object, not {_kind(raw)}.")
    known = [f.name for f in fields(Check)]
    for key in raw:
        if key not in known:
            raise DataError(f"{where}: unknown field {key!r}.{nearest(str(key), known)}")
    for name in ("name", "statement"):
        if not isinstance(raw.get(name), str) or not raw[name].strip():
            raise DataError(f"{where}: {name} must be a text that is not empty.")
    if not isinstance(raw.get("holds"), bool):
        raise DataError(f"{where}: holds must be true or false, not {raw.get('holds')!r}.")
    if not _is_number(raw.get("observed")):
        raise DataError(f"{where}: observed must be a finite number, not {raw.get('observed')!r}.")
    interval = raw.get("interval")
    if interval is not None:
        if not isinstance(interval, list | tuple) or len(interval) != 2 or not all(map(_is_number, interval)):
            raise DataError(f"{where}: interval must be [low, high] or null, not {interval!r}.")
        if interval[0] > interval[1]:
            raise DataError(f"{where}: interval {interval!r} has its low end above its high end.")
        interval = (interval[0], interval[1])
    return Check(raw["name"], raw["statement"], raw["observed"], interval, raw["holds"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise DataError(f"{where} must be a list, not {_kind(value)}.")
    return list(value)


def _finite(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where} is {value}; evidence holds finite numbers only (null for a missing one).")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _finite(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _finite(item, f"{where}[{i}]")
    elif not isinstance(value, str | int | float | bool | None):
        raise DataError(f"{where} is a {type(value).__name__}; evidence holds plain numbers, texts and lists only.")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true/false", int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else type(value).__name__)
