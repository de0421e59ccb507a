"""What a proof is, how it runs, and how its fingerprint is taken and replayed."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.errors import ConfigError
from selfreward.lab.evidence.machine import machine
from selfreward.lab.evidence.record import Check, Evidence
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm, Progress, Study, compare
from selfreward.training.config import make_config

FINGERPRINT_STEPS = 3


FINGERPRINT_KEYS = ("reward/mean", "reward/std", "advantage_norm", "loss", "grad_norm", "mechanism")


@dataclass(frozen=True)
class Results:
    """What the arms reached: ``arms[label][seed]`` has ``before``, ``after``, ``best`` and the rest.

    ``root`` holds the run folders, for rules that look at a trained model.
    """

    arms: Mapping[str, Mapping[int, Mapping[str, Any]]]
    root: Path = Path(".")

    def models(self, arm: str) -> list[Path]:
        """The trained model of every seed, in the order of the seeds."""
        return [self.root / arm / f"seed-{seed}" / "model" for seed in sorted(self.arms[arm])]

    def values(self, arm: str, metric: str, when: str = "after") -> list[float]:
        """One number per seed, in the order of the seeds."""
        return [float(run[when][metric]) for _, run in sorted(self.arms[arm].items())]

    def mean(self, arm: str, metric: str, when: str = "after") -> Estimate:
        """Mean over seeds with its 95 % t-interval."""
        return mean_interval(self.values(arm, metric, when))

    def gain(self, arm: str, metric: str, when: str = "after") -> Estimate:
        """Improvement over the arm's own start, paired by seed."""
        before = self.values(arm, metric, "before")
        return mean_interval([b - a for a, b in zip(before, self.values(arm, metric, when), strict=True)])

    def lead(self, arm: str, other: str, metric: str, when: str = "after") -> Estimate:
        """How far ``arm`` ends above ``other``, paired by seed."""
        pairs = zip(self.values(arm, metric, when), self.values(other, metric, when), strict=True)
        return mean_interval([a - b for a, b in pairs])


@dataclass(frozen=True)
class Rule:
    """A pass or falsification rule: ``statement`` in words, ``measure`` the number, ``holds`` the verdict."""

    name: str
    statement: str
    measure: Callable[[Results], Estimate]
    holds: Callable[[Estimate], bool]


@dataclass(frozen=True)
class Proof:
    """A claim with the runs and rules that test it.

    Attributes:
        id: id in the systems table; the slug for a building block.
        arms: label to arm; ``main`` is the label of the system itself.
        settings: the configuration that all arms share.
        gate: measured before training and put into the evidence (for example a judge's accuracy).
        reason: why a rule fails at this size, once that is understood.
        trace: numbers by name that take the fingerprint's place where ``main`` is a :class:`Study`: what
            the system's mechanism does on a small fixed case, in seconds.
        final: measures a trained model's folder once more, on prompts that no choice was made on.
        curves: names in the runs' records that the evidence keeps over training (``eval/quality``).
        options: what the command line needs beside the slug.
    """

    slug: str
    id: str
    claim: str
    task: str
    main: str
    arms: Sequence[Arm | Study]
    settings: Mapping[str, Any]
    rules: Sequence[Rule]
    gate: Callable[[], dict[str, Any]] | None = None
    reason: str = ""
    trace: Callable[[], dict[str, list[float]]] | None = None
    final: Callable[[Path], dict[str, float]] | None = None
    curves: Sequence[str] = ()
    options: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def arm(self, label: str) -> Arm | Study:
        return next(a for a in self.arms if a.label == label)


def reproduce(
    proof: Proof,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path = "runs/reproduce",
    evidence: str | Path = "evidence",
    jobs: int = 1,
    progress: Progress | None = None,
) -> Evidence:
    """Run a proof and write its evidence file.

    Raises:
        ConfigError: without seeds.
    """
    if not seeds:
        raise ConfigError("A proof needs at least one seed; a verdict needs three.")
    gate = proof.gate() if proof.gate else {}
    root = Path(out) / proof.slug
    result = compare(proof.arms, proof.settings, seeds=seeds, out=root, jobs=jobs, progress=progress)
    runs = {label: {run["seed"]: run for run in arm["seeds"]} for label, arm in result["arms"].items()}
    if proof.final:
        for label, seed in [(a.label, s) for a in proof.arms if isinstance(a, Arm) for s in seeds]:
            runs[label][seed]["after"] |= _final(root / label / f"seed-{seed}", proof.final)
    results = Results(runs, root)
    checks = []
    for rule in proof.rules:
        estimate = rule.measure(results)
        bounds = (estimate.low, estimate.high)
        interval = bounds if len(seeds) > 1 and not any(map(math.isnan, bounds)) else None
        checks.append(Check(rule.name, rule.statement, estimate.value, interval, bool(rule.holds(estimate))))
    mechanism = [run["mechanism"] for run in runs[proof.main].values()]
    found = Evidence(
        id=proof.id,
        slug=proof.slug,
        claim=proof.claim,
        task=proof.task,
        arms={label: {str(seed): _compact(run) for seed, run in arm.items()} for label, arm in runs.items()},
        checks=checks,
        mechanism={"name": mechanism[0]["name"], "count": sum(m["count"] for m in mechanism)},
        seeds=list(seeds),
        command=" ".join(filter(None, ("selfreward reproduce", proof.slug, proof.options, f"--seeds {len(seeds)}"))),
        wall_s=round(sum(run["wall_s"] for arm in runs.values() for run in arm.values()), 1),
        machine=machine(),
        fingerprint=fingerprint(proof),
        reason="" if all(c.holds for c in checks) else proof.reason,
        curves={
            a.label: {str(s): curve(root / a.label / f"seed-{s}" / "metrics.jsonl", proof.curves) for s in seeds}
            for a in proof.arms
            if proof.curves and isinstance(a, Arm)
        },
    )
    if gate:
        found.machine["gate"] = gate  # type: ignore[index]
    found.save(Path(evidence) / f"{proof.slug}.json")
    return found


def _final(run: Path, measure: Callable[[Path], dict[str, float]]) -> dict[str, float]:
    """The last measurement of a run, kept beside its summary."""
    file = run / "final.json"
    if not file.is_file():
        found = measure(run / "model")
        partial = run / "final.json.partial"
        partial.write_text(json.dumps(found, indent=1), encoding="utf-8")
        partial.replace(file)
    kept: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def curve(metrics: Path, names: Sequence[str], window: int = 5) -> dict[str, list[float]]:
    """Values at the steps with an evaluation; what is recorded every step is the mean of the last ``window``."""
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
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


def fingerprint(proof: Proof) -> dict[str, Any]:
    """What the main arm does in its first steps at seed 0.

    Raises:
        ConfigError: for a main arm that is a study, without a trace.
    """
    from selfreward.training.launch import start

    if proof.trace:
        return proof.trace()
    arm = proof.arm(proof.main)
    if isinstance(arm, Study):
        raise ConfigError(f"The proof of {proof.slug} has a study as its main arm, so it needs a trace.")
    with tempfile.TemporaryDirectory() as folder:
        values = {
            **proof.settings,
            **arm.settings,
            "recipe": arm.recipe,
            "options": {**proof.settings.get("options", {}), **arm.settings.get("options", {}), **arm.options},
            "steps": FINGERPRINT_STEPS,
            "seed": 0,
            "eval_prompts": 0,
            "out": f"{folder}/run",
        }
        trainer = start(make_config(values))
        trainer.evaluator = lambda policy: {}
        trainer.fit()
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [r for r in map(json.loads, lines) if r["step"] > 0]
    return {key: [float(r.get(key, 0.0)) for r in records] for key in FINGERPRINT_KEYS}


def _compact(run: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars only: after by name, and before and best with their prefix."""

    def scalars(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
        return {f"{prefix}{k}": round(v, 5) for k, v in metrics.items() if isinstance(v, int | float)}

    return {
        **scalars(run["after"]),
        **scalars(run["before"], "before/"),
        **scalars(run["best"], "best/"),
        **scalars(run["tokens"], "tokens/"),
        "mechanism": run["mechanism"]["count"],
        "alarms": len(run["alarms"]),
    }
