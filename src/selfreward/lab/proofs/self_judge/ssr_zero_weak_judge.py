"""SSR-Zero (009) with a judge that has read little: it first helps and is then hacked.

The base ``trans-weak-judge`` differs from ``trans`` in its judge documents alone: 6 % of the text
instead of the usual share, and edited references only, none of the errors that the base itself makes.
The rules were written down after one throw-away run and before the three seeds.
"""

from __future__ import annotations

from functools import partial

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import fades, gains, leads, measured
from selfreward.lab.proofs.self_judge.ssr_zero import QUALITY, judge_of
from selfreward.training.comparison import Arm

BASE = "embedded:trans-weak-judge"


def reward_since_best(results: Results) -> list[float]:
    """The reward at the end minus the reward around the step of the best truth: what the self-score says of the
    fall."""
    differences = []
    for seed in results.seeds("weak-judge"):
        found = results.curve("weak-judge", seed, ("eval/quality", "reward/mean"))
        best = max(range(len(found["step"])), key=lambda i: found["eval/quality"][i])
        differences.append(found["reward/mean"][-1] - found["reward/mean"][best])
    return differences


PROOF = Proof(
    slug="ssr-zero-weak-judge",
    id="009",
    claim="A self-judge that has read little first helps its translator and is then hacked; freezing it is no cure, "
    "and the self-score does not show the fall.",
    task="embedded:trans",
    main="weak-judge",
    gate=partial(judge_of, BASE),
    arms=(
        Arm("weak-judge", "ssr-zero"),
        Arm("weak-judge-frozen", "ssr-zero", {"judge": "frozen"}),
        Arm("good-judge", "ssr-zero", {"judge": "embedded:trans"}),
        Arm("cycle", "cycle"),
        Arm("format-only", "format-only"),
        Arm("true-quality", "true-quality", {"similarity": "edit"}),
    ),
    settings={"model": BASE, "data": "embedded:trans", "eval_every": 10, "checkpoint_every": 75},
    curves=("eval/quality", "eval/stray_symbols", "reward/mean", "judge/mean"),
    rules=(
        gains("first helps", "weak-judge", QUALITY, by=0.05, end="mean", best=True),
        fades("is then hacked", "weak-judge", QUALITY, by=0.1),
        fades("freezing is no cure", "weak-judge-frozen", QUALITY, by=0.1, note="its judge is frozen at step 0"),
        measured(
            "the self-score is silent",
            "the mean reward at the end minus that around the step of the best held-out quality",
            reward_since_best,
            at_least=0,
        ),
        leads("it is the judge", "good-judge", "weak-judge", QUALITY, note="the same translator, another judge"),
    ),
)
