"""From records to statements: what each reward did to the truth, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from selfreward.evaluation.held_out import SHARES
from selfreward.evaluation.report.folder import RunFolder, number, read_alarms, read_run
from selfreward.statistics import UNKNOWN, Estimate, mean_interval, paired_seeds

Verdict = Literal["learned", "misled", "fell", "level", "unsettled", "unknown"]
Role = Literal["method", "ceiling", "floor"]

VERDICTS: dict[Verdict, str] = {
    "learned": "learned",
    "misled": "reward up, truth down",
    "fell": "truth down",
    "level": "no clear change",
    "unsettled": "seeds disagree",
    "unknown": "not measured",
}
# Truth is whichever of these the evaluations hold; pass@1 is what the policy does when it is used.
TRUTHS = ("pass@1", "accuracy", "maj@k", "chrf", "bleu", "exact")
# A reward that moved less than this, in units of its own spread at the start, has not risen.
RISEN = 0.2
# A share that moved less than two points has not moved, however sure we are; without an interval, five.
MATTERS, UNSURE = 0.02, 0.05


class Curve(NamedTuple):
    """A statistic over steps: mean over seeds, and the lowest and highest seed. All float ``[T]``."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __bool__(self) -> bool:
        return self.steps.size > 0

    def at(self, steps: np.ndarray) -> np.ndarray:
        """The mean, interpolated."""
        return np.interp(steps, self.steps, self.mean)


def curve(runs: Sequence[Sequence[Mapping[str, Any]]], key: str, smooth: int = 1) -> Curve:
    """The curve of ``key`` over several runs; steps without a finite value are left out.

    ``smooth`` is the width of a centred moving average, which shrinks at the ends.
    """
    columns = [{int(r["step"]): v for r in run if not math.isnan(v := number(r.get(key)))} for run in runs]
    columns = [c for c in columns if c]
    steps = sorted({s for c in columns for s in c})
    if not steps:
        return Curve(*(np.empty(0) for _ in range(4)))
    values = np.full((len(columns), len(steps)), np.nan)
    for row, column in zip(values, columns, strict=True):
        have = [i for i, s in enumerate(steps) if s in column]
        row[have] = _smooth(np.array([column[steps[i]] for i in have]), smooth)
    return Curve(np.array(steps, dtype=float), np.nanmean(values, 0), np.nanmin(values, 0), np.nanmax(values, 0))


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    half = min(width, values.size) // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(values.size)])


def is_share(metric: str) -> bool:
    return metric in SHARES


def clip(estimate: Estimate, metric: str) -> Estimate:
    """A share cannot leave [0, 1], whatever Student's t says."""
    if not is_share(metric):
        return estimate
    return Estimate(estimate.value, max(0.0, estimate.low), min(1.0, estimate.high))


def measured(record: Mapping[str, Any], metric: str) -> Estimate:
    """A metric of one evaluation with the interval that was stored beside it."""
    intervals = record.get("intervals")
    ends = intervals.get(metric) if isinstance(intervals, Mapping) else None
    if not isinstance(ends, Sequence) or len(ends) != 2:
        ends = (math.nan, math.nan)
    return Estimate(number(record.get(metric)), number(ends[0]), number(ends[1]))


def subtract(after: Estimate, before: Estimate) -> Estimate:
    """The difference of two independent estimates: their half widths add in quadrature."""
    value = after.value - before.value
    half = math.hypot(after.half_width, before.half_width)
    return Estimate(value, value - half, value + half)


@dataclass
class ComparedArm:
    """One reward in a comparison, over its seeds.

    Attributes:
        index: its place, which fixes its colour on every figure.
        runs: the run folder of each seed.
        steps: how long each seed trained, for when the run folders are not at hand.
    """

    name: str
    labels: str
    control: bool
    seeds: list[Mapping[str, Any]]
    truth: str
    runs: list[RunFolder] = field(default_factory=list)
    steps: int = 0
    index: int = 0

    @property
    def role(self) -> Role:
        if not self.control:
            return "method"
        return "floor" if self.labels == "none" else "ceiling"

    @property
    def label_free(self) -> bool:
        return self.labels == "none"

    def _values(self, side: str, metric: str) -> list[float]:
        return [number(_record(s, side).get(metric)) for s in self.seeds]

    def _estimate(self, side: str, metric: str) -> Estimate:
        if len(self.seeds) == 1:
            return measured(_record(self.seeds[0], side), metric)
        return clip(mean_interval(self._values(side, metric)), metric)

    def before(self, metric: str) -> Estimate:
        return self._estimate("before", metric)

    def after(self, metric: str) -> Estimate:
        return self._estimate("after", metric)

    def change(self, metric: str) -> Estimate:
        """Paired over seeds; for a single seed, from the intervals of its two evaluations."""
        if not self.seeds:
            return UNKNOWN
        if len(self.seeds) == 1:
            return subtract(self.after(metric), self.before(metric))
        return paired_seeds(self._values("before", metric), self._values("after", metric))

    def curve(self, key: str, smooth: int = 1) -> Curve:
        return curve([r.metrics for r in self.runs], key, smooth)

    @cached_property
    def truth_curve(self) -> Curve:
        """Held-out truth by step, with the measurement before training as step 0."""
        runs = []
        for i, seed in enumerate(self.seeds):
            start = {"step": 0, "truth": _record(seed, "before").get(self.truth)}
            metrics = self.runs[i].metrics if i < len(self.runs) else []
            tail = [{"step": r["step"], "truth": r.get(f"eval/{self.truth}")} for r in metrics]
            if not any(not math.isnan(number(r["truth"])) for r in tail):
                last = metrics[-1]["step"] if metrics else self.steps
                tail = [{"step": last, "truth": _record(seed, "after").get(self.truth)}] if last else []
            runs.append([start, *tail])
        return curve(runs, "truth")

    @cached_property
    def reward_curve(self) -> Curve:
        return self.curve("reward/mean", self.smoothing)

    @property
    def smoothing(self) -> int:
        """Width of the moving average on noisy per-step statistics: a twentieth of the run."""
        steps = max((len(r.metrics) for r in self.runs), default=0)
        return max(1, steps // 20)

    @cached_property
    def reward_unit(self) -> float:
        """The spread of the reward inside the first groups: the yardstick for its rise. NaN if unknown.

        A reward that hardly varies (form, on a model that has learned the form) would turn every
        flicker into a rise, hence the floor at a twentieth of its level.
        """
        spread, level = self.curve("reward/std"), self.curve("reward/mean")
        unit = max(float(spread.mean[0]), abs(float(level.mean[0])) / 20) if spread and level else math.nan
        return unit if unit > 1e-9 else math.nan

    @cached_property
    def reward_gain(self) -> Curve:
        """Rise of the arm's own reward since the start, in units of :attr:`reward_unit`."""
        c = self.reward_curve
        if not c:
            return c
        unit = self.reward_unit
        if math.isnan(unit):
            unit = max(float(np.abs(c.mean - c.mean[0]).max()), 1e-9)
        return Curve(c.steps, *((x - c.mean[0]) / unit for x in c[1:]))

    @property
    def rise(self) -> float:
        """Where :attr:`reward_gain` ended: the mean of its last tenth."""
        c = self.reward_gain
        return float(c.mean[-max(1, c.steps.size // 10) :].mean()) if c else math.nan

    @cached_property
    def peak(self) -> tuple[float, float]:
        """``(step, value)`` of the best mean truth over seeds."""
        c = self.truth_curve
        i = int(c.mean.argmax()) if c else -1
        return (float(c.steps[i]), float(c.mean[i])) if c else (math.nan, math.nan)

    @property
    def given_back(self) -> float:
        """How far the truth ended below its peak."""
        c = self.truth_curve
        return self.peak[1] - float(c.mean[-1]) if c else math.nan

    @property
    def gave_back(self) -> bool:
        """Whether it was clearly better before the end than at the end."""
        return self.peak[0] > 0 and self.given_back > (UNSURE if is_share(self.truth) else 0.0)

    @property
    def verdict(self) -> Verdict:
        change = self.change(self.truth)
        if math.isnan(change.value):
            return "unknown"
        sure = not math.isnan(change.low)
        margin = (MATTERS if sure else UNSURE) if is_share(self.truth) else 0.0
        if abs(change.value) <= margin:
            return "level"
        if sure and change.low <= 0 <= change.high:
            return "unsettled" if len(self.seeds) > 1 and abs(change.value) > UNSURE else "level"
        if change.value > 0:
            return "learned"
        return "misled" if self.rise > RISEN else "fell"

    @property
    def tokens(self) -> float:
        return _mean([_tokens(s.get("tokens")) for s in self.seeds])

    @property
    def wall_s(self) -> float:
        return _mean([number(s.get("wall_s")) for s in self.seeds])

    @property
    def alarms(self) -> list[tuple[str, str]]:
        """``(message, where)``: each message once, with the seeds and the first steps at which it fired."""
        found: dict[str, dict[Any, int | None]] = {}
        for i, seed in enumerate(self.seeds):
            fired = self.runs[i].alarms if i < len(self.runs) else []
            for alarm in [*fired, *read_alarms(seed.get("alarms"))]:
                found.setdefault(alarm.text, {}).setdefault(seed.get("seed", i), alarm.step)
        return [
            (text, ", ".join(f"seed {s}" + ("" if step is None else f" at step {step}") for s, step in where.items()))
            for text, where in found.items()
        ]


@dataclass
class Comparison:
    """Everything the page and the terminal say about ``compare.json``."""

    task: str
    base: str
    truth: str
    arms: list[ComparedArm]
    record: Mapping[str, Any]

    @property
    def methods(self) -> list[ComparedArm]:
        return [a for a in self.arms if not a.control]

    @property
    def controls(self) -> list[ComparedArm]:
        return [a for a in self.arms if a.control]

    @property
    def ceiling(self) -> ComparedArm | None:
        return next((a for a in self.arms if a.role == "ceiling"), None)

    @property
    def winner(self) -> ComparedArm | None:
        """The label-free method that ended highest, if one has learned."""
        good = [a for a in self.methods if a.label_free and a.verdict == "learned"]
        return max(good, key=lambda a: a.after(self.truth).value, default=None)

    @property
    def misled(self) -> list[ComparedArm]:
        return [a for a in self.methods if a.verdict == "misled"]

    @property
    def seeds(self) -> list[Any]:
        return list(dict.fromkeys(s.get("seed", i) for a in self.arms for i, s in enumerate(a.seeds)))


def digest(compare: Mapping[str, Any], out: Path | None = None) -> Comparison:
    """Read a comparison; with ``out``, also the run folders ``out/ARM/seed-N`` beside it.

    Methods come first, best first, then the controls from the ceiling down: the order of reading.
    """
    arms_record = compare.get("arms")
    arms_record = arms_record if isinstance(arms_record, Mapping) else {}
    truth = str(compare.get("metric") or _truth(arms_record))
    budget = compare.get("budget")
    steps = int(budget.get("steps") or 0) if isinstance(budget, Mapping) else 0
    arms = []
    for name, arm in arms_record.items():
        seeds = [s for s in arm.get("seeds", []) if isinstance(s, Mapping)]
        runs = [read_run(out / str(name) / f"seed-{s.get('seed', i)}") for i, s in enumerate(seeds)] if out else []
        labels, control = str(arm.get("labels", "none")), bool(arm.get("control"))
        arms.append(ComparedArm(str(name), labels, control, seeds, truth, runs, steps))

    def order(arm: ComparedArm) -> tuple[bool, bool, float]:
        end = arm.after(truth).value
        return arm.control, arm.role == "floor", -(end if not math.isnan(end) else -1.0)

    arms.sort(key=order)
    for i, arm in enumerate(arms):
        arm.index = i
    return Comparison(str(compare.get("task", "")), str(compare.get("base", "")), truth, arms, compare)


def _record(seed: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    record = seed.get(side)
    return record if isinstance(record, Mapping) else {}


def _truth(arms: Mapping[str, Any]) -> str:
    names = {
        k for arm in arms.values() for s in arm.get("seeds", []) for k in _record(s, "after") or _record(s, "before")
    }
    return next((t for t in TRUTHS if t in names), TRUTHS[0])


def _tokens(tokens: Any) -> float:
    if isinstance(tokens, Mapping):
        return number(tokens.get("generated", sum(v for v in map(number, tokens.values()) if not math.isnan(v))))
    return number(tokens)


def _mean(values: Sequence[float]) -> float:
    kept = [v for v in values if not math.isnan(v)]
    return sum(kept) / len(kept) if kept else math.nan
