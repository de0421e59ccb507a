"""What a proof is, how it runs, and how its fingerprint is taken.

A proof is written as a protocol: the claim, the arms, the settings that they share, and the rules that were fixed
before the run (:mod:`selfreward.lab.proofs.rules` has the words for them). :func:`reproduce` runs it and writes the
evidence.
"""

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
from selfreward.lab.proofs.results import Results, read_records
from selfreward.lab.proofs.rules import Rule
from selfreward.runtime.files import write_text
from selfreward.training.comparison import Arm, Progress, Study, compare
from selfreward.training.config import make_config

FINGERPRINT_STEPS = 3
FINGERPRINT_KEYS = ("reward/mean", "reward/std", "advantage_norm", "loss", "grad_norm", "mechanism")


@dataclass(frozen=True)
class Proof:
    """A claim with the runs and rules that test it.

    Attributes:
        id: id in the systems table; the slug for a building block.
        arms: label to arm; ``main`` is the label of the system itself.
        settings: the configuration that all arms share.
        rules: what must come out, in the order of the evidence's checks; their names stay as recorded.
        gate: measured before training and put into the evidence (for example a judge's accuracy);
            :func:`selfreward.lab.proofs.common.gates.gate` makes one of a measurement of a base.
        reason: why a rule fails at this size, once that is understood.
        trace: numbers by name that take the fingerprint's place where ``main`` is a :class:`Study`: what
            the system's mechanism does on a small fixed case, in seconds.
        final: measures a trained model's folder once more, on prompts that no choice was made on.
        curves: names in the runs' step records that the evidence keeps over training (``eval/quality``).
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
        checks.append(Check(rule.name, rule.statement, estimate.value, interval, rule.holds(estimate)))
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
            a.label: {str(s): results.curve(a.label, s, proof.curves) for s in seeds}
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
        write_text(file, json.dumps(found, indent=1))
    kept: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return kept


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
        records = [r for r in read_records(Path(folder) / "run") if r["step"] > 0]
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
