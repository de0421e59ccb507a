"""FLR (142) on CHAT: sums, answers, and what the user says next.

The rules are those of the method card, written down before the run. Every arm mines its pairs from the same answers
of the base to the same prompts, and takes the same updates; only the ranking of the answers differs.

Settings were chosen on development prompts: 30 steps at a learning rate of 3e-4 (pass@1 .48 to .74) and 15 at 6e-4
(.48 to .73) come to the same, so the shorter run is taken.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

P = "pass@1"


def gate() -> dict[str, Any]:
    """How well the base's scores tell its right answers from its wrong ones, on development prompts, untrained."""
    from selfreward.lab.tasks.writing.chat import dev_prompts, measure
    from selfreward.policy.loading import load_policy

    found = measure(load_policy("embedded:chat", device="cpu"), dev_prompts(100))
    return {**found, "passed": found["flr auroc"] >= 0.75}


@cache
def draws() -> list[dict[str, float]]:
    """Three draws of the base's own answers to test prompts."""
    from selfreward.lab.tasks.writing.chat import load, measure
    from selfreward.policy.loading import load_policy

    policy = load_policy("embedded:chat", device="cpu")
    return [measure(policy, load().test[:100], samples=4, seed=seed) for seed in range(3)]


def base_auroc(name: str, less: str = "") -> Estimate:
    """AUROC over the three draws, minus that of another score."""
    return mean_interval([d[f"{name} auroc"] - (d[f"{less} auroc"] if less else 0.0) for d in draws()])


def of_gold(results: Results) -> Estimate:
    """Gain of the mined pairs as a share of the gain of gold pairs, per seed."""
    start = results.values("flr", P, "before")
    rows = zip(results.values("flr", P), results.values("gold-pairs", P), start, strict=True)
    return mean_interval([(own - base) / (gold - base) for own, gold, base in rows])


PROOF = Proof(
    slug="flr",
    id="142",
    claim="How likely a model finds thanks rather than complaints after an answer tells right answers from wrong ones "
    "better than how likely it finds the answer, and DPO on the pairs that it ranks makes answers better.",
    task="embedded:chat",
    main="flr",
    gate=gate,
    arms=(
        Arm("flr", "flr"),
        Arm("likelihood-pairs", "flr", {"rank": "likelihood"}),
        Arm("gold-pairs", "flr", {"rank": "gold"}),
        Arm("swapped-bank", "flr", {"bank": "swapped"}),
    ),
    settings={"model": "embedded:chat", "eval_every": 15, "eval_prompts": 200, "checkpoint_every": 15},
    rules=(
        Rule(
            "follow-ups see the truth",
            "AUROC of FLR for the base's answers to test prompts is at least 0.75 (mean over three draws)",
            lambda r: base_auroc("flr"),
            lambda e: e.value >= 0.75,
        ),
        Rule(
            "above likelihood",
            "AUROC of FLR is above that of the answer's own likelihood (lower end of the interval above 0)",
            lambda r: base_auroc("flr", less="likelihood"),
            lambda e: e.low > 0,
        ),
        Rule(
            "above a random bank",
            "AUROC of FLR is above that of a bank with both kinds on both sides (lower end of the interval above 0)",
            lambda r: base_auroc("flr", less="random split"),
            lambda e: e.low > 0,
        ),
        Rule(
            "improves",
            "flr ends above the base in held-out pass@1 (lower end of the interval above 0)",
            lambda r: r.gain("flr", P),
            lambda e: e.low > 0,
        ),
        Rule(
            "half of gold",
            "flr reaches at least half of the gain of gold pairs (mean over seeds)",
            of_gold,
            lambda e: e.value >= 0.5,
        ),
        Rule(
            "likelihood pairs do not match",
            "flr ends above pairs ranked by the answer's likelihood (lower end of the paired interval above 0)",
            lambda r: r.lead("flr", "likelihood-pairs", P),
            lambda e: e.low > 0,
        ),
        Rule(
            "a swapped bank misleads",
            "with thanks and complaints exchanged pass@1 ends below the base (upper end of the interval below 0)",
            lambda r: r.gain("swapped-bank", P),
            lambda e: e.high < 0,
        ),
    ),
)
