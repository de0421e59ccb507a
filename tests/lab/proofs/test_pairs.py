"""The rules of the proofs of iterated preferences on made-up runs, worked by hand."""

from __future__ import annotations

import json

import pytest

from selfreward.errors import DataError
from selfreward.lab.proofs.common.rounds import between, in_round
from selfreward.lab.proofs.registry import load_proof
from selfreward.lab.proofs.results import Results


def results(tmp_path, arms):
    """Results with three seeds alike: ``arms[label]`` is the list of step records."""
    for label, records in arms.items():
        for seed in range(3):
            folder = tmp_path / label / f"seed-{seed}"
            folder.mkdir(parents=True)
            (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    summary = {
        label: {seed: {"before": flat(r[0]), "after": flat(r[-1])} for seed in range(3)} for label, r in arms.items()
    }
    return Results(summary, tmp_path)


def flat(record):
    return {k.removeprefix("eval/"): v for k, v in record.items() if k.startswith("eval/")}


def test_rounds_by_hand(tmp_path):
    records = [
        {"step": 0, "eval/score": 0.5},
        {"step": 1, "round": 0.0, "pairs/gap": 3.0},
        {"step": 2, "round": 0.0, "pairs/gap": 1.0, "eval/score": 0.7},
        {"step": 3, "round": 1.0, "pairs/gap": 1.0, "eval/score": 0.6},
    ]
    found = results(tmp_path, {"a": records})
    assert between(found, "a", "score", 0, 1).tolist() == pytest.approx([0.2] * 3)
    assert [in_round(found, "a", "pairs/gap", k).tolist() for k in (0, 1)] == [[2.0] * 3, [1.0] * 3]
    with pytest.raises(DataError, match="pairs/gap"):
        in_round(found, "a", "pairs/gap", 2)


def test_the_average_policy_of_a_circle_is_judged(tmp_path):
    """Rock, paper, scissors in turn: each alone loses to the next, their average is nearly the solution; standing still
    on paper is not."""
    proof = load_proof("spo")

    def policy(step, cycle, rock, paper, scissors):
        mix = {"cycle_rock": rock, "cycle_paper": paper, "cycle_scissors": scissors, "cycle_dud": 0.0}
        even = {f"raters_{a}": p for a, p in (("x", 0.4), ("y", 0.3), ("z", 0.3), ("last", 0.0))}
        rest = {"cycle": cycle, "raters": 0.03, "noisy": 0.9, "halves": 1.0}
        return {"step": step} | {f"eval/{k}": v for k, v in (mix | even | rest).items()}

    turning = [policy(0, 0.4, 1, 0, 0), policy(300, 0.35, 0, 1, 0), policy(400, 0.4, 0, 0, 1)]
    still = [policy(0, 0.35, 0, 1, 0), policy(300, 0.35, 0, 1, 0), policy(400, 0.35, 0, 1, 0)]
    weak = [r | {"eval/halves": 0.5 + 0.01 * i} for i, r in enumerate(still)]
    found = results(tmp_path, {"spo": turning, "reward-model": still, "linear-model": weak})
    verdicts = {rule.name: rule.holds(rule.measure(found)) for rule in proof.rules}
    assert verdicts == dict.fromkeys(verdicts, True)
    swapped = results(tmp_path / "b", {"spo": still, "reward-model": turning, "linear-model": weak})
    verdicts = {rule.name: rule.holds(rule.measure(swapped)) for rule in proof.rules}
    assert not verdicts["cycle solved"] and not verdicts["a reward model does not match on cycle"]


def test_every_rule_of_cream_can_fail(tmp_path):
    """Plain falls from .8 to .6 while its tau falls from .6 to .2; cream keeps .8 and tau .6: all hold. The other way
    round none of the comparisons does."""
    proof = load_proof("cream")

    def run(last, tau):
        steps = [{"step": 0, "eval/score": 0.5, "round": 0.0}]
        steps += [{"step": k, "round": float(k), "agreement/tau": 0.6, "eval/score": 0.8} for k in (1, 2)]
        return [*steps, {"step": 3, "round": 3.0, "agreement/tau": tau, "eval/score": last}]

    good, bad = run(0.8, 0.6), run(0.6, 0.2)
    labels = ("plain", "fixed-0.85", "fixed-0.7", "shuffled")
    found = results(tmp_path, {"cream": good} | dict.fromkeys(labels, bad))
    assert all(rule.holds(rule.measure(found)) for rule in proof.rules)
    found = results(tmp_path / "b", {"cream": bad} | dict.fromkeys(labels, good))
    assert not any(rule.holds(rule.measure(found)) for rule in proof.rules)
