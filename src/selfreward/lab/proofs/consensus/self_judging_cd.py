"""Self-judging (130) on countdown, the task that its method card names: checking is easier than solving.

The rules are those of the proof on CHAIN, written down before the run; what they measure comes from the task's own
evaluation. The judge sees the extracted answer alone, but for the arm ``whole-text``, whose judge is shown comments
too, and can be talked to with them. Puzzles that the model writes itself are left to the proof on CHAIN. Settings are
the task's own; nothing was tried for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

S = "solved"


def gate() -> dict[str, Any]:
    """Solver and judge of the base on development puzzles, before any training."""
    from selfreward.lab.tasks.arithmetic.cd import base as cd_base
    from selfreward.lab.tasks.arithmetic.cd import puzzles as cd
    from selfreward.policy.loading import load_policy

    found = cd_base.measure(load_policy("embedded:cd", device="cpu"), cd.dev(100), samples=4)
    return {name: round(value, 3) for name, value in found.items()}


def closed(results: Results) -> Estimate:
    """The self-judge's gain as a share of the exact verifier's, per seed."""

    def gains(arm: str) -> list[float]:
        before = results.values(arm, S, "before")
        return [b - a for a, b in zip(before, results.values(arm, S), strict=True)]

    return mean_interval([own / ceiling for own, ceiling in zip(gains("self-judge"), gains("verifier"), strict=True)])


def margin_over_chance(results: Results) -> Estimate:
    """Precision of the trained judge minus that of a coin, which is the share of right answers it judges."""
    pairs = zip(results.values("self-judge", "precision"), results.values("self-judge", S), strict=True)
    return mean_interval([precision - chance for precision, chance in pairs])


ARMS: Sequence[Arm] = (
    Arm("self-judge", "self-judging"),
    Arm("verifier", "gold"),
    Arm("frozen-judge", "self-judging", {"judge": "frozen"}),
    Arm("noisy-judge", "self-judging", {"noise": 0.2}),
    Arm("coin", "self-judging", {"coin": True}),
    Arm("whole-text", "self-judging", {"shows": "text"}),
)


PROOF = Proof(
    slug="self-judging-cd",
    id="130",
    claim="Where checking is easier than solving, a model that judges its own answers learns most of what an "
    "exact verifier would teach it.",
    task="embedded:cd",
    main="self-judge",
    gate=gate,
    arms=ARMS,
    settings={
        "model": "embedded:cd",
        "steps": 30,
        "prompts_per_step": 8,
        "options": {"group_size": 8},
        "eval_every": 30,
        "checkpoint_every": 30,
        "probe_every": 0,
    },
    rules=(
        Rule(
            "improves",
            "the self-judge ends above the base in held-out solve rate (lower end of the interval above 0)",
            lambda r: r.gain("self-judge", S),
            lambda e: e.low > 0,
        ),
        Rule(
            "most of the verifier's gain",
            "the self-judge gains at least 60 % of what the exact verifier gains (mean over seeds)",
            closed,
            lambda e: e.value >= 0.6,
        ),
        Rule(
            "hardly hacked",
            "at the end fewer than 10 % of fresh answers are judged right and are not (mean over seeds)",
            lambda r: r.mean("self-judge", "hack"),
            lambda e: e.value < 0.1,
        ),
        Rule(
            "a coin teaches nothing",
            "the coin of equal yes-rate gains at most 2 points of solve rate (mean over seeds)",
            lambda r: r.gain("coin", S),
            lambda e: e.value <= 0.02,
        ),
        Rule(
            "the judge still sees",
            "the trained judge's precision stays above a coin's (lower end of the interval above 0)",
            margin_over_chance,
            lambda e: e.low > 0,
        ),
    ),
)
