"""What the arms of a proof reached, and the one reader of their step records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreward.errors import DataError
from selfreward.runtime.files import read_jsonl
from selfreward.statistics import Estimate, mean_interval

Values = NDArray[np.float64]
"""``[S]``: one number per seed, in the order of the seeds."""
Record = dict[str, Any]
"""One line of ``metrics.jsonl``: ``step`` (0 is the start), what the step recorded, and ``eval/NAME`` where held-out
prompts were asked."""


def read_records(run: Path) -> list[Record]:
    """The step records of a run folder.

    Raises:
        DataError: without a ``metrics.jsonl``.
    """
    file = run / "metrics.jsonl"
    try:
        return read_jsonl(file)
    except FileNotFoundError:
        raise DataError(f"{file} is missing; this needs the folder of a run.") from None


@dataclass(frozen=True)
class Results:
    """What the arms reached: ``arms[label][seed]`` has ``before``, ``after``, ``best`` and the rest.

    ``root`` holds the run folders, for rules that look at records over training or at a trained model.
    """

    arms: Mapping[str, Mapping[int, Mapping[str, Any]]]
    root: Path = Path(".")
    _read: dict[Path, list[Record]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def seeds(self, arm: str) -> list[int]:
        return sorted(self.arms[arm])

    def values(self, arm: str, metric: str, when: str = "after") -> Values:
        """``[S]``: the metric ``before`` training, ``after`` it, or at the ``best`` evaluation."""
        return np.array([float(self.arms[arm][seed][when][metric]) for seed in self.seeds(arm)])

    def gains(self, arm: str, metric: str, when: str = "after") -> Values:
        """``[S]``: the metric minus its own start."""
        return self.values(arm, metric, when) - self.values(arm, metric, "before")

    def mean(self, arm: str, metric: str, when: str = "after") -> Estimate:
        """Mean over seeds with its 95 % t-interval."""
        return mean_interval(self.values(arm, metric, when))

    def gain(self, arm: str, metric: str, when: str = "after") -> Estimate:
        """Improvement over the arm's own start, paired by seed."""
        return mean_interval(self.gains(arm, metric, when))

    def lead(self, arm: str, other: str, metric: str, when: str = "after") -> Estimate:
        """How far ``arm`` ends above ``other``, paired by seed."""
        return mean_interval(self.values(arm, metric, when) - self.values(other, metric, when))

    def run(self, arm: str, seed: int) -> Path:
        """The folder of one run."""
        return self.root / arm / f"seed-{seed}"

    def models(self, arm: str) -> list[Path]:
        """The trained model of every seed, in the order of the seeds."""
        return [self.run(arm, seed) / "model" for seed in self.seeds(arm)]

    def records(self, arm: str, seed: int) -> list[Record]:
        """The step records of one run, read once.

        Raises:
            DataError: without the run's folder.
        """
        run = self.run(arm, seed)
        if run not in self._read:
            self._read[run] = read_records(run)
        return self._read[run]

    def steps(self, arm: str, name: str, where: Callable[[Record], bool] = lambda record: True) -> list[list[float]]:
        """Per seed a recorded value of every step that has it, in order; of those steps only that ``where`` accepts.

        Example: ``steps("ssr", "eval/quality")`` is the course of the held-out quality, the start first;
        ``steps("masa", "spent", lambda r: r["step"] > 6)`` leaves the first six steps out.
        """
        runs = [self.records(arm, seed) for seed in self.seeds(arm)]
        return [[float(r[name]) for r in run if name in r and where(r)] for run in runs]

    def step_mean(self, arm: str, name: str, where: Callable[[Record], bool] = lambda record: True) -> Values:
        """``[S]``: the mean of :meth:`steps`.

        Raises:
            DataError: where a run recorded no such value.
        """
        found = self.steps(arm, name, where)
        if not all(found):
            raise DataError(f"A run of {arm} in {self.root} recorded no {name!r} in the steps that were asked for.")
        return np.array([sum(values) / len(values) for values in found])

    def curve(self, arm: str, seed: int, names: Sequence[str], window: int = 5) -> dict[str, list[float]]:
        """Values of one run at the steps with an evaluation (:func:`curve`)."""
        return curve(self.records(arm, seed), names, window)


def curve(records: Sequence[Record], names: Sequence[str], window: int = 5) -> dict[str, list[float]]:
    """Values at the steps with an evaluation, ``step`` among them.

    What is recorded at every step is the mean of the last ``window`` steps.
    """
    result: dict[str, list[float]] = {name: [] for name in ("step", *names)}
    for i, record in enumerate(records):
        if not any(key.startswith("eval/") for key in record):
            continue
        result["step"].append(record["step"])
        for name in names:
            recent = [record] if name.startswith("eval/") else (records[max(1, i - window + 1) : i + 1] or records[1:2])
            values = [r[name] for r in recent if name in r]
            if values:
                result[name].append(round(sum(values) / len(values), 5))
    return {name: values for name, values in result.items() if values}
