"""SSR-Zero (009) with a judge that has read little: it first helps and is then hacked.

The base ``trans-weak-judge`` differs from ``trans`` in its judge documents alone: 6 % of the text
instead of the usual share, and edited references only, none of the errors that the base itself makes.
The rules were written down after one throw-away run and before the three seeds.
"""

from __future__ import annotations

from functools import partial

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.lab.proofs.self_judge.ssr_zero import judge_of
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

Q = "quality"


BASE = "embedded:trans-weak-judge"


def fall(results: Results, arm: str) -> Estimate:
    """From the best evaluation of ``arm`` to its last one."""
    pairs = zip(results.values(arm, Q, "best"), results.values(arm, Q), strict=True)
    return mean_interval([best - last for best, last in pairs])


def rise(results: Results, arm: str) -> Estimate:
    """From the start of ``arm`` to its best evaluation."""
    pairs = zip(results.values(arm, Q, "before"), results.values(arm, Q, "best"), strict=True)
    return mean_interval([best - start for start, best in pairs])


def judge_content(results: Results) -> Estimate:
    """Reward at the last step minus reward around the step of the best truth: what the self-score says of the fall."""
    differences = []
    for seed in sorted(results.arms["weak-judge"]):
        found = results.curve("weak-judge", seed, ("eval/quality", "reward/mean"))
        best = max(range(len(found["step"])), key=lambda i: found["eval/quality"][i])
        differences.append(found["reward/mean"][-1] - found["reward/mean"][best])
    return mean_interval(differences)


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
        Rule(
            "first helps",
            "the best evaluation lies at least 5 points above the base (mean over seeds)",
            lambda r: rise(r, "weak-judge"),
            lambda e: e.value >= 0.05,
        ),
        Rule(
            "is then hacked",
            "the last evaluation lies at least 10 points below the best (mean over seeds)",
            lambda r: fall(r, "weak-judge"),
            lambda e: e.value >= 0.1,
        ),
        Rule(
            "freezing is no cure",
            "with the judge frozen at step 0 quality falls by at least 10 points from its best, too (mean over seeds)",
            lambda r: fall(r, "weak-judge-frozen"),
            lambda e: e.value >= 0.1,
        ),
        Rule(
            "the self-score is silent",
            "the reward at the end is no lower than at the step of the best truth (mean over seeds)",
            judge_content,
            lambda e: e.value >= 0,
        ),
        Rule(
            "it is the judge",
            "the same translator with a good judge ends above it (lower end of the paired interval above 0)",
            lambda r: r.lead("good-judge", "weak-judge", Q),
            lambda e: e.low > 0,
        ),
    ),
)
