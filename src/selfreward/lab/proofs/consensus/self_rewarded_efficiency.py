"""Self-rewarded efficiency (082) on EFF: the group's own shortest right answer as the yardstick, and steering.

Rules are those of the method card, written down before the run. The steering study trains nothing: a
direction from 64 training prompts at layer LAYER, tried on held-out prompts at a grid of strengths,
against a random direction of the same norm and against its own reverse.

Chosen on development prompts: the layer (after layer 0 the pushed states break the answers before they
shorten), the mean over the answer's tokens as the place that is read, and the range of strengths, which
ends before accuracy does. What steering presumes was learned there, too: on a first base, whose texts had
zero to six filler steps, each number as often, the *reverse* direction shortened. The states of such a base
count the filler that is already written, and being pushed towards a state without filler begins the count
anew. A manner that goes on once it has begun, which the base of EFF has, can be steered; a quota cannot.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from selfreward.lab.proofs.common.efficiency import HARD
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import PASS_AT_1, PERCENT, POINTS, leads, measured, not_below, trails, weakest
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm, Study

RECIPE = "self-rewarded-efficiency"
GAMMA, TARGET = 1.0, 12
LAYER, RANGE = 1, (0.0, 0.2, 0.4)
STRENGTHS = (-1.0, *RANGE, 0.6, 1.0)


def steering(seed: int, folder: Path) -> dict[str, Any]:
    """Length and accuracy of the base, steered."""
    from selfreward.lab.tasks.arithmetic import eff
    from selfreward.lab.tasks.arithmetic.eff import problems
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.policy.steering import contrast_pairs, direction, steered
    from selfreward.signals.rules import gold

    policy, task = load_policy("embedded:eff", device="cpu"), eff.load()
    params = SamplingParams(max_new_tokens=problems.SETTINGS["max_new_tokens"])
    at = 64 * seed
    groups = policy.sample(task.train[at : at + 64], 16, params, seed=seed)
    correct = [gold(g.completions, str(g.prompt.answer), task.answers) for g in groups]
    pairs = contrast_pairs(groups, correct)
    own = direction(policy, pairs, LAYER)
    own.save(folder / "vector.safetensors")
    found: dict[str, float] = {}
    for name, vector in (("own", own), ("random", own.random_like(seed))):
        for strength in STRENGTHS:
            with steered(policy, vector, strength) as pushed:
                reached = problems.evaluate(pushed, seed=seed)
            for metric in ("length", "pass@1", "hard", "filler share"):
                found[f"{name} {metric} at {strength:g}"] = reached[metric]
    return {"after": found, "mechanism": {"name": "pairs of right answers", "count": len(pairs)}}


def change(results: Results, metric: str, strength: float, vector: str = "own") -> Values:
    """``[S]``: what a strength does to the metric."""
    plain, pushed = (results.values("steering", f"{vector} {metric} at {s:g}") for s in (0, strength))
    return pushed - plain


def largest_step(results: Results) -> Estimate:
    """The change in length from one strength of the range to the next that is largest in the mean over seeds."""
    rungs = [results.values("steering", f"own length at {s:g}") for s in RANGE]
    return max((mean_interval(b - a) for a, b in pairwise(rungs)), key=lambda e: e.value)


def random_share(results: Results) -> Values:
    """``[S]``: size of the random direction's effect on length, as a share of the own direction's mean effect."""
    own = abs(float(change(results, "length", RANGE[-1]).mean()))
    return np.abs(change(results, "length", RANGE[-1], "random")) / max(own, 1e-9)


PROOF = Proof(
    slug="self-rewarded-efficiency",
    id="082",
    claim="The shortest right answer of the model's own group is yardstick enough to shorten answers by a quarter "
    "without losing accuracy; and one direction in its hidden states shortens them without any training.",
    task="embedded:eff",
    main="sre",
    arms=(
        Arm("sre", RECIPE, {"gamma": GAMMA}),
        Arm("correct-only", "gold", {"advantage": "centred"}),
        Arm("fixed-target", RECIPE, {"yardstick": "target", "target": TARGET, "gamma": GAMMA}),
        Arm("ungated", RECIPE, {"gated": False, "gamma": GAMMA}),
        Study("steering", steering),
    ),
    settings={
        "model": "embedded:eff",
        "adam_eps": 1e-4,
        "eval_every": 30,
        "log_groups": 1,
        "options": {"group_size": 8},
    },
    curves=("eval/pass@1", "eval/length", "eval/hard"),
    rules=(
        measured(
            "a quarter shorter",
            "the share of correct-only's length that sre saves",
            lambda r: 1 - r.values("sre", "length") / r.values("correct-only", "length"),
            at_least=0.25,
            unit=PERCENT,
        ),
        not_below("as accurate", "sre", "correct-only", PASS_AT_1, within=0.01),
        trails("the gate is needed", "ungated", "sre", PASS_AT_1, note="ungated: without the gate on correctness"),
        leads("better than a fixed target", "sre", "fixed-target", HARD, end="mean"),
        measured(
            "steering shortens",
            f"the largest change in length from one strength of {', '.join(f'{s:g}' for s in RANGE)} to the next",
            largest_step,
            below=0,
        ),
        measured(
            "steering keeps accuracy",
            f"the change in pass@1 at strength {' or '.join(f'{s:g}' for s in RANGE[1:])}, whichever is lower,",
            lambda r: weakest(mean_interval(change(r, "pass@1", s)) for s in RANGE[1:]),
            at_least=-0.02,
            unit=POINTS,
        ),
        measured(
            "the reverse lengthens",
            "the change in length at strength -1",
            lambda r: change(r, "length", -1.0),
            above=0,
            end="low",
        ),
        measured(
            "a random direction does not",
            f"how much a random direction of the same norm changes length at strength {RANGE[-1]:g}, up or down, as a "
            "share of what the direction does,",
            random_share,
            at_most=1 / 3,
            unit=PERCENT,
        ),
    ),
)
