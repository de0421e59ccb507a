"""Rules in words: what each maker says, what it measures, and which end decides; three seeds worked by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from selfreward.errors import DataError, RecipeError
from selfreward.lab.proofs.common.gates import gate
from selfreward.lab.proofs.results import Results, curve
from selfreward.lab.proofs.rules import (
    PASS_AT_1,
    POINTS,
    Bound,
    closes,
    does_not_gain,
    ends_with,
    fades,
    falls,
    gains,
    keeps,
    lasts,
    leads,
    measured,
    not_above,
    not_below,
    retains,
    stays,
    trails,
    weakest,
)
from selfreward.statistics import Estimate

Q = PASS_AT_1


def arm(before, best, after):
    """Three seeds, ``.01`` apart."""
    return {
        seed: {w: {"pass@1": v + seed / 100} for w, v in (("before", before), ("best", best), ("after", after))}
        for seed in range(3)
    }


FOUND = Results({"ours": arm(0.3, 0.7, 0.6), "other": arm(0.3, 0.5, 0.5), "gold": arm(0.3, 0.9, 0.9)})

SAID = [
    (
        gains("r", "ours", Q),
        0.3,
        "ours ends above its own start in held-out pass@1 (lower end of the 95 % interval over seeds)",
    ),
    (gains("r", "ours", Q, by=0.25), 0.3, "ours ends at least 25 points above its own start in"),
    (
        gains("r", "ours", Q, by=0.4, best=True, end="mean"),
        0.4,
        "the best evaluation of ours lies at least 40 points above its own start in held-out pass@1 (mean over seeds)",
    ),
    (falls("r", "ours", Q), 0.3, "ours ends below its own start in held-out pass@1 (upper end of"),
    (keeps("r", "ours", Q), 0.3, "ours ends no lower than its own start in"),
    (does_not_gain("r", "ours", Q, within=0.01), 0.3, "ours ends at most 1 point above its own start in"),
    (stays("r", "ours", Q, within=0.05), 0.3, "ours ends within 5 points of its own start in"),
    (
        leads("r", "ours", "other", Q, note="fair"),
        0.1,
        "ours ends above other in held-out pass@1 (lower end of the 95 % interval over seeds); fair",
    ),
    (trails("r", "ours", "gold", Q), -0.3, "ours ends below gold in"),
    (
        not_below("r", "ours", "gold", Q, within=0.05),
        -0.3,
        "ours ends at most 5 points below gold in held-out pass@1 (mean",
    ),
    (not_above("r", "ours", "gold", Q), -0.3, "ours ends no higher than gold in"),
    (
        closes("r", "ours", "gold", Q, at_least=0.4, floor="other"),
        0.25,
        "ours closes at least 40 % of the way from other to gold in",
    ),
    (closes("r", "ours", "gold", Q, at_least=0.4), 0.5, "ours gains at least 40 % of what gold gains in"),
    (lasts("r", "ours", Q, within=0.03), 0.1, "ours ends at most 3 points below its best evaluation in"),
    (fades("r", "ours", Q, by=0.1), 0.1, "ours ends at least 10 points below its best evaluation in"),
    (
        ends_with("r", "ours", Q, above=0.5, end="low"),
        0.61,
        "ours ends with held-out pass@1 above 50 points (lower end of",
    ),
    (retains("r", "ours", Q, at_least=0.9), 1.969, "ours ends with at least 90 % of what it started with in"),
    (
        measured("r", "the lead", lambda r: r.values("ours", "pass@1") - 0.5, exactly=0, unit=POINTS, over="draws"),
        0.11,
        "the lead is exactly 0 points (mean over draws)",
    ),
    (
        measured("r", "the spread", lambda r: [0.5], above=0, over="", note="of all seeds"),
        0.5,
        "the spread is above 0; of",
    ),
]


@pytest.mark.parametrize(("rule", "value", "words"), SAID, ids=[words for *_, words in SAID])
def test_a_rule_measures_what_it_says(rule, value, words):
    assert rule.statement.startswith(words)
    assert rule.measure(FOUND).value == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("sign", "holding", "failing"),
    [(">", 0.2, 0.1), (">=", 0.1, 0.05), ("<", 0.05, 0.1), ("<=", 0.1, 0.2), ("=", 0.1, 0.2), ("within", -0.1, -0.2)],
)
def test_a_bound_looks_at_its_end_only(sign, holding, failing):
    for place, end in enumerate(("mean", "low", "high")):
        for value, holds in ((holding, True), (failing, False)):
            numbers = [math.nan] * 3
            numbers[place] = value
            assert Bound(end, sign, 0.1)(Estimate(*numbers)) is holds
        assert not Bound(end, sign, 0.1)(Estimate(math.nan, math.nan, math.nan))


def test_apart_asks_that_two_intervals_do_not_meet():
    paired, apart = (leads("r", "ours", "other", Q, apart=a) for a in (False, True))
    half = FOUND.mean("ours", "pass@1").half_width
    assert apart.measure(FOUND).low == pytest.approx(0.1 - 2 * half)
    near = Results({"ours": arm(0, 0, 0.52), "other": arm(0, 0, 0.5)})
    assert paired.holds(paired.measure(near)) and not apart.holds(apart.measure(near))
    assert "apart" in apart.statement


def test_a_rule_has_one_limit():
    for limits in ({}, {"above": 0.0, "below": 1.0}):
        with pytest.raises(ValueError, match="one limit"):
            measured("r", "it", lambda r: [0.0], **limits)


def test_the_weakest_of_several():
    wide, narrow = Estimate(0.5, 0.0, 1.0), Estimate(0.3, 0.2, 0.4)
    assert weakest([wide, narrow]) is narrow and weakest([wide, narrow], "low") is wide


def test_records_are_read_by_seed(tmp_path):
    for seed in range(2):
        folder = tmp_path / "ours" / f"seed-{seed}"
        folder.mkdir(parents=True)
        records = [{"step": 0, "eval/q": 0.5}, {"step": 1, "loss": 3.0 + seed}, {"step": 2, "loss": 1.0, "eval/q": 0.7}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    found = Results({"ours": {0: {}, 1: {}}}, tmp_path)
    assert found.steps("ours", "loss") == [[3.0, 1.0], [4.0, 1.0]]
    assert found.steps("ours", "eval/q", lambda r: r["step"] > 0) == [[0.7], [0.7]]
    assert np.array_equal(found.step_mean("ours", "loss"), [2.0, 2.5])
    assert found.curve("ours", 0, ["eval/q", "loss"])["step"] == [0, 2]
    assert curve(found.records("ours", 1), ["loss"])["loss"][-1] == 2.5
    with pytest.raises(DataError, match="recorded no 'spent'"):
        found.step_mean("ours", "spent")
    with pytest.raises(DataError, match="is missing"):
        found.records("theirs", 0)


def test_a_gate_measures_and_may_stop(monkeypatch):
    monkeypatch.setattr("selfreward.policy.loading.load_policy", lambda name, device: name)
    needs = [("gap", ">=", 0.15)]
    assert gate("embedded:x", lambda base: {"gap": 0.1234}, digits=2)() == {"gap": 0.12}
    assert gate("embedded:x", lambda base: {"gap": 0.1}, needs=needs)() == {"gap": 0.1, "passed": False}
    with pytest.raises(RecipeError, match=r"embedded:x .* gap is 0.1, and must be >= 0.15"):
        gate("embedded:x", lambda base: {"gap": 0.1}, needs=needs, stops=True)()
