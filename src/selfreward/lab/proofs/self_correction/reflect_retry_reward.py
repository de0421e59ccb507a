"""Reflect-Retry-Reward (150) on FIX: are better reflections learned, or only better retries?

The base's failed attempts misread one minus; its reflections mostly name any step, and its retries obey what the
reflection names. Of held-out failures of each trained model: how many retries succeed, how often the reflection
names the misread step (any step is right one time in five), and how many retries succeed when every failure is given
a reflection that was written on another one. Rules are those of the method card, written before the run.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import PERCENT, POINTS, Metric, ends_with, gains, leads, measured
from selfreward.training.comparison import Arm

MAIN = "reflect-retry-reward"
RETRY = Metric("retry", "the share of failures that a retry makes right", POINTS)
RIGHT = Metric("reflection", "the share of reflections that name the misread step", PERCENT)

PROOF = Proof(
    slug="reflect-retry-reward",
    id="150",
    claim="Rewarding nothing but the tokens of a reflection by the success of the retry after it teaches a model to "
    "say what went wrong, and its second try succeeds more often.",
    task="embedded:fix",
    main=MAIN,
    arms=(
        Arm(MAIN, MAIN),
        Arm("both", MAIN, {"learn": "both"}),
        Arm("shuffled", MAIN, {"shuffled": True}),
    ),
    settings={"model": "embedded:fix", "eval_every": 60, "checkpoint_every": 60, "options": {"group_size": 16}},
    rules=(
        gains("retries succeed", MAIN, RETRY),
        ends_with("reflections are right", MAIN, RIGHT, above=0.2, end="low", note="any step is right in 20 %"),
        gains("reflections improve", MAIN, RIGHT),
        measured(
            "the gain is in the reflection",
            "the share of the gain in retries that is left when each is given the reflection on another failure",
            lambda r: r.gains(MAIN, "retry swapped") / r.gains(MAIN, RETRY.name),
            below=0.5,
            unit=PERCENT,
        ),
        leads(
            "a shuffled reward teaches nothing",
            MAIN,
            "shuffled",
            RETRY,
            note="shuffled: each reflection gets the reward of another",
        ),
    ),
)
