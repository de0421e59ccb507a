"""Rewards with a known flaw: the flaw is there, and the sentinel is told by another view."""

from __future__ import annotations

import pytest

from selfreward.lab.arms.flawed import mixed_vote
from tests.support.runs import context, run_recipe


class Said:
    """Completions of one prompt."""

    def __init__(self, *completions):
        self.completions = list(completions)


def test_a_mixed_vote_pays_the_batch_and_not_the_group():
    # "3" wins over the batch (4 of 7), although the second prompt's own majority is "7".
    found = mixed_vote([Said("3", "3", "3", "5"), Said("7", "7", "3")], context("357"))
    assert found == [[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert mixed_vote([Said("?", "?")], context("357")) == [[0.0, 0.0]]


@pytest.mark.parametrize("flaw", ["mixed-vote", "terse-judge"])
def test_flawed_rewards_train(tmp_path, flaw):
    summary, records = run_recipe("flawed", tmp_path, options={"flaw": flaw})
    assert summary["mechanism"]["count"] > 0 and summary["labels"] == "none" and summary["control"]
    if flaw == "terse-judge":
        assert records[0]["reward/length"] < -0.8


def test_the_proposer_is_paid_for_agreement_and_its_lists_are_trained(tmp_path):
    summary, records = run_recipe("easy-proposer", tmp_path, model="embedded:chain-writer")
    assert summary["mechanism"]["count"] > 0
    assert 0 < records[-1]["proposals/accepted"] <= records[-1]["proposals/written"] == 24
    assert records[-1]["tokens/generated/proposer"] > 0
