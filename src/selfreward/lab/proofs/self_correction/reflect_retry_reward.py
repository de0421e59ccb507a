"""Reflect-Retry-Reward (150) on FIX: are better reflections learned, or only better retries?

The base's failed attempts misread one minus; its reflections mostly name any step, and its retries obey what the
reflection names. Of held-out failures of each trained model: how many retries succeed, how often the reflection
names the misread step (any step is right one time in five), and how many retries succeed when every failure is given
a reflection that was written on another one. Rules are those of the method card, written before the run.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

MAIN, RETRY, SWAPPED = "reflect-retry-reward", "retry", "retry swapped"


def kept_when_swapped(results: Results) -> Estimate:
    """Share of the gain in retries that is still there when reflections are swapped between failures."""
    found = []
    for run in results.arms[MAIN].values():
        gain = run["after"][RETRY] - run["before"][RETRY]
        found.append((run["after"][SWAPPED] - run["before"][SWAPPED]) / gain)
    return mean_interval(found)


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
        Rule(
            "retries succeed",
            "retries after a failure succeed more often than the base's (lower end of the interval above 0)",
            lambda r: r.gain(MAIN, RETRY),
            lambda e: e.low > 0,
        ),
        Rule(
            "reflections are right",
            "the reflection names the misread step more often than one time in five (lower end of the interval)",
            lambda r: r.mean(MAIN, "reflection"),
            lambda e: e.low > 0.2,
        ),
        Rule(
            "reflections improve",
            "the reflection names the misread step more often than the base's (lower end of the interval above 0)",
            lambda r: r.gain(MAIN, "reflection"),
            lambda e: e.low > 0,
        ),
        Rule(
            "the gain is in the reflection",
            "given reflections on other failures, retries keep less than half of the gain (mean over seeds)",
            kept_when_swapped,
            lambda e: e.value < 0.5,
        ),
        Rule(
            "a shuffled reward teaches nothing",
            "trained on the reward of another reflection, retries end below (lower end of the paired interval above 0)",
            lambda r: r.lead(MAIN, "shuffled", RETRY),
            lambda e: e.low > 0,
        ),
    ),
)
