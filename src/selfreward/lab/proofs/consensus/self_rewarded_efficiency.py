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

from selfreward.lab.proofs.common.efficiency import as_accurate, shortening
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
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
                measured = problems.evaluate(pushed, seed=seed)
            for metric in ("length", "pass@1", "hard", "filler share"):
                found[f"{name} {metric} at {strength:g}"] = measured[metric]
    return {"after": found, "mechanism": {"name": "pairs of right answers", "count": len(pairs)}}


def steps(results: Results, vector: str, metric: str = "length") -> Estimate:
    """The largest step of ``metric`` from one strength of the range to the next (mean over seeds)."""
    rungs = [results.values("steering", f"{vector} {metric} at {s:g}") for s in RANGE]
    found = [mean_interval([b - a for a, b in zip(x, y, strict=True)]) for x, y in pairwise(rungs)]
    return max(found, key=lambda e: e.value)


def changes(results: Results, vector: str, metric: str, strength: float) -> list[float]:
    """What a strength does to ``metric``, per seed."""
    before = results.values("steering", f"{vector} {metric} at 0")
    after = results.values("steering", f"{vector} {metric} at {strength:g}")
    return [b - a for a, b in zip(before, after, strict=True)]


def change(results: Results, vector: str, metric: str, strength: float) -> Estimate:
    """Mean of :func:`changes`."""
    return mean_interval(changes(results, vector, metric, strength))


def lost(results: Results) -> Estimate:
    """The most accuracy that steering costs inside the range (mean over seeds)."""
    return min((change(results, "own", "pass@1", s) for s in RANGE[1:]), key=lambda e: e.value)


def random_share(results: Results) -> Estimate:
    """Size of the random direction's effect on length, per seed, as a share of the own direction's mean effect."""
    own = abs(change(results, "own", "length", RANGE[-1]).value)
    return mean_interval([abs(c) / max(own, 1e-9) for c in changes(results, "random", "length", RANGE[-1])])


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
        Rule(
            "a quarter shorter",
            "sre ends at least 25 % shorter than correct-only (mean over seeds)",
            lambda r: shortening(r, "sre", "correct-only"),
            lambda e: e.value >= 0.25,
        ),
        as_accurate("sre", "correct-only", 0.01),
        Rule(
            "the gate is needed",
            "without the gate on correctness accuracy ends lower (upper end of the paired interval below 0)",
            lambda r: r.lead("ungated", "sre", "pass@1"),
            lambda e: e.high < 0,
        ),
        Rule(
            "better than a fixed target",
            "sre ends above the fixed target length in accuracy on five and six operations (mean over seeds above 0)",
            lambda r: r.lead("sre", "fixed-target", "hard"),
            lambda e: e.value > 0,
        ),
        Rule(
            "steering shortens",
            f"length falls at every step of strength {', '.join(f'{s:g}' for s in RANGE)} "
            "(largest step, mean over seeds, below 0)",
            lambda r: steps(r, "own"),
            lambda e: e.value < 0,
        ),
        Rule(
            "steering keeps accuracy",
            "inside that range pass@1 falls by at most 2 points (mean over seeds)",
            lost,
            lambda e: e.value >= -0.02,
        ),
        Rule(
            "the reverse lengthens",
            "strength -1 makes completions longer (lower end of the paired interval above 0)",
            lambda r: change(r, "own", "length", -1.0),
            lambda e: e.low > 0,
        ),
        Rule(
            "a random direction does not",
            "a random direction of the same norm changes length by at most a third of what the direction does",
            random_share,
            lambda e: e.value <= 1 / 3,
        ),
    ),
)
