"""Figures for documents: what stands in the file, and what is said when it cannot be drawn."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from selfreward.cli.app import app
from selfreward.errors import ConfigError, DataError
from selfreward.evaluation.report.static import Panel, arms_figure, arms_table, comparison_dots, curves_figure

COMPARE = {
    "metric": "pass@1",
    "arms": {
        name: {
            "control": name == "random",
            "seeds": [{"seed": s, "before": {"pass@1": 0.4}, "after": {"pass@1": value + s / 100}} for s in range(3)],
        }
        for name, value in (("vote", 0.9), ("random", 0.41))
    },
}
CURVES = {"vote": {str(s): {"step": [0, 10], "eval/pass@1": [0.4, 0.9], "reward/mean": [0.5, 0.8]} for s in range(2)}}


def test_the_arms_of_a_comparison_become_dots_with_intervals(tmp_path):
    dots, start = comparison_dots(COMPARE, "pass@1")
    assert [(d.label, round(d.after.value, 2), d.control) for d in dots] == [
        ("vote", 0.91, False),
        ("random", 0.42, True),
    ]
    assert start.value == 0.4
    text = arms_figure([Panel("Title", dots, start)], "pass@1", tmp_path / "a.svg").read_text()
    assert text.index(">random<") < text.index(">vote<"), "worst at the bottom, drawn first"
    assert "Title" in text and "held-out pass@1" in text


def test_the_command_draws_a_comparison(tmp_path):
    (tmp_path / "compare.json").write_text(json.dumps(COMPARE))
    result = CliRunner().invoke(app, ["figure", str(tmp_path), "--out", str(tmp_path / "b.png"), "--arms", "vote"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_several_comparisons_stand_side_by_side(tmp_path):
    dots, start = comparison_dots(COMPARE, "pass@1")
    panels = [Panel("one", dots, start), Panel("two", dots[:1], start)]
    text = arms_figure(panels, "pass@1", tmp_path / "a.svg").read_text()
    assert ">one<" in text and ">two<" in text and text.count(">vote<") == 1
    # .90, .91, .92: mean .91, and t = 4.303 times .01 / sqrt(3) is .0248.
    table = arms_table(panels).splitlines()
    assert table[0] == "| reward | one | two |" and table[2] == "| *start* | 40.0 | 40.0 |"
    assert table[3] == "| vote | 91.0 (88.5 to 93.5) | 91.0 (88.5 to 93.5) |"
    assert table[4].startswith("| *random* | 42.0 (") and table[4].endswith("| – |")


def test_the_command_writes_a_table_of_two_comparisons(tmp_path):
    (tmp_path / "compare.json").write_text(json.dumps(COMPARE))
    out = tmp_path / "t.md"
    call = ["figure", str(tmp_path), str(tmp_path), "--out", str(out), "--title", "A", "--title", "B"]
    assert CliRunner().invoke(app, call).exit_code == 0
    assert out.read_text().startswith("| reward | A | B |")
    assert "3 titles for 2 sources" in str(CliRunner().invoke(app, [*call, "--title", "C"]).exception)


def test_curves_show_truth_and_self_reward(tmp_path):
    text = curves_figure(CURVES, "eval/pass@1", "reward/mean", tmp_path / "c.svg").read_text()
    assert "eval/pass@1 (left)" in text and "reward/mean (right)" in text and ">vote<" in text
    with pytest.raises(DataError, match=r"no curves of arm 'vot'.*vote"):
        curves_figure(CURVES, "eval/pass@1", "reward/mean", tmp_path / "c.svg", ["vot"])


def test_a_figure_that_cannot_be_is_named(tmp_path):
    dots, start = comparison_dots(COMPARE, "pass@1")
    with pytest.raises(ConfigError, match=r"ends in \.svg"):
        arms_figure([Panel("", dots, start)], "pass@1", tmp_path / "a.txt")
    with pytest.raises(ConfigError, match="no metric 'pass'"):
        comparison_dots(COMPARE, "pass")
