"""The result of an audit: per signal the measures and the verdict, and the whole in JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from selfreward.evaluation.audit.bench import Cost
from selfreward.evaluation.audit.verdicts import Call, Independence, Verdict
from selfreward.runtime.files import write_text
from selfreward.statistics import UNKNOWN, Estimate
from selfreward.types import Group

ORDER: tuple[Call, ...] = ("use", "cannot tell", "avoid", "yardstick", "not scored")


@dataclass
class SignalAudit:
    """What was found out about one signal.

    Attributes:
        labelled: with truth: ``label_right`` (share of prompts on which the answer that the signal elects is
            right), ``pairs`` (within-group pairwise accuracy), ``auroc``, ``gain`` (truth of the best-scored
            completion minus that of a random one), ``overshoot`` (how much worse the best of all is than the
            best of fewer), ``partial`` (rank correlation with truth, length held
            fixed), and ``ece`` and ``brier`` where the signal is a probability.
        blind: without truth: ``flat`` (share of groups without signal), ``missing``, ``saturated``, ``length``
            and ``format`` (rank correlation inside groups), ``explained`` (share of the signal's variance inside
            groups that length alone explains), ``halves``, ``with_vote``, ``with_view`` (how often its label is
            that of the other half, of the vote, of the other wording), ``view_pairs`` (pairwise accuracy
            against ``held_against``), ``probability`` that its label is right.
        probability_from: what that was estimated from.
        from_halves: from its own two halves only, so it speaks of elections among half as many, and counts what both
            halves get wrong together as right.
        held_against: what the pairs were compared with, and ``independence`` what that shares with the signal.
        curve: truth of the best-scored of ``AuditReport.ks`` completions.
        bins: truth by place in the group, ``(place, truth, completions)``.
    """

    name: str
    description: str
    needs: str
    control: bool
    probability: bool = False
    labelled: dict[str, Estimate] = field(default_factory=dict)
    blind: dict[str, Estimate] = field(default_factory=dict)
    probability_from: str = ""
    from_halves: bool = True
    independence: Independence = "samples"
    held_against: str = ""
    cost: Cost = field(default_factory=Cost)
    verdict: Verdict = field(default_factory=lambda: Verdict("not scored", ""))
    curve: list[float] = field(default_factory=list)
    bins: list[tuple[float, float, int]] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list, repr=False)
    labels: list[str | None] = field(default_factory=list, repr=False)
    half_labels: tuple[list[str | None], list[str | None]] = field(default=([], []), repr=False)

    def value(self, name: str) -> Estimate:
        """A measure by name, NaN where there is none."""
        return self.labelled.get(name) or self.blind.get(name) or UNKNOWN

    def to_dict(self) -> dict[str, Any]:
        return {
            "signal": self.name,
            "description": self.description,
            "control": self.control,
            "verdict": self.verdict.call,
            "because": self.verdict.sentence,
            "gates": [
                {
                    "name": g.name,
                    "statement": g.statement,
                    "value": _json(g.value),
                    "threshold": g.threshold,
                    "passed": g.passed,
                    "labelled": g.labelled,
                }
                for g in self.verdict.gates
            ],
            "labelled": {k: _json(v) for k, v in self.labelled.items()},
            "label_free": {k: _json(v) for k, v in self.blind.items()},
            "probability_estimated_from": self.probability_from,
            "probability_is_from_halves": self.from_halves,
            "pairs_held_against": self.held_against,
            "selection_curve": self.curve,
            "truth_by_place": [list(b) for b in self.bins],
            "cost": asdict(self.cost),
        }


@dataclass
class AuditReport:
    """Everything that an audit found.

    Attributes:
        facts: of the rollouts themselves, with intervals over prompts.
        ks: sizes of the selection curves.
        matrix: rank correlation inside groups between every two scored signals.
        costs: by purpose: sampling, the other view, and every signal.
    """

    task: str
    signals: list[SignalAudit]
    prompts: int
    completions: int
    labelled: int
    views: bool
    facts: dict[str, Estimate]
    ks: list[int]
    matrix: list[list[float]]
    costs: dict[str, Cost]
    groups: list[Group] = field(default_factory=list, repr=False)
    truths: list[np.ndarray] = field(default_factory=list, repr=False)
    seed: int = 0
    model: str = ""
    data: str = ""

    @property
    def scored(self) -> list[SignalAudit]:
        return [s for s in self.signals if s.scores]

    @property
    def ranked(self) -> list[SignalAudit]:
        """Best first: by verdict, then by how well it tells right from wrong."""

        def key(s: SignalAudit) -> tuple[int, float]:
            names = ("pairs", "view_pairs", "probability")
            best = next((v for n in names if not math.isnan(v := s.value(n).value)), 0.0)
            return ORDER.index(s.verdict.call), -best

        return sorted(self.signals, key=key)

    def named(self, name: str) -> SignalAudit:
        return next(s for s in self.signals if s.name == name)

    def words(self) -> list[str]:
        """The verdicts in plain words, one sentence per candidate signal, best first."""
        starts = {"use": "Use", "avoid": "Avoid", "cannot tell": "Cannot tell about"}
        return [
            f"{starts[s.verdict.call]} {s.name}: {s.verdict.sentence}" for s in self.ranked if s.verdict.call in starts
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; undefined numbers are null."""
        return {
            "task": self.task,
            "model": self.model,
            "data": self.data,
            "seed": self.seed,
            "prompts": self.prompts,
            "completions": self.completions,
            "labelled_prompts": self.labelled,
            "other_view": self.views,
            "facts": {k: _json(v) for k, v in self.facts.items()},
            "ks": self.ks,
            "signals": [s.to_dict() for s in self.signals],
            "agreement_between_signals": {
                "signals": [s.name for s in self.scored],
                "rank_correlation": [[None if math.isnan(v) else round(v, 4) for v in row] for row in self.matrix],
            },
            "costs": {k: asdict(v) for k, v in self.costs.items()},
            "summary": self.words(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``audit.json`` into a folder and return its path."""
        text = json.dumps(_plain(self.to_dict()), indent=1, allow_nan=False) + "\n"
        return write_text(Path(folder) / "audit.json", text)


def _json(e: Estimate) -> dict[str, float | None]:
    names = ("value", "low", "high")
    return {k: None if math.isnan(v) else round(float(v), 5) for k, v in zip(names, e, strict=True)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
