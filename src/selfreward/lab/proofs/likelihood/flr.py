"""FLR (142) on CHAT: sums, answers, and what the user says next.

The rules are those of the method card, written down before the run. Every arm mines its pairs from the same answers
of the base to the same prompts, and takes the same updates; only the ranking of the answers differs.

Settings were chosen on development prompts: 30 steps at a learning rate of 3e-4 (pass@1 .48 to .74) and 15 at 6e-4
(.48 to .73) come to the same, so the shorter run is taken.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from selfreward.lab.proofs.common.gates import gate
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Values
from selfreward.lab.proofs.rules import PASS_AT_1, closes, falls, gains, leads, measured
from selfreward.training.comparison import Arm

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy


def of_the_base(base: Policy) -> dict[str, float]:
    """How well the base's scores tell its right answers from its wrong ones, on development prompts."""
    from selfreward.lab.tasks.writing.chat import dev_prompts, measure

    return measure(base, dev_prompts(100))


@cache
def draws() -> list[dict[str, float]]:
    """Three draws of the base's own answers to test prompts."""
    from selfreward.lab.tasks.writing.chat import load, measure
    from selfreward.policy.loading import load_policy

    policy = load_policy("embedded:chat", device="cpu")
    return [measure(policy, load().test[:100], samples=4, seed=seed) for seed in range(3)]


def auroc(score: str) -> Values:
    """``[3]``: AUROC of a score in each of the draws."""
    return np.array([d[f"{score} auroc"] for d in draws()])


PROOF = Proof(
    slug="flr",
    id="142",
    claim="How likely a model finds thanks rather than complaints after an answer tells right answers from wrong ones "
    "better than how likely it finds the answer, and DPO on the pairs that it ranks makes answers better.",
    task="embedded:chat",
    main="flr",
    gate=gate("embedded:chat", of_the_base, needs=[("flr auroc", ">=", 0.75)]),
    arms=(
        Arm("flr", "flr"),
        Arm("likelihood-pairs", "flr", {"rank": "likelihood"}),
        Arm("gold-pairs", "flr", {"rank": "gold"}),
        Arm("swapped-bank", "flr", {"bank": "swapped"}),
    ),
    settings={"model": "embedded:chat", "eval_every": 15, "eval_prompts": 200, "checkpoint_every": 15},
    rules=(
        measured(
            "follow-ups see the truth",
            "the AUROC of FLR for the base's answers to test prompts",
            lambda r: auroc("flr"),
            at_least=0.75,
            over="draws",
        ),
        measured(
            "above likelihood",
            "the AUROC of FLR minus that of the answer's own likelihood",
            lambda r: auroc("flr") - auroc("likelihood"),
            above=0,
            end="low",
            over="draws",
        ),
        measured(
            "above a random bank",
            "the AUROC of FLR minus that of a bank with both kinds on both sides",
            lambda r: auroc("flr") - auroc("random split"),
            above=0,
            end="low",
            over="draws",
        ),
        gains("improves", "flr", PASS_AT_1),
        closes("half of gold", "flr", "gold-pairs", PASS_AT_1, at_least=0.5),
        leads(
            "likelihood pairs do not match",
            "flr",
            "likelihood-pairs",
            PASS_AT_1,
            note="pairs by the answer's likelihood",
        ),
        falls("a swapped bank misleads", "swapped-bank", PASS_AT_1, note="thanks and complaints are exchanged"),
    ),
)
