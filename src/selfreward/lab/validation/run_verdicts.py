"""Was the sentinel right? Runs of the zoo judged by their held-out truth, and the detector by its records.

Whether a run collapsed is read from its truth alone, never from its name, and the detector reads
the records alone, never the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from selfreward.evaluation.sentinel.detector import Thresholds, evidence_of_health, replay
from selfreward.lab.validation.records import PARTS, Part, Record, WatchedRun
from selfreward.statistics import bootstrap_mean, wilson

FALL, HEALTHY_FALL, POINTS = 0.05, 0.03, 0.03


@dataclass(frozen=True)
class RunVerdict:
    """What a run's records say, and what its truth says.

    Attributes:
        kind: ``collapsing`` ended :data:`FALL` below its best; ``healthy`` was never :data:`HEALTHY_FALL` below
            its best so far; the rest is ``unclear`` and counts for nothing.
        fell: first step at which truth was :data:`POINTS` below its best so far; None if never.
        called: step of the first severe alarm; None if none.
        kept: truth at the measured step that a roll-back at the alarm would have gone to.
    """

    name: str
    kind: str
    start: float
    best: float
    last: float
    fell: int | None
    called: int | None
    alarm: str
    kept: float | None

    @property
    def early(self) -> bool:
        return self.called is not None and self.fell is not None and self.called < self.fell


def judge(name: str, records: Sequence[Record], thresholds: Thresholds | None = None) -> RunVerdict:
    """The verdict on one run's records (``metrics.jsonl``), with ``truth`` in [0, 1]."""
    truths = [(int(r["step"]), float(r["truth"])) for r in records if "truth" in r]
    high, fell, worst = truths[0][1], None, 0.0
    for step, truth in truths:
        high = max(high, truth)
        worst = max(worst, high - truth)
        if fell is None and high - truth >= POINTS:
            fell = step
    best, last = max(t for _, t in truths), truths[-1][1]
    kind = "collapsing" if best - last >= FALL else "healthy" if worst < HEALTHY_FALL else "unclear"
    severe = [a for a in replay(records, thresholds) if a.severe]
    called = severe[0].step if severe else None
    kept = None
    if called is not None:
        looks = [r for r in records if "probe/missing" in r and "truth" in r and int(r["step"]) <= called]
        kept = float(max(looks, key=evidence_of_health)["truth"]) if looks else None
    return RunVerdict(name, kind, truths[0][1], best, last, fell, called, severe[0].name if severe else "", kept)


def judge_all(runs: Iterable[WatchedRun], thresholds: Thresholds | None = None) -> dict[Part, list[RunVerdict]]:
    """Verdicts on runs, by part."""
    result: dict[Part, list[RunVerdict]] = {part: [] for part in PARTS}
    for run in runs:
        result[run.part].append(judge(f"{run.name}/{run.seed}", run.records, thresholds))
    return result


def summarise(verdicts: Iterable[RunVerdict]) -> dict[str, Any]:
    """The numbers of ``evidence/sentinel.json`` for one part. Points are hundredths of the held-out truth."""
    found = list(verdicts)
    bad = [v for v in found if v.kind == "collapsing"]
    good = [v for v in found if v.kind == "healthy"]
    early = [v for v in bad if v.early]
    alarms = [v for v in good if v.called is not None]
    leads = [float(v.fell - v.called) for v in early if v.fell is not None and v.called is not None]
    gaps = [100 * (v.best - v.kept) for v in bad if v.kept is not None]
    return {
        "collapsing_runs": len(bad),
        "called_before_3_points": len(early),
        "called_interval": _interval(len(early), len(bad)),
        "called_at_all": sum(v.called is not None for v in bad),
        "healthy_runs": len(good),
        "false_alarms": len(alarms),
        "false_alarm_interval": _interval(len(alarms), len(good)),
        "unclear_runs": sum(v.kind == "unclear" for v in found),
        "unclear_called": sum(v.kind == "unclear" and v.called is not None for v in found),
        "median_lead_steps": median(leads) if leads else None,
        "lead_steps_quartiles": _quartiles(leads),
        "rollback_gap_points": round(fmean(gaps), 3) if gaps else None,
        "rollback_gap_interval": [round(e, 3) for e in bootstrap_mean(gaps)[1:]] if gaps else None,
        "rollback_gap_median": round(median(gaps), 3) if gaps else None,
        "rollback_within_1_point": sum(g <= 1 for g in gaps),
        "rollbacks": len(gaps),
        "missed": sorted(v.name for v in bad if not v.early),
        "wrongly_called": sorted(f"{v.name}: {v.alarm}" for v in alarms),
        "called_by": _counts(v.alarm for v in early),
    }


def by_species(verdicts: Iterable[RunVerdict]) -> list[tuple[str, ...]]:
    """A row per species and rate: its runs by kind, how many were called in time or wrongly, and by which alarm."""
    rows: dict[str, list[RunVerdict]] = {}
    for v in verdicts:
        rows.setdefault(v.name.rpartition("/")[0], []).append(v)
    found: list[tuple[str, ...]] = []
    for name, runs in rows.items():
        bad = [v for v in runs if v.kind == "collapsing"]
        good = [v for v in runs if v.kind == "healthy"]
        other = [v for v in runs if v.kind == "unclear"]
        alarms = ", ".join(_counts(v.alarm for v in runs if v.alarm))
        early = f"{sum(v.early for v in bad)} of {len(bad)}" if bad else ""
        false = f"{sum(v.called is not None for v in good)} of {len(good)}" if good else ""
        unclear = f"{sum(v.called is not None for v in other)} of {len(other)}" if other else ""
        found.append((name, early, false, unclear, alarms))
    return found


def _interval(count: int, n: int) -> list[float] | None:
    estimate = wilson(count, n)
    return [round(estimate.low, 4), round(estimate.high, 4)] if n else None


def _quartiles(values: Sequence[float]) -> list[float] | None:
    ordered = sorted(values)
    return [ordered[len(ordered) // 4], ordered[3 * len(ordered) // 4]] if ordered else None


def _counts(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))
