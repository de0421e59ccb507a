"""Temporal self-rewarding: phases, where the pairs come from, and a resumed run."""

from __future__ import annotations

import pytest
import torch

from selfreward.credit.pairs import IndexPair, across, share_from
from selfreward.recipes.preference.temporal_self_rewarding import best_across, generations_apart
from selfreward.types import Group, Prompt, Segment, Trajectory
from tests.support.rounds import one_step, same_after_resume

SMALL = {"iterations": 2, "group_size": 3}


def group(texts):
    prompt = Prompt("p", "q")
    head = Segment("prompt", torch.tensor([1]))
    return Group("p", prompt, [Trajectory(prompt, [head, Segment("solver", torch.tensor([2]), t)]) for t in texts])


def test_both_phases_by_hand():
    """Now 3 and 5, past 4 and 1: 5 over 1. The future's 6 then takes the place of the 5, the 1 stays."""
    groups = across({"now": [group("ab")], "past": [group("cd")]})
    grades = [[3.0, 5.0, 4.0, 1.0]]
    ((first,),) = best_across(groups, grades, ("now",), ("now", "past"))
    assert first[:2] == (1, 3)
    assert share_from(groups, [[first]], "past") == 1 and share_from(groups, [[first]], "future") == 0
    assert generations_apart(groups, [[first, IndexPair(1, 0)]]) == [[first]]
    assert generations_apart(groups, [[first]], ("now", "past")) == [[]]
    groups = across({"now": [group("b")], "rejected": [group("d")], "future": [group("ef")]})
    ((second,),) = best_across(groups, [[5.0, 1.0, 2.0, 6.0]], ("now", "future"), ("rejected",))
    assert second[:2] == (3, 1)
    ((worse,),) = best_across(groups, [[1.0, 5.0, 2.0, 1.0]], ("now", "future"), ("rejected",))
    assert worse[:2] == (2, 1)  # the best is worse than what is rejected: known here, and left out by the recipe


def test_four_phases_and_a_resumed_run(tmp_path):
    """Four steps are two iterations of two phases; phase 2 starts from M_i again. Stopped within the second one."""
    summary, steps = same_after_resume(tmp_path, "temporal-self-rewarding", SMALL)
    assert summary["labels"] == "none" and summary["mechanism"]["count"] > 0
    assert [(r["round"], r["phase"]) for r in steps] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(-1 <= r["pairs/cosine"] <= 1 for r in steps)
    assert sum(r["pairs/from_past"] for r in steps) > 0
    names = {k for r in steps for k in r if "_over_" in k}
    assert names <= {f"pairs/{a}_over_{b}" for a in ("now", "future") for b in ("now", "past")}
    for r in steps:  # counted are pairs whose two answers were not written by one model; M_0 is M_i in iteration 1
        one_model = {"pairs/now_over_now"} | ({"pairs/now_over_past"} if r["round"] == 0 else set())
        apart = sum(share for k, share in r.items() if "_over_" in k and k not in one_model)
        assert r["mechanism"] == round(apart * 4 * r["pairs/kept"])
    assert steps[0]["mechanism"] == 0 < steps[0]["pairs/kept"]


def test_the_future_model_is_thrown_away(tmp_path):
    trainer, _ = one_step(tmp_path / "a", "temporal-self-rewarding", **SMALL)
    lineage = trainer.recipe._lineage
    trainer.learner.schedule = lambda update: 0.0  # phase 2 goes back to M_0 and stays there
    assert "future" not in lineage
    trainer._one_step()
    assert "future" in lineage
    start = trainer.reference.model.state_dict()
    future = lineage.get("future", trainer.reference).model.state_dict()
    now = trainer.policy.state_dict()
    assert all(torch.equal(now[k], start[k]) for k in now)
    assert any(not torch.equal(future[k], start[k]) for k in now)
    trainer._one_step()
    assert "future" not in lineage


@pytest.mark.parametrize("options", [{"past": False}, {"future": False}, {"scores": "shuffled"}])
def test_arms(tmp_path, options):
    trainer, record = one_step(tmp_path / "a", "temporal-self-rewarding", **SMALL, **options)
    assert record["mechanism"] == 0 < record["pairs/kept"] and record["grad_norm"] > 0
    assert trainer._one_step()["phase"] == float(options.get("future", True))
