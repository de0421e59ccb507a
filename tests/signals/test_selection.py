"""Selection at test time: a group worked by hand under every rule, then the command."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.cli import main
from selfreward.errors import ConfigError
from selfreward.signals.selection import RULES, select

CLASSES, SCORES = [0, 1, 1, 2], [0.9, 0.6, 0.2, None]


@pytest.mark.parametrize(
    "rule, label, index",
    [
        ("majority", 1, 1),  # two votes against one and one
        ("best", 0, 0),  # .9 is the best score
        ("weighted", 0, 0),  # .9 against .6 + .2
        ("borda", 1, 1),  # 4 against 3 + 2
        ("accept-vote", 0, 0),  # .9 and .6 are accepted: one vote each, the first wins
    ],
)
def test_one_group_by_every_rule(rule, label, index):
    found = select(CLASSES, SCORES, rule, power=1)
    assert (found.label, found.index, found.fallback) == (label, index, False)


def test_borda_power_moves_from_the_vote_to_the_best():
    # Weights 5, 4, 3, 2, 1 to the power p: class 0 has the best sample, class 1 the three worst.
    classes, scores = [0, 2, 1, 1, 1], [9, 7, 5, 3, 1]
    assert select(classes, scores, "borda", power=0).label == 1  # three votes
    assert select(classes, scores, "borda", power=1).label == 1  # 5, 4 and 3 + 2 + 1 = 6
    assert select(classes, scores, "borda", power=2).label == 0  # 25, 16 and 9 + 4 + 1 = 14
    assert select(classes, scores, "best").label == 0


def test_samples_without_an_answer_or_score():
    assert select([None, 0], [9, 1], "best").index == 1
    # The missing answer keeps rank 1: weight 1 is left for class 0.
    assert select([None, 0], [9, 1], "borda", power=1).votes == {0: 1}
    nobody = select([None, None], [1, 2], "accept-vote")
    assert (nobody.index, nobody.label, nobody.why) == (None, None, "no sample has an answer")
    assert select([], rule="majority").index is None


def test_the_representative_is_the_best_scored_member():
    assert select([0, 1, 1], [0.1, 0.2, 0.8], "majority").index == 2
    assert select([0, 1, 1], None, "majority").index == 1


def test_accept_vote_falls_back_to_the_vote():
    found = select([0, 1, 1], [0.1, 0.2, 0.3], "accept-vote")
    assert (found.label, found.fallback) == (1, True)
    # An accepted sample without an answer accepts nothing.
    assert select([None, 1], [0.9, 0.3], "accept-vote").fallback
    assert select([0, 1, 1], [0.9, 0.2, 0.3], "accept-vote").label == 0
    everything = select([0, 1, 1], [0, 0, 0], "weighted")
    assert (everything.label, everything.fallback) == (1, True)


def test_errors_say_what_would_be_right():
    with pytest.raises(ConfigError, match="Did you mean 'borda'"):
        select([0], [1], "bordas")
    with pytest.raises(ConfigError, match="needs a score"):
        select([0], None, "best")
    with pytest.raises(ConfigError, match="Use rule 'borda'"):
        select([0, 1], [-1.0, -2.0], "weighted")
    with pytest.raises(ConfigError, match="2 samples but 1 scores"):
        select([0, 1], [1.0], "best")
    with pytest.raises(ConfigError, match="NaN"):
        select([0], [float("nan")], "best")
    with pytest.raises(ConfigError, match="power is -1"):
        select([0], [1.0], "borda", power=-1)


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.one_of(st.none(), st.floats(0, 1))), max_size=10),
    st.sampled_from(RULES),
)
def test_what_is_chosen_has_an_answer_and_belongs_to_its_class(samples, rule):
    classes, scores = [c for c, _ in samples], [s for _, s in samples]
    found = select(classes, scores, rule)
    assert (found.index is None) == all(c is None for c in classes)
    if found.index is not None:
        assert classes[found.index] == found.label is not None


@pytest.fixture
def run(monkeypatch, capsys):
    """Calls ``selfreward select`` with arguments; gives the exit status and what was printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["selfreward", "select", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def test_command_samples_scores_and_grades(tmp_path, run):
    out = tmp_path / "chosen.jsonl"
    code, printed = run("--limit", 6, "-n", 8, "--rule", "borda", "--power", 1, "--out", out)
    assert code == 0
    assert "majority" in printed and "a random sample" in printed and "6 with an answer" in printed
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["id"] for r in rows] == [f"chain-test-{i}" for i in range(6)]
    for row in rows:
        assert row["answer"] == row["completions"][row["sample"]]
        assert len(row["scores"]) == 8 and row["score"] == "self-certainty"
    run("--limit", 6, "-n", 8, "--rule", "borda", "--power", 1, "--out", out)
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows


def test_command_takes_completions_and_scores_made_elsewhere(tmp_path, run):
    file, out = tmp_path / "made.jsonl", tmp_path / "chosen.jsonl"
    row = {"prompt": "2+3=", "answer": "5", "completions": ["so 4", "so 5", "so 4"], "scores": [0.1, 0.9, 0.2]}
    file.write_text(json.dumps(row) + "\n")
    common = ["--completions", file, "--out", out, "--set", "answers=number"]
    for rule, answer in (("majority", "so 4"), ("best", "so 5"), ("weighted", "so 5")):
        assert run(*common, "--rule", rule)[0] == 0
        assert json.loads(out.read_text())["answer"] == answer
    # Scored by a model: the completion's own tokens under the prompt.
    assert run(*common, "--rule", "best", "--score", "logprob")[0] == 0
    assert len(json.loads(out.read_text())["scores"]) == 3
    file.write_text(json.dumps({**row, "scores": [1]}) + "\n")
    code, printed = run(*common, "--rule", "best")
    assert code == 2 and "one number (or null) per completion" in printed


def test_command_errors(run):
    for arguments, words in (
        (["--rule", "bst"], "Did you mean 'best'"),
        (["--rule", "best", "--score", "self-certain"], "Unknown signal"),
        (["--data", "a.jsonl", "--completions", "b.jsonl"], "give one of the two"),
        (["--rule", "weighted", "--score", "logprob", "--limit", "2", "-n", "2"], "Use rule 'borda'"),
    ):
        code, printed = run(*arguments)
        assert code == 2 and words in printed
