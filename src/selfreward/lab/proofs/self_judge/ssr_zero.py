"""SSR-Zero (009) on TRANS: two synthetic languages, a base that judges better than it translates.

Rules are those of the method card, written down before the run. The gate (can the judge tell better
from worse among the base's own samples?) is measured first; without it the experiment would be
about a missing judge and not about SSR.
"""

from __future__ import annotations

from typing import Any

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import POINTS, Metric, closes, gains, lasts, leads, measured, not_below, weakest
from selfreward.statistics import Estimate
from selfreward.training.comparison import Arm

QUALITY = Metric("quality", "held-out quality", POINTS)


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


def above_both(results: Results) -> Estimate:
    """How far both signals together end above the better of the two."""
    return weakest(results.lead("ssr-x", other, QUALITY.name) for other in ("ssr", "trained-metric"))


def judge_kept(results: Results) -> list[float]:
    """The trained judge's pairwise accuracy as a share of the base's, both on the base's own samples."""
    from selfreward.lab.tasks.language.trans import base as trans_base
    from selfreward.lab.tasks.language.trans import languages as trans
    from selfreward.policy.loading import load_policy

    base, prompts = load_policy("embedded:trans", device="cpu"), trans.prompts_of("dev", 100)
    start = trans_base.measure(base, prompts).gate.pairwise.value
    judges = [load_policy(str(folder), device="cpu") for folder in results.models("ssr")]
    return [trans_base.measure(base, prompts, judge=j).gate.pairwise.value / start for j in judges]


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
        gains("improves", "ssr", QUALITY),
        leads("above format-only", "ssr", "format-only", QUALITY),
        leads("above permuted", "ssr", "permuted", QUALITY, note="permuted: self-scores dealt to other outputs"),
        leads("above swapped-source", "ssr", "swapped-source", QUALITY, note="there the judge sees another source"),
        closes("closes the gap", "ssr", "true-quality", QUALITY, at_least=0.4, floor="format-only"),
        not_below("no worse than an external judge", "ssr", "external-judge", QUALITY, note="frozen, of the same size"),
        measured(
            "adds to a metric",
            "the lead of ssr-x over the better of ssr and the trained metric alone",
            above_both,
            at_least=0,
        ),
        measured(
            "the judge still sees",
            "the trained judge's pairwise accuracy, as a share of the base's on the base's samples,",
            judge_kept,
            at_least=0.9,
        ),
        lasts("no late fall", "ssr", QUALITY, within=0.03),
    ),
)
