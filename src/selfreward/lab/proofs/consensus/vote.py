"""The bare majority vote on CHAIN, next to gold, the controls, and two tempting rewards.

This is also what ``selfreward demo`` shows with one seed. The base was designed: it often guesses and
sometimes reasons, and reasoning is right far more often, so that wrong answers scatter and right ones
coincide. The vote elicits and sharpens what is there; it does not teach arithmetic.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import PASS_AT_1, falls, gains, not_below, stays
from selfreward.training.comparison import Arm

ARMS = (
    Arm("vote", "vote"),
    Arm("gold", "gold"),
    Arm("random", "random"),
    Arm("format-only", "format-only"),
    Arm("naive-judge", "judge", {"template": "naive-judge"}),
    Arm("self-certainty", "certainty"),
)

# Small enough for minutes on a laptop; the evidence measures on more prompts.
DEMO_SETTINGS = {"model": "embedded:chain", "eval_every": 6, "eval_prompts": 100}

PROOF = Proof(
    slug="vote",
    id="vote",
    claim="A majority vote of the model's own answers trains about as well as gold answers, where the "
    "most frequent answer is right for most prompts.",
    task="embedded:chain",
    main="vote",
    arms=ARMS,
    settings={"model": "embedded:chain", "eval_every": 12, "eval_prompts": 400},
    rules=(
        gains("improves", "vote", PASS_AT_1, by=0.25),
        not_below("near gold", "vote", "gold", PASS_AT_1, within=0.05, end="low"),
        stays("random is flat", "random", PASS_AT_1, within=0.05),
        stays("format-only is flat", "format-only", PASS_AT_1, within=0.05),
        falls("a naive judge misleads", "naive-judge", PASS_AT_1),
        falls("certainty misleads", "self-certainty", PASS_AT_1),
    ),
)
