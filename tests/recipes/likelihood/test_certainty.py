"""Self-certainty: how its proof grades a pool, worked by hand, and its known failure as a reward."""

import json

import pytest

from selfreward.lab.proofs.common.pools import Pool, kept
from selfreward.lab.proofs.consensus.self_certainty import best, borda, majority
from selfreward.policy.scoring.distribution import self_certainty
from selfreward.recipes.likelihood.certainty import Certainty
from selfreward.recipes.registry import recipe_class
from selfreward.training.config import make_config
from selfreward.training.launch import start


def test_score_by_hand():
    import math

    import torch

    # p = (1/2, 1/4, 1/8, 1/8): mean of -log p is (1 + 2 + 3 + 3) / 4 bits, less log 4 = 2 bits.
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    assert float(self_certainty(logits)) == pytest.approx(0.25 * math.log(2), abs=1e-6)


def hand_made() -> Pool:
    """One prompt of 64 samples: the best-scored one is right, and two of three are wrong alike."""
    classes = [0, 1, 1] * 21 + [1]
    scores = [[2.0 if c == 0 else 1.0 for c in classes]]
    return Pool([classes], [[c == 0 for c in classes]], [[5] * 64], {"sc": scores}, [0])


def test_curves_by_hand():
    pool = hand_made()
    # The first four samples alone are 0, 1, 1, 0: right, wrong, wrong, right.
    assert pool.curve(majority)[1] == 0.5
    assert pool.curve(majority)[64] == 0.0
    assert pool.curve(best, "sc")[4] == 1.0
    # 64 samples, 21 right ones ranked first: weights 64 .. 44 sum to 1134, the others 43 .. 1 to 946.
    assert pool.curve(lambda c, s: borda(1.0, c, s), "sc")[64] == 1.0
    assert pool.curve(lambda c, s: borda(0.0, c, s), "sc")[64] == 0.0


def test_permuting_keeps_the_scores_and_loses_their_place():
    pool = hand_made()
    shuffled = pool.permuted("sc", seed=1)
    assert sorted(shuffled.scores["sc"][0]) == sorted(pool.scores["sc"][0])
    assert shuffled.scores["sc"] != pool.scores["sc"] and shuffled.classes == pool.classes
    assert shuffled.scores == pool.permuted("sc", seed=1).scores


def test_a_pool_is_drawn_once(tmp_path):
    file = tmp_path / "pools" / "one.json"
    first = kept(file, hand_made)
    assert kept(file, lambda: pytest.fail("drawn again")) == first


def test_it_goes_by_its_slug():
    assert recipe_class("self-certainty") is Certainty


def test_as_a_reward_it_collapses_and_the_alarms_say_so(tmp_path):
    settings = {
        "recipe": "self-certainty",
        "model": "embedded:chain",
        "steps": 14,
        "prompts_per_step": 12,
        "lr": 2e-3,
        "eval_prompts": 60,
        "eval_every": 0,
        "checkpoint_every": 0,
        "out": str(tmp_path / "run"),
        "options": {"group_size": 8},
    }
    summary = start(make_config(settings)).fit()
    records = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rewards = [r["reward/mean"] for r in records if r["step"] > 0]
    assert sum(rewards[-3:]) > sum(rewards[:3])  # what is optimised rises
    assert summary["after"]["pass@1"] < summary["before"]["pass@1"] - 0.1  # and the truth falls
    assert {a["name"] for a in summary["alarms"]} & {"reward-against-agreement", "length-shift", "format-loss"}
