"""What an audit says without labels, where the truth is known; and whether audits were right."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from selfreward.data.answers import Number
from selfreward.evaluation.audit import audit, blind, measures, read_rollouts
from selfreward.statistics import Estimate


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


# ---- estimates without labels --------------------------------------------------------------------


def voters(rng, n, truth, p, answers=10):
    """Labels that are right with probability ``p``, else a wrong answer at random."""
    wrong = (truth + rng.integers(1, answers, n)) % answers
    return np.where(rng.random(n) < p, truth, wrong)


def names(labels):
    return [str(x) for x in labels]


def agree(a, b):
    return [float(x == y) for x, y in zip(a, b, strict=True)]


def test_the_formula_by_hand():
    # Ten answers: unrelated labels coincide in 1/10 of the cases, two wrong ones in 1/9.
    assert blind.wrong_collision(["a", "a", "b"]) == pytest.approx((1 / 3) / (2 / 3))
    c = 1 / 9
    agreed = [1.0] * 73 + [0.0] * 27  # .85^2 + .15^2 / 9 = .725
    found = blind.right_from_twins(agreed, c)
    p = found.value
    assert p**2 + (1 - p) ** 2 * c == pytest.approx(0.73)
    assert found.low < 0.85 < found.high
    # Yes or no: wrong labels always coincide. .8^2 + .2^2 = .68.
    assert blind.right_from_twins([1.0] * 68 + [0.0] * 32, 1.0).value == pytest.approx(0.8)
    # No better than chance is chance, not an error.
    assert blind.right_from_twins([1.0] * 10 + [0.0] * 90, c).value == pytest.approx(0.1)
    assert math.isnan(blind.right_from_reference([1.0, 0.0], [0.0, 0.0], c).value)


@pytest.mark.parametrize("p", [0.3, 0.55, 0.9])
def test_independent_voters_are_estimated_right(p):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 10, 1500)
    a, b, other = voters(rng, 1500, truth, p), voters(rng, 1500, truth, p), voters(rng, 1500, truth, 0.7)
    c = blind.wrong_collision(names(a))
    found = blind.right_from_twins(agree(a, b), c)
    assert found.value == pytest.approx(p, abs=0.04) and found.low < p < found.high
    third = blind.right_from_reference(agree(other, b), agree(a, b), c)
    assert third.low < 0.7 < third.high
    if p > 0.5:  # a poor reference says little about others, and its interval says so
        assert third.value == pytest.approx(0.7, abs=0.06)


def test_shared_errors_make_the_estimate_too_high_and_only_that_way():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 10, 1500)
    trap = rng.random(1500) < 0.4  # on these both make the same mistake
    shared = (truth + 3) % 10
    a = np.where(trap, shared, voters(rng, 1500, truth, 0.9))
    b = np.where(trap, shared, voters(rng, 1500, truth, 0.9))
    right = float((a == truth).mean())
    found = blind.right_from_twins(agree(a, b), blind.wrong_collision(names(a)))
    assert right == pytest.approx(0.54, abs=0.03) and found.low > right + 0.2


def test_the_same_answer_everywhere_is_not_agreement(tmp_path):
    rows = [{"prompt": f"q{i}", "completions": ["5", "5", "5", "6"]} for i in range(20)]
    vote = audit(read_rollouts(write(tmp_path / "c.jsonl", rows)), answers=Number()).named("vote")
    assert "probability" not in vote.blind and vote.verdict.call == "cannot tell"


def test_another_wording_in_the_file_is_an_independent_view(tmp_path):
    rng = np.random.default_rng(3)
    rows = []
    for i in range(200):
        truth, slips = int(rng.integers(0, 50)), rng.random(12) < 0.4
        texts = [str(truth if not s else int(rng.integers(50, 99))) for s in slips]
        rows.append({"prompt": f"q{i}", "completions": texts[:6], "twin_completions": texts[6:], "answer": str(truth)})
    report = audit(read_rollouts(write(tmp_path / "t.jsonl", rows)), answers=Number(), labels=0, signals=["vote"])
    vote = report.named("vote")
    assert report.views and not vote.from_halves and vote.verdict.call == "use"
    known = audit(read_rollouts(tmp_path / "t.jsonl"), answers=Number(), signals=["vote"]).named("vote")
    assert vote.value("probability").value == pytest.approx(known.value("label_right").value, abs=0.04)


# ---- was the audit right? ------------------------------------------------------------------------


def test_cases_come_from_proofs_where_they_can(tmp_path):
    from selfreward.lab.validation.audit import BASES, RECORDED, _recorded
    from selfreward.signals.registry import SIGNALS

    seeds = {str(s): {"pass@1": 0.9 + s / 10, "before/pass@1": 0.4} for s in (0, 1)}
    path = tmp_path / "vote.json"
    path.write_text(json.dumps({"arms": {"vote": seeds}}))
    found = _recorded(path, "vote", "pass@1")
    assert found == {
        "metric": "pass@1", "before": 0.4, "after": pytest.approx(0.95), "seeds": 2, "source": "vote.json, arm vote"
    }  # fmt: skip
    assert _recorded(path, "gold", "pass@1") is None and _recorded(path, "vote", "quality") is None
    assert _recorded(tmp_path / "none.json", "vote", "pass@1") is None
    for base, arms in RECORDED.items():
        assert set(arms) <= set(BASES[base])
    assert all(name.partition(":")[0] in SIGNALS for names_ in BASES.values() for name in names_)


def test_the_evidence_ranks_cases_by_what_training_did(tmp_path):
    from selfreward.lab.validation.audit import figure, summarise

    rows = [
        {"base": "chain", "signal": f"s{i}", "yardstick": i == 0, "call": call, "pairs": p, "gain": None}
        | {
            "overshoot": None,
            "view_pairs": None,
            "probability": None,
            "metric": "pass@1",
            "before": 0.4,
            "after": 0.4 + d,
            "change": d,
        }
        for i, (p, d, call) in enumerate(
            [(0.5, 0.0, "yardstick"), (0.2, -0.3, "avoid"), (0.9, 0.5, "use"), (0.7, 0.2, "use"), (0.6, 0.3, "use")]
        )
    ]
    found = summarise(rows)
    # Ranks 2 1 5 4 3 against 2 1 5 3 4: 1 - 6 * 2 / (5 * 24).
    assert found["spearman"] == pytest.approx(0.9) and found["cases"] == 5
    assert found["inside_each_base"] == {"chain": 0.9}
    assert found["calls"]["use"] == {
        "cases": 3, "rose_by_2_points": 3, "fell_by_2_points": 0, "mean_change": pytest.approx(1 / 3, abs=1e-4)
    }  # fmt: skip
    assert not found["holds"]  # five cases are not thirty
    assert found["by_score"]["gain"]["value"] is None
    assert figure(found, tmp_path / "cases.svg").read_text().startswith("<?xml")


def test_a_handful_of_informative_groups_is_not_certainty():
    truths = [np.array([1.0, 0, 0])] * 4 + [np.zeros(3)] * 40
    scores = [np.array([3.0, 2, 1])] * 44
    assert measures.within_group_pairs(scores, truths) == Estimate(1.0, 0.0, 1.0)
    assert measures.within_group_pairs(scores[:40], truths[:4] * 10).low > 0.9


def test_halves_speak_of_half_as_many():
    """Independent samples, right with chance .4 among ten answers: eight elect the truth less often than sixteen."""
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 10, 3000)
    samples = np.stack([voters(rng, 3000, truth, 0.4) for _ in range(16)], 1)

    def elect(some):
        return np.array([np.bincount(row, minlength=10).argmax() for row in some])

    first, second, whole = elect(samples[:, ::2]), elect(samples[:, 1::2]), elect(samples)
    found = blind.right_from_twins(agree(first, second), blind.wrong_collision(names(whole)))
    assert found.value == pytest.approx(float((first == truth).mean()), abs=0.03)
    assert found.high < float((whole == truth).mean())
