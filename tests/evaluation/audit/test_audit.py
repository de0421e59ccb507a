"""The audit: numbers worked by hand, planted signals, estimates where the truth is known, and files from users."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

from selfreward.cli import main
from selfreward.data.answers import Number
from selfreward.errors import ConfigError, DataError
from selfreward.evaluation.audit import audit, measures, read_rollouts
from selfreward.evaluation.audit.verdicts import judge_signal
from selfreward.lab.embedded import load_task
from selfreward.policy.loading import load_policy
from selfreward.statistics import Estimate

# Grade-school sums, written by hand. The vote elects 12 (right), 37 (wrong) and 30 (right).
SCHOOL = [
    {
        "question": "Mia has 3 boxes of 4 pencils. How many pencils are there?",
        "completions": ["3 * 4 = 12. #### 12", "12", "3 + 4 = 7", "There are 12 pencils: 12"],
        "correct": [True, True, False, True],
    },
    {
        "question": "A bus has 40 seats and 13 are taken. How many are free?",
        "completions": ["40 - 13 = 27", "40 - 13 = 37", "The answer is 37", "37"],
        "correct": [True, False, False, False],
    },
    {
        "question": "Tom reads 5 pages a day. How many does he read in 6 days?",
        "completions": ["5 * 6 = 30", "30", "5 + 6 = 11", "I do not know."],
        "correct": [True, True, False, False],
    },
]


@pytest.fixture
def school(tmp_path):
    return write(tmp_path / "school.jsonl", SCHOOL)


def write(path, rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def run(monkeypatch, capsys, *args) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["selfreward", *map(str, args)])
    monkeypatch.setenv("COLUMNS", "200")
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out = capsys.readouterr()
    return code, out.out + out.err


# ---- worked by hand ------------------------------------------------------------------------------


def test_grade_school_sums_by_hand(school):
    report = audit(read_rollouts(school), answers=Number())
    vote = report.named("vote")
    assert vote.value("label_right").value == pytest.approx(2 / 3)
    # Pairs of a right and a wrong completion: all 3, none of 3, all 4.
    assert vote.value("pairs").value == pytest.approx(2 / 3)
    # Elected against random: 1 - 3/4, 0 - 1/4, 1 - 1/2.
    assert vote.value("gain").value == pytest.approx((0.25 - 0.25 + 0.5) / 3)
    # Right completions score 1,1,1,0,1,1 and wrong ones 0,1,1,1,0,0: (5 * 4.5 + 1.5) / 36.
    assert vote.value("auroc").value == pytest.approx(24 / 36)
    # Best of 2: always a 12; always a 37; a 30 unless both are of the other two, 1 - 1/6.
    assert report.ks == [1, 2, 4]
    assert vote.curve == pytest.approx([0.5, (1 + 0 + 5 / 6) / 3, 2 / 3])
    # Halves are completions 1, 3 and 2, 4: (12, 12), (27, 37), (30, 30). Ties go to the first.
    assert vote.value("halves").value == pytest.approx(2 / 3)
    # Three prompts with three different labels: wrong labels are not expected to coincide.
    assert report.facts["same_label_everywhere"].value == 0
    assert vote.value("probability").value == pytest.approx(math.sqrt(2 / 3)) and vote.from_halves
    # Squared distance of the cluster's share from the truth: .25, 2.25 and .5625 over the three prompts.
    assert report.named("cluster_share").value("brier").value == pytest.approx(3.0625 / 12)
    assert report.facts["truth"].value == pytest.approx(0.5)
    assert report.facts["answered"].value == pytest.approx((1 + 1 + 0.75) / 3)
    assert report.named("judge_expected").verdict.call == "not scored"
    assert report.named("constant").value("flat").value == 1


def test_elected_labels():
    classes = [0, 1, 1, None]
    assert measures.elected(np.array([3.0, 1, 2, 9]), classes) == 0  # the best one has no answer
    assert measures.elected(np.array([1.0, 1, 1, 0]), classes) == 1  # of the best, the most frequent
    assert measures.elected(np.array([1.0, 1, 1, 1]), classes) is None  # no opinion
    assert measures.elected(np.array([np.nan] * 4), classes) is None
    assert measures.elected(np.array([0.5, 0.5]), [4, 4]) == 4  # one answer needs no opinion
    truth = np.array([1.0, 0, 0, 0])
    assert measures.label_truth(np.array([3.0, 1, 2, 9]), truth, classes) == 1
    assert measures.label_truth(np.array([1.0, 1, 1, 1]), truth, classes) == 0


def test_overshoot_by_hand():
    # In falling order of the score: wrong, right, right, wrong. Best of 1: 1/2. Best of 2: the first with chance 1/2,
    # the second with 1/3, the third with 1/6: 1/2. Best of 4: the first, which is wrong.
    score, truth = np.array([4.0, 3, 2, 1]), np.array([0.0, 1, 1, 0])
    assert measures.selection_curve([score], [truth], [1, 2, 4]) == pytest.approx([0.5, 0.5, 0])
    assert measures.overshoot([score] * 3, [truth] * 3, [1, 2, 4]).value == pytest.approx(0.5)
    assert measures.overshoot([truth], [truth], [1, 2, 4]).value == 0


def test_bias_by_hand():
    # Scores are the lengths in the first group and their opposite in the second: nothing is left on average.
    lengths = [np.array([1.0, 2, 3]), np.array([5.0, 6, 7])]
    same = measures.bias(lengths, lengths)
    assert same["correlation"].value == pytest.approx(1) and same["explained"].value == pytest.approx(1)
    turned = measures.bias([lengths[0], -lengths[1]], lengths)
    assert turned["correlation"].value == pytest.approx(0)
    # r(s,o) = .5, r(s,t) = .5, r(o,t) = 1 leaves nothing to say about s and t; r(o,t) = .5 leaves 1/3.
    s, o = np.array([1.0, 2, 3]), np.array([1.0, 3, 2])
    assert math.isnan(measures.bias([s], [o], [o])["partial"].value)
    t = np.array([2.0, 1, 3])  # r(s,t) = .5, r(o,t) = -.5
    assert measures.bias([s], [o], [t])["partial"].value == pytest.approx((0.5 + 0.25) / 0.75)


# ---- planted signals -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Sixty prompts, eight completions each, right by a coin; lengths have nothing to do with it."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        right = rng.random(8) < 0.5
        texts = ["so " * int(rng.integers(1, 30)) + str(7 if r else int(rng.integers(10, 99))) for r in right]
        scores = {
            "perfect": right.astype(float).tolist(),
            "inverted": (1 - right.astype(float)).tolist(),
            "length-only": [float(len(t)) for t in texts],
            "same": [0.3] * 8,
            "noise": rng.random(8).tolist(),
            "noisy": (right + rng.normal(0, 1, 8)).tolist(),
        }
        rows.append({"prompt": f"q{i}", "completions": texts, "correct": right.tolist(), "scores": scores})
    return write(tmp_path_factory.mktemp("planted") / "r.jsonl", rows)


def test_planted_signals_are_called_right(planted):
    mine = ["perfect", "inverted", "length-only", "same", "noise", "noisy", "vote"]
    report = audit(read_rollouts(planted), answers=Number(), signals=mine)
    calls = {s.name: s.verdict.call for s in report.signals}
    assert calls["perfect"] == calls["noisy"] == "use"
    assert {calls[k] for k in ("inverted", "length-only", "same", "noise")} == {"avoid"}
    assert report.named("perfect").value("pairs").value == 1
    assert report.named("inverted").value("pairs").value == 0
    assert report.named("inverted").value("gain").high < 0
    assert report.named("length-only").value("explained").value == pytest.approx(1)
    assert report.named("same").value("flat").value == 1
    assert report.named("perfect").value("explained").value < 0.05
    assert report.ranked[0].name == "perfect"
    assert "reward what is wrong" in report.named("inverted").verdict.because
    # Every right completion says 7 and wrong ones scatter: the vote is right, and agreement between halves says so.
    assert report.named("vote").verdict.call == "use"


def test_few_labels_cannot_tell_and_say_how_many_would(planted):
    report = audit(read_rollouts(planted), answers=Number(), labels=8, signals=["noisy", "noise"])
    assert report.labelled == 8
    assert report.named("noise").verdict.call == "cannot tell"
    assert "labelled prompts would" in report.named("noise").verdict.because
    none = audit(read_rollouts(planted), answers=Number(), labels=0, signals=["vote", "perfect"])
    assert not none.labelled and not none.named("vote").labelled
    assert none.named("vote").from_halves and none.named("vote").verdict.call == "cannot tell"


def test_length_in_disguise_is_told():
    good = {"pairs": Estimate(0.85, 0.8, 0.9), "gain": Estimate(0.2, 0.1, 0.3), "partial": Estimate(0.02, -0.1, 0.1)}
    long = {"explained": Estimate(0.8, 0.7, 0.9), "length": Estimate(0.9, 0.8, 0.95), "flat": Estimate(0, 0, 0.1)}
    verdict = judge_signal(elects=False, labelled=good, blind=long, labels=40)
    assert verdict.call == "use" and "at equal length it says nothing" in verdict.sentence
    unsure = {**good, "pairs": Estimate(0.62, 0.5, 0.7)}
    assert judge_signal(elects=False, labelled=unsure, blind=long, labels=40).call == "avoid"


def test_the_gates():
    def vote(low, value, high, labels=40):
        e = Estimate(value, low, high)
        return judge_signal(elects=True, labelled={"label_right": e}, blind={}, labels=labels).call

    wrong, gains = Estimate(0.36, 0.25, 0.48), Estimate(0.16, 0.1, 0.2)
    torn = judge_signal(elects=True, labelled={"label_right": wrong, "gain": gains}, blind={}, labels=64)
    assert torn.call == "cannot tell" and "collapse onto wrong answers is likely" in torn.because

    def score(pairs, flat, gain=0.2):
        labelled = {"pairs": Estimate(pairs, pairs - 0.04, pairs + 0.04), "gain": Estimate(gain, gain - 0.02, gain)}
        blind_ = {"flat": Estimate(flat, flat - 0.1, flat + 0.1)}
        return judge_signal(elects=False, labelled=labelled, blind=blind_, labels=40).call

    assert [vote(0.55, 0.6, 0.7), vote(0.4, 0.55, 0.7), vote(0.2, 0.3, 0.45)] == ["use", "cannot tell", "avoid"]
    assert vote(0.9, 1.0, 1.0, labels=3) == "cannot tell"  # three labels are no labels
    assert [score(0.7, 0.1), score(0.62, 0.1), score(0.5, 0.1)] == ["use", "cannot tell", "avoid"]
    assert score(0.7, 0.8) == "avoid"  # it tells nothing apart in most groups
    assert score(0.7, 0.1, gain=0.0) == "cannot tell"  # its favourites are no better than any


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"prompt": "x", "completions": ["1"', "malformed JSON"),
        ({"prompt": "x"}, "neither 'completions' nor 'completion'"),
        ({"completions": ["1"]}, "neither 'prompt' nor 'messages'"),
        ({"prompt": "x", "completions": "1"}, "field 'completions': is a text"),
        ({"prompt": "x", "completions": []}, "empty list"),
        ({"prompt": "x", "completions": ["1", 2]}, r"field 'completions\[1\]': is a number"),
        ({"prompt": "x", "completions": ["1", "2"], "correct": [True]}, "has 1 values for 2 completions"),
        ({"prompt": "x", "completions": ["1"], "correct": ["yes"]}, r"field 'correct\[0\]': is a text"),
        ({"prompt": "x", "completions": ["1"], "correct": [3]}, "grade from 0 to 1"),
        ({"prompt": "x", "completions": ["1"], "scores": {"r": [1, 2]}}, "field 'scores.r': has 2 values"),
        ({"prompt": "x", "completions": ["1"], "scores": [1]}, "field 'scores': is a list"),
    ],
)
def test_malformed_lines_are_named_by_line_and_field(tmp_path, row, words):
    path = write(tmp_path / "bad.jsonl", [SCHOOL[0], row])
    with pytest.raises(DataError, match=f"bad.jsonl, line 2, .*{words}"):
        read_rollouts(path)


def test_other_shapes_of_files(tmp_path):
    flat = [
        {"prompt": "a", "response": "1", "correct": True},
        {"prompt": "b", "response": "2"},
        {"prompt": "a", "response": "3", "correct": 0.5},
    ]
    found = read_rollouts(write(tmp_path / "flat.jsonl", flat))
    assert [g.completions for g in found.groups] == [["1", "3"], ["2"]]
    assert found.truths[0] == [1.0, 0.5] and math.isnan(found.truths[1][0])
    # A run's own rollout log: the reward that it paid is audited, too.
    log = [{"step": 3, "group": "g", "prompt": "a", "completions": [{"text": "#1", "reward": 1.0, "answer": "1"}]}]
    own = read_rollouts(write(tmp_path / "rollouts.jsonl", log))
    assert own.scores == {"reward": [[1.0]]} and own.groups[0].completions == ["#1"]
    with pytest.raises(DataError, match="no such file"):
        read_rollouts(tmp_path / "none.jsonl")


def test_the_command_on_a_file(monkeypatch, capsys, school, tmp_path):
    hostile = {"prompt": "<img src=x>", "completions": ["<script>alert(1)</script> 4", "5"], "correct": [True, False]}
    path = write(tmp_path / "r.jsonl", [*SCHOOL, hostile])
    out = tmp_path / "out"
    code, text = run(monkeypatch, capsys, "audit", "--rollouts", path, "--out", out, "--set", "answers=number")
    assert code == 0, text
    assert "vote" in text and "Not scored" in text and "needs a model" in text
    saved = json.loads((out / "audit.json").read_text())
    assert saved["prompts"] == 4 and saved["labelled_prompts"] == 4
    vote = next(s for s in saved["signals"] if s["signal"] == "vote")
    assert {"verdict", "because", "gates", "labelled", "label_free", "cost"} <= vote.keys()
    page = (out / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "<img" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")

    code, text = run(monkeypatch, capsys, "audit", "--rollouts", path, "--out", out, "--signals", "votes")
    assert code == 2 and "Did you mean 'vote'" in text and "Traceback" not in text
    bad = write(tmp_path / "bad.jsonl", ["{"])
    code, text = run(monkeypatch, capsys, "audit", "--rollouts", bad, "--out", out)
    assert code == 2 and "bad.jsonl, line 1" in text and "Traceback" not in text


# ---- with a model --------------------------------------------------------------------------------


def test_a_model_is_sampled_once_and_judged_in_one_batch():
    policy, task = load_policy("embedded:chain", device="cpu"), load_task("chain")
    wanted = ["vote", "self_certainty", "gap", "judge_expected", "judge_expected:template=naive-judge"]
    report = audit(policy, task, prompts=24, n=8, signals=wanted, seed=1)
    calls = {s.name: s.verdict.call for s in report.signals}
    assert calls["vote"] == "use"
    assert calls["self_certainty"] == calls["judge_expected:template=naive-judge"] == "avoid"
    assert report.views  # the task brings another wording of every question
    for name in ("vote", "self_certainty", "gap"):  # what the sampler saw is enough
        assert report.named(name).cost.forwards == 0, name
    assert 1 <= report.named("judge_expected").cost.forwards <= 3
    assert report.costs["sampling"].generated > 0
    blind_report = audit(policy, task, prompts=24, n=8, signals=[*wanted, "gold"], seed=1, labels=0)
    assert blind_report.named("gold").verdict.call == "not scored"  # no labels means none
    for a, b in zip(report.named("judge_expected").scores, blind_report.named("judge_expected").scores, strict=True):
        assert np.allclose(a, b)  # the same seed draws the same rollouts
    blind_calls = {s.name: s.verdict.call for s in blind_report.signals}
    assert blind_calls["self_certainty"] == "avoid" and blind_calls["vote"] == "use"


def test_a_model_scores_rollouts_from_elsewhere(tmp_path):
    policy, task = load_policy("embedded:chain", device="cpu"), load_task("chain")
    rows = [
        {"prompt": p.text, "completions": ["guess#1", f"easy#{p.text[-2]}"], "answer": p.answer} for p in task.train[:6]
    ]
    found = read_rollouts(write(tmp_path / "r.jsonl", rows))
    report = audit(found, task, policy=policy, signals=["mean_logprob", "judge_expected"])
    assert report.named("mean_logprob").cost.forwards >= 1
    assert not math.isnan(report.named("judge_expected").value("flat").value)


def test_wrong_arguments_are_sentences():
    policy, task = load_policy("embedded:chain", device="cpu"), load_task("chain")
    with pytest.raises(ConfigError, match="at least 2 completions"):
        audit(policy, task, n=1)
    with pytest.raises(DataError, match="empty"):
        audit(policy, task, prompts=[])
    with pytest.raises(ConfigError, match="needs a task"):
        audit(policy)
