"""ScPO: the weighted loss worked by hand, whose pairs, iterations, and a resumed run."""

from __future__ import annotations

import json
import math

import pytest
import torch

from selfreward.credit.pairs import vote_pairs
from selfreward.credit.rows import pair_experience
from selfreward.data.answers import Regex
from selfreward.errors import ConfigError
from selfreward.losses import MicroBatch
from selfreward.policy.batching import right_pad
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.run import RunContext
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from selfreward.types import Group, Prompt, Segment, Trajectory


def group(texts, answer="5"):
    prompt = Prompt("p", "q", reference=answer)
    head = Segment("prompt", torch.tensor([1]))
    lines = [Segment("solver", torch.arange(2, 2 + len(t)), t, torch.zeros(len(t)), trainable=True) for t in texts]
    return Group("p", prompt, [Trajectory(prompt, [head, s]) for s in lines])


def test_the_weighted_loss_by_hand():
    """Eight samples: five say 5, two say 6, one says 7. y+ has 4 tokens, y- has 2.

    w = (5 - 1) / 8 = 1/2. Say log M(y+)/M_t(y+) = 0.4 and log M(y-)/M_t(y-) = -0.6; beta = 1/2, so the DPO
    term is 1/2 * -log s(1/2 * 1.0) = 1/2 * log(1 + e^-0.5) = 1/2 * 0.4740770. Say log M(y+) = -2.0; alpha = 1,
    so the likelihood term is 1 * 1/2 / 4 * 2.0 = 0.25. Together 0.4870385.
    """
    eight = group(["ab#5"] * 5 + ["a#6"] * 2 + ["#7"])
    pairs = vote_pairs(eight, [0, 0, 0, 0, 0, 1, 1, 2], quorum=0.5)
    assert [tuple(p) for p in pairs] == [(0, 7, 0.5, 0.0)]
    experience = pair_experience([eight], [pairs], nll=1.0)
    logp = [torch.tensor([0.0, -0.2, -0.8, -0.4, -0.6]), torch.tensor([0.0, -1.5, -1.1])]
    reference = [torch.tensor([0.0, -0.3, -0.9, -0.6, -0.6]), torch.tensor([0.0, -1.0, -1.0])]
    total = 0.0
    for term in load_recipe("scpo", {"kl": 0.0}).objective(8):
        weight = right_pad(term.weights(experience.rows))
        mask = right_pad([r.mask for r in experience.rows])
        zero = torch.zeros_like(mask)
        batch = MicroBatch(
            logp=right_pad(logp),
            behaviour=zero,
            advantage=zero,
            mask=mask,
            weight=weight,
            nll=right_pad([r.nll for r in experience.rows]),
            kl=zero,
            pairs=[(p.chosen, p.rejected, p.weight, p.margin) for p in experience.pairs],
            total_pairs=1,
            extra={"reference": right_pad(reference)},
        )
        total += float(term(batch)[0])
    assert total == pytest.approx(0.5 * math.log(1 + math.exp(-0.5)) + 0.25) == pytest.approx(0.4870385, abs=1e-6)


def order(texts, answer="5", **options):
    recipe = load_recipe("scpo", options)
    run = RunContext(Regex(r"#(\d)"), lambda t: True, sampling=SamplingParams(4), step=1, steps=2)
    found = recipe.order(group(texts, answer), run)
    assert run.counts.get(recipe.mechanism, 0) == len(found)
    return found


def test_who_is_preferred():
    texts = ["a#5", "b#5", "c#6", "d#5", "e#6", "f#7", "g", "h#5"]
    (pair,) = order(texts)  # 5 has 4 of 8 votes, 7 has one
    assert texts[pair.chosen].endswith("#5") and pair.rejected == 5 and pair.weight == 3 / 8
    assert order(texts, quorum=0.6) == []
    assert order(texts, weighted=False)[0].weight == 1
    assert order(texts, missing="reject")[0].rejected == 6
    (gold,) = order(texts, answer="6", pairs="gold")
    assert texts[gold.chosen].endswith("#6") and not texts[gold.rejected].endswith("#6") and gold.weight == 1
    assert order(["a#5", "b#5"]) == []  # everybody agrees: nothing to reject
    assert load_recipe("scpo", {"pairs": "gold"}).needs() == "outcome"
    assert load_recipe("scpo").needs() == "none"


def test_a_random_pair_does_not_look_at_votes():
    pairs = {tuple(order([f"{i}#{i % 3}" for i in range(6)], pairs="random")[0])[:2]}
    assert pairs and all(i != j for i, j in pairs)


def test_errors_speak():
    with pytest.raises(ConfigError, match="rounds"):
        load_recipe("scpo", {"rounds": 0})


def settings(folder, **changes):
    options = {"group_size": 8, "extra_samples": 4, "quorum_step": 0.1, "kl": 0.0}
    values = {
        "recipe": "scpo",
        "model": "embedded:chain",
        "steps": 4,
        "prompts_per_step": 6,
        "eval_prompts": 0,
        "checkpoint_every": 3,
        "log_groups": -1,
        "out": str(folder),
        "options": options,
    }
    return make_config({**values, **changes})


def run(trainer):
    trainer.evaluator = lambda policy: {}
    return trainer.fit()


def test_two_iterations_and_a_resumed_run_are_the_same(tmp_path):
    whole = build(settings(tmp_path / "a"))
    summary = run(whole)
    assert summary["labels"] == "none" and summary["mechanism"]["count"] > 0
    records = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()][1:]
    assert [r["pairs/round"] for r in records] == [0, 0, 1, 1]
    groups = [json.loads(line) for line in (tmp_path / "a" / "rollouts.jsonl").read_text().splitlines()]
    assert [len(g["completions"]) for g in groups if g["step"] == 2] == [8] * 6
    assert [len(g["completions"]) for g in groups if g["step"] == 3] == [12] * 6
    # The second iteration's reference is the first one's model, not the start and not the present one.
    now, then = whole.policy.state_dict(), whole.recipe.state_dict()["weights"]["start"]
    start = whole.reference.model.state_dict()
    name = next(iter(now))
    assert not torch.equal(then[name], now[name]) and not torch.equal(then[name], start[name])

    class StoppedError(Exception):
        pass

    part = build(settings(tmp_path / "b"))
    part.evaluator = lambda policy: {}

    def stop(record):
        if record["step"] == 4:
            raise StoppedError

    part.on_step = stop
    with pytest.raises(StoppedError):
        part.fit()
    again, _ = resume(tmp_path / "b", [])
    assert again.step == 3
    run(again)
    for key, value in whole.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[key])
