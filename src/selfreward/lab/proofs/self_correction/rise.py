"""RISE (046) on STEPS: does learning to verify fresh solutions make a verifier, at no cost in solving?

The base verifies hardly better than chance. Measured at temperature 1: solving on held-out prompts; verdicts on a
fixed bank of the base's kind of solutions to held-out questions, half of them wrong, so that a constant verdict is
right half the time; and a vote of 8 in which each sample counts as its own verdict says. The arm without
verification has twice the samples per prompt, which makes its generated tokens about those of RISE; the offline arm
verifies the frozen base's solutions. Rules are those of the method card, written before the run.

All arms use ``estimator="group"``, GRPO with baselines of their own for derived problems, and not the published PPO:
sixty steps are short for a critic that starts at nothing.
"""

from __future__ import annotations

import numpy as np

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import PASS_AT_1, PERCENT, Metric, ends_with, leads, measured, not_below
from selfreward.training.comparison import Arm

VERDICTS = Metric("verification", "accuracy of verdicts on the balanced bank", PERCENT)

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
        leads("above no verification", "rise", "no-verification", VERDICTS),
        leads(
            "above offline verification",
            "rise",
            "offline",
            VERDICTS,
            note="offline verifies solutions of the frozen base",
        ),
        ends_with(
            "above a constant verdict", "rise", VERDICTS, above=0.5, end="low", note="a constant verdict reaches 50 %"
        ),
        measured(
            "both classes",
            "the recall of rise's verdicts on right or on wrong solutions, whichever is lower,",
            lambda r: np.minimum(r.values("rise", "recall right"), r.values("rise", "recall wrong")),
            above=0.5,
            unit=PERCENT,
        ),
        not_below("solves no worse", "rise", "no-verification", PASS_AT_1, end="high", note="it only solves"),
        measured(
            "verdicts help a vote",
            "the lead of a vote of 8 weighted by verdicts over the plain vote",
            lambda r: r.values("rise", "weighted vote") - r.values("rise", "vote"),
            at_least=0,
        ),
    ),
    reason="All arms that the rules read ran with group baselines (GRPO), not with the published PPO: sixty steps are "
    "short for a critic that starts at nothing. What is verified is what the model writes now, and that is "
    "right ever more often: 59 % at the start, 88 % at the end. A verdict of Y without a look then pays nearly "
    "always, and looking is unlearned where it is needed: at the end 34 to 39 % of the critiques walk through "
    "the steps; with solutions of the frozen base, of which two in five stay wrong, 72 to 78 %. On the bank, of "
    "which half is wrong, RISE finds 36 % of the wrong ones (offline 65 %) and is right in 64 % of cases "
    "(offline 77 %, without verification 58 %). On its own solutions its verdicts are right in 86 % of cases, "
    "more than those of the offline arm (83 %), but Y throughout would be in 88 %. It solves 2.4 points less "
    "than the arm with twice the solutions per prompt; a vote of 8 is at its ceiling in all arms.",
)
