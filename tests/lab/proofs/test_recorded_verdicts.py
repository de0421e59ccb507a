"""Rules say of the recorded arms what they said when the evidence was written: value, interval and verdict.

No training: an evidence file keeps every arm's scalars, and of some proofs the held-out values during training. Rules
that need more than that are listed by name, so that none is left out unseen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from selfreward.lab.evidence.record import Check, Evidence
from selfreward.lab.proofs.registry import PROOFS, load_proof
from selfreward.lab.proofs.results import Results
from selfreward.statistics import Estimate
from tests.support import ROOT

EVIDENCE = ROOT / "evidence"
RECORDED = sorted(p.stem for p in EVIDENCE.glob("*.json") if p.stem in PROOFS)

# Rules that need more than is recorded: other values over training, a trained model, or a base that is asked.
NEED_RUNS = {
    "co-reward": {"labels do not decay"},
    "cream": {"plain degrades", "generations agree"},
    "distill-rewards": {"the reward model sees students"},
    "dro-r3": {"R3 orders traces better"},
    "flr": {"follow-ups see the truth", "above likelihood", "above a random bank"},
    "knapsack-rl": {"more gradient"},
    "masa": {"predictions improve", "not with another problem's statistics", "gating saves tokens"},
    "scpo": {"the vote grows", "greedy exceeds imitation"},
    "self-prm": {"review rises with solving"},
    "spo": {"cycle solved", "a reward model does not match on cycle", "raters solved"},
    "ssr-zero": {"the judge still sees"},
    "ssr-zero-weak-judge": {"the self-score is silent"},
    "temporal-self-rewarding": {
        "the baseline's pairs/gap shrinks",
        "the baseline's grad_norm shrinks",
        "the gap is kept",
    },
}


def recorded(evidence: Evidence, root: Path) -> Results:
    """The results that an evidence file keeps, with the held-out values of its curves as step records under ``root``.

    Other curves are means over steps and stay out.
    """
    for arm, seeds in evidence.curves.items():
        for seed, curve in seeds.items():
            names = ["step", *(n for n in curve if n.startswith("eval/") and len(curve[n]) == len(curve["step"]))]
            lines = [json.dumps({name: curve[name][i] for name in names}) + "\n" for i in range(len(curve["step"]))]
            folder = root / arm / f"seed-{seed}"
            folder.mkdir(parents=True)
            (folder / "metrics.jsonl").write_text("".join(lines))
    return Results({arm: {int(s): run(m) for s, m in seeds.items()} for arm, seeds in evidence.arms.items()}, root)


def run(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``before/pass@1`` and its like back in their places."""
    found: dict[str, dict[str, Any]] = {"before": {}, "after": {}, "best": {}, "tokens": {}}
    for name, value in metrics.items():
        place, _, key = name.partition("/")
        if place not in found or place == "after":
            place, key = "after", name
        found[place][key] = value
    return found


def agrees(check: Check, estimate: Estimate) -> bool:
    """Whether a recomputed estimate is the recorded one. Scalars were rounded to five places; ratios differ by more."""
    close = {"rel": 2e-3, "abs": 2e-4}
    same = estimate.value == pytest.approx(check.observed, **close)
    return same and (check.interval is None or tuple(estimate[1:]) == pytest.approx(check.interval, **close))


@pytest.mark.parametrize("slug", RECORDED)
def test_rules_give_the_recorded_verdicts(slug, monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError("a rule asks a model")

    monkeypatch.setattr("selfreward.policy.loading.load_policy", refuse)
    evidence, proof = Evidence.load(EVIDENCE / f"{slug}.json"), load_proof(slug)
    assert [rule.name for rule in proof.rules] == [check.name for check in evidence.checks]
    results = recorded(evidence, tmp_path)
    for rule, check in zip(proof.rules, evidence.checks, strict=True):
        then = Estimate(check.observed, *(check.interval or (check.observed, check.observed)))
        assert rule.holds(then) == check.holds, rule.name
        if rule.name not in NEED_RUNS.get(slug, ()):
            now = rule.measure(results)
            assert agrees(check, now), (rule.name, now, then)
            assert rule.holds(now) == check.holds, rule.name


def test_rules_left_out_exist():
    for slug, names in NEED_RUNS.items():
        assert names < {rule.name for rule in load_proof(slug).rules}
