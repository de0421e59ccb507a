"""RISE (046) on STEPS: does learning to verify fresh solutions make a verifier, at no cost in solving?

The base verifies hardly better than chance. Measured at temperature 1: solving on held-out prompts; verdicts on a
fixed bank of the base's kind of solutions to held-out questions, half of them wrong, so that a constant verdict is
right half the time; and a vote of 8 in which each sample counts as its own verdict says. The arm without
verification has twice the samples per prompt, which makes its generated tokens about those of RISE; the offline arm
verifies the frozen base's solutions. Rules are those of the method card, written before the run.
"""

from __future__ import annotations

from selfreward.compare import Arm
from selfreward.proofs.base import Proof, Rule
from selfreward.statistics import Estimate, mean_interval

V = "verification"


def above(name: str, other: str, words: str) -> Rule:
    return Rule(
        name,
        f"RISE verifies better than {words} (lower end of the paired interval above 0)",
        lambda r: r.lead("rise", other, V),
        lambda e: e.low > 0,
    )


def half(estimate: Estimate) -> bool:
    return estimate.low > 0.5


PROOF = Proof(
    slug="rise",
    id="046",
    claim="Reinforcing verdicts on fresh solutions beside the solutions makes a model a much better judge of its own "
    "work, and it solves no worse for it.",
    task="embedded:steps-verify",
    main="rise",
    arms=(
        Arm("rise", "rise", {"group_size": 8}),
        Arm("no-verification", "rise", {"verify": 0, "group_size": 16}),
        Arm("offline", "rise", {"offline": True, "group_size": 8}),
    ),
    settings={"model": "embedded:steps-verify", "eval_every": 60, "checkpoint_every": 60},
    rules=(
        above("above no verification", "no-verification", "the arm that only solves"),
        above("above offline verification", "offline", "the arm that verifies the frozen base's solutions"),
        Rule(
            "above a constant verdict",
            "verification accuracy on the balanced bank is above .5, that of a constant verdict (lower end)",
            lambda r: r.mean("rise", V),
            half,
        ),
        Rule(
            "both classes",
            "on both classes the mean recall over seeds is above .5",
            lambda r: mean_interval(
                [
                    min(a, b)
                    for a, b in zip(r.values("rise", "recall right"), r.values("rise", "recall wrong"), strict=True)
                ]
            ),
            lambda e: e.value > 0.5,
        ),
        Rule(
            "solves no worse",
            "RISE ends with a pass@1 not below the arm that only solves (upper end of the paired interval at least 0)",
            lambda r: r.lead("rise", "no-verification", "pass@1"),
            lambda e: e.high >= 0,
        ),
        Rule(
            "verdicts help a vote",
            "a vote of 8 weighted by verdicts is right at least as often as the plain vote (mean over seeds)",
            lambda r: mean_interval(
                [a - b for a, b in zip(r.values("rise", "weighted vote"), r.values("rise", "vote"), strict=True)]
            ),
            lambda e: e.value >= 0,
        ),
    ),
)
