"""Arms as they are written, and what a comparison is on disk."""

from __future__ import annotations

import pytest

from selfreward.errors import ConfigError, UserError
from selfreward.training.comparison import Arm, ArmResult, CompareResult, compare, parse_arm, read_comparison


@pytest.mark.parametrize(
    ("text", "arm"),
    [
        ("vote", Arm("vote", "vote")),
        (
            "vote:missing=own,quorum=0.5",
            Arm("vote:missing=own,quorum=0.5", "vote", {"missing": "own", "quorum": "0.5"}),
        ),
        ("mine=vote:missing=own", Arm("mine", "vote", {"missing": "own"})),
        ("mine/own.py:Short", Arm("Short", "mine/own.py:Short")),
        ("mine/own.py", Arm("mine-own.py", "mine/own.py")),
    ],
)
def test_an_arm_is_a_recipe_with_options_and_perhaps_a_label(text, arm):
    assert parse_arm(text) == arm


def test_arms_need_labels_of_their_own_and_a_seed(tmp_path):
    with pytest.raises(ConfigError, match="Two arms have the same label: vote, vote"):
        compare([Arm("vote", "vote"), Arm("vote", "vote", {"quorum": 0.5})], {}, out=tmp_path / "x")
    with pytest.raises(ConfigError, match="at least one arm and one seed"):
        compare([Arm("vote", "vote")], {}, seeds=(), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_result_is_written_with_its_title_first_and_only_if_it_has_one():
    arm = ArmResult("vote", {"quorum": 0.5}, "none", False, [{"seed": 0, "after": {"pass@1": 0.5}}])
    result = CompareResult("chain", "embedded:chain", "pass@1", {"steps": 2, "tokens": 9}, {"lr": 0.1}, {"vote": arm})
    written = result.to_dict()
    assert list(written) == ["task", "base", "metric", "budget", "settings", "arms"]
    assert list(written["arms"]["vote"]) == ["recipe", "options", "labels", "control", "seeds"]
    titled = CompareResult(**{**vars(result), "title": "A trap"}).to_dict()
    assert next(iter(titled)) == "title" and titled == {"title": "A trap", **written}


def test_a_comparison_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "compare.json").write_text("{")
    for path in (tmp_path, tmp_path / "compare.json", tmp_path / "absent"):
        with pytest.raises(UserError, match="Cannot read the comparison"):
            read_comparison(path)
