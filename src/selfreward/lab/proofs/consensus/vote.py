"""The bare majority vote on CHAIN, next to gold, the controls, and two tempting rewards.

This is also what ``selfreward demo`` shows with one seed. The base was designed: it often guesses and
sometimes reasons, and reasoning is right far more often, so that wrong answers scatter and right ones
coincide. The vote elicits and sharpens what is there; it does not teach arithmetic.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof, Rule
from selfreward.training.comparison import Arm

POINTS_TO_GAIN, POINTS_TO_GOLD, POINTS_OF_DRIFT = 0.25, 0.05, 0.05


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
        Rule(
            "improves",
            "vote ends at least 25 points of held-out pass@1 above the base (lower end of the interval)",
            lambda r: r.gain("vote", "pass@1"),
            lambda e: e.low >= POINTS_TO_GAIN,
        ),
        Rule(
            "near gold",
            "vote ends at most 5 points of pass@1 below gold (lower end of the interval)",
            lambda r: r.lead("vote", "gold", "pass@1"),
            lambda e: e.low >= -POINTS_TO_GOLD,
        ),
        Rule(
            "random is flat",
            "random ends within 5 points of pass@1 of the base (mean over seeds)",
            lambda r: r.gain("random", "pass@1"),
            lambda e: abs(e.value) <= POINTS_OF_DRIFT,
        ),
        Rule(
            "format-only is flat",
            "format-only ends within 5 points of pass@1 of the base (mean over seeds)",
            lambda r: r.gain("format-only", "pass@1"),
            lambda e: abs(e.value) <= POINTS_OF_DRIFT,
        ),
        Rule(
            "a naive judge misleads",
            "the naive judge ends below the base in pass@1 (upper end of the interval)",
            lambda r: r.gain("naive-judge", "pass@1"),
            lambda e: e.high < 0,
        ),
        Rule(
            "certainty misleads",
            "self-certainty ends below the base in pass@1 (upper end of the interval)",
            lambda r: r.gain("self-certainty", "pass@1"),
            lambda e: e.high < 0,
        ),
    ),
)
