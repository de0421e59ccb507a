"""SCoRe (020) on FIX: does shaped two-stage reinforcement teach a second attempt that corrects?

The base makes two attempts that are equally good and independent of each other. All arms take the same number of
steps on the same prompts, with two attempts per sample (one for single-turn reinforcement). Measured at temperature
1 on held-out prompts. Rules are those of the method card, written before the run; intervals are over seeds.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import PERCENT, POINTS, Metric, ends_with, keeps, leads, not_below, retains
from selfreward.training.comparison import Arm

FIRST = Metric("acc@t1", "accuracy of first attempts", POINTS)
SECOND = Metric("acc@t2", "accuracy of second attempts", POINTS)
DELTA = Metric("delta", "accuracy of second attempts minus that of first ones", POINTS)
EDIT = Metric("edit", "the share of changed answers", PERCENT)

PROOF = Proof(
    slug="score",
    id="020",
    claim="A model that is held to its own first attempts and then paid for progress learns to correct itself, where "
    "plain reinforcement of both attempts learns one good answer twice.",
    task="embedded:fix",
    main="score",
    arms=(
        Arm("score", "score"),
        Arm("naive", "score", {"alpha": 0.0, "stage_one": 0.0}),
        Arm("stage-two-only", "score", {"stage_one": 0.0}),
        Arm("single-turn", "gold"),
        Arm("pair-sft", "pair-sft"),
    ),
    settings={
        "model": "embedded:fix",
        "adam_eps": 1e-4,
        "eval_every": 60,
        "checkpoint_every": 60,
        "options": {"group_size": 8},
    },
    rules=(
        leads("corrects more", "score", "naive", DELTA, apart=True),
        not_below("second attempts no worse", "score", "naive", SECOND),
        ends_with("keeps editing", "score", EDIT, at_least=0.05),
        retains("naive stops editing", "naive", EDIT, at_most=0.5),
        keeps("no sandbagging", "score", FIRST),
    ),
)
