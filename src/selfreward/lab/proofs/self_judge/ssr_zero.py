"""SSR-Zero (009) on TRANS: two synthetic languages, a base that judges better than it translates.

Rules are those of the method card, written down before the run. The gate (can the judge tell better
from worse among the base's own samples?) is measured first; without it the experiment would be
about a missing judge and not about SSR.
"""

from __future__ import annotations

from typing import Any

from selfreward.lab.proofs.proof import Proof, Results, Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

Q = "quality"


def judge_of(base: str) -> dict[str, Any]:
    """Judge against truth on a base's own samples for development sentences, before any training."""
    from selfreward.lab.tasks.language.trans import base as trans_base
    from selfreward.lab.tasks.language.trans import languages as trans
    from selfreward.policy.loading import load_policy

    found = trans_base.measure(load_policy(base, device="cpu"), trans.prompts_of("dev", 100))
    return {
        "pairwise_accuracy": found.gate.pairwise.value,
        "ties": found.gate.ties,
        "quality": found.quality,
        "passed": found.gate.passed,
    }


def gate() -> dict[str, Any]:
    """The judge of the shipped base."""
    from selfreward.lab.embedded import base_path

    for name in ("trans-other", "trans-large", "trans-metric"):
        base_path(name)  # built once, before several arms ask for them at the same time
    return judge_of("embedded:trans")


def closed(results: Results, arm: str) -> Estimate:
    """Share of the way from format-only to true quality that ``arm`` goes, per seed."""
    floor, ceiling = results.values("format-only", Q), results.values("true-quality", Q)
    own = results.values(arm, Q)
    return mean_interval([(a - f) / (c - f) for a, f, c in zip(own, floor, ceiling, strict=True)])


def best_and_last(results: Results) -> Estimate:
    """How far quality falls from its best evaluation to the last one."""
    pairs = zip(results.values("ssr", Q, "best"), results.values("ssr", Q), strict=True)
    return mean_interval([best - last for best, last in pairs])


def judge_kept(results: Results) -> Estimate:
    """The trained judge's pairwise accuracy as a share of the base's, both on the base's own samples."""
    from selfreward.lab.tasks.language.trans import base as trans_base
    from selfreward.lab.tasks.language.trans import languages as trans
    from selfreward.policy.loading import load_policy

    base, prompts = load_policy("embedded:trans", device="cpu"), trans.prompts_of("dev", 100)
    start = trans_base.measure(base, prompts).gate.pairwise.value
    judges = [load_policy(str(folder), device="cpu") for folder in results.models("ssr")]
    return mean_interval([trans_base.measure(base, prompts, judge=j).gate.pairwise.value / start for j in judges])


def above(other: str, words: str) -> Rule:
    return Rule(
        f"above {other}",
        f"ssr ends above {words} in held-out quality (lower end of the paired interval above 0)",
        lambda r: r.lead("ssr", other, Q),
        lambda e: e.low > 0,
    )


PROOF = Proof(
    slug="ssr-zero",
    id="009",
    claim="A model that translates and scores its own translations improves by GRPO on its own score, "
    "without references, more than a format reward explains.",
    task="embedded:trans",
    main="ssr",
    gate=gate,
    arms=(
        Arm("ssr", "ssr-zero"),
        Arm("format-only", "format-only"),
        Arm("true-quality", "true-quality", {"similarity": "edit"}),
        Arm("ssr-frozen", "ssr-zero", {"judge": "frozen"}),
        Arm("external-judge", "ssr-zero", {"judge": "embedded:trans-other"}),
        Arm("external-judge-large", "ssr-zero", {"judge": "embedded:trans-large"}),
        Arm("ssr-number", "ssr-zero", {"readout": "number", "judge_tokens": 2}),
        Arm("ssr-mean", "ssr-zero", {"readout": "mean", "judge_tokens": 2}),
        Arm("trained-metric", "ssr-x-zero", {"metric": "judge:embedded:trans-metric", "self_weight": 0.0}),
        Arm("ssr-x", "ssr-x-zero", {"metric": "judge:embedded:trans-metric"}),
        Arm("permuted", "ssr-zero", {"corrupt": "permuted"}),
        Arm("swapped-source", "ssr-zero", {"corrupt": "swapped"}),
        Arm("vote", "vote"),
        Arm("mbr", "mbr"),
        Arm("cycle", "cycle"),
        Arm("negative-entropy", "certainty", {"statistic": "entropy"}),
        Arm("self-certainty", "certainty"),
    ),
    settings={"model": "embedded:trans", "eval_every": 15, "checkpoint_every": 75},
    curves=("eval/quality", "reward/mean", "judge/mean"),
    reason="The core of the claim holds: self-scores teach far more than format, and neither permuted scores nor a "
    "judge that sees another source do. What fails is the comparison with judges that do not move: at 0.1 million "
    "parameters a judge frozen at step 0, or an external one of the same size, ends about a point higher. Actor and "
    "judge share so few weights that training the one shifts the other. Nor does the trained metric add anything: "
    "alone it ends below the self-judge. The paper compares a 7B model with other external judges and with COMET.",
    rules=(
        Rule(
            "improves",
            "ssr ends above the base in held-out quality (lower end of the interval above 0)",
            lambda r: r.gain("ssr", Q),
            lambda e: e.low > 0,
        ),
        above("format-only", "the format-only arm"),
        above("permuted", "the arm with permuted self-scores"),
        above("swapped-source", "the arm whose judge sees another source"),
        Rule(
            "closes the gap",
            "ssr closes at least 40 % of the distance from format-only to true quality (mean over seeds)",
            lambda r: closed(r, "ssr"),
            lambda e: e.value >= 0.4,
        ),
        Rule(
            "no worse than an external judge",
            "ssr ends no lower than with a frozen external judge of the same size (mean over seeds)",
            lambda r: r.lead("ssr", "external-judge", Q),
            lambda e: e.value >= 0,
        ),
        Rule(
            "adds to a metric",
            "ssr-x ends no lower than the better of ssr and the trained metric alone (mean over seeds)",
            lambda r: min((r.lead("ssr-x", other, Q) for other in ("ssr", "trained-metric")), key=lambda e: e.value),
            lambda e: e.value >= 0,
        ),
        Rule(
            "the judge still sees",
            "the trained judge keeps 0.9 of the base's pairwise accuracy, on the base's samples (mean over seeds)",
            judge_kept,
            lambda e: e.value >= 0.9,
        ),
        Rule(
            "no late fall",
            "ssr's last quality is within 3 points of its best (mean over seeds)",
            best_and_last,
            lambda e: e.value <= 0.03,
        ),
    ),
)
