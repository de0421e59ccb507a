"""SCoRe (020) on FIX: does shaped two-stage reinforcement teach a second attempt that corrects?

The base makes two attempts that are equally good and independent of each other. All arms take the same number of
steps on the same prompts, with two attempts per sample (one for single-turn reinforcement). Measured at temperature
1 on held-out prompts. Rules are those of the method card, written before the run; intervals are over seeds.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm


def apart(arm: str, other: str, metric: str) -> Rule:
    def measure(results: Results) -> Estimate:
        a, b = results.mean(arm, metric), results.mean(other, metric)
        return Estimate(a.value - b.value, a.low - b.high, a.high - b.low)

    return Rule(
        "corrects more",
        f"{arm} ends with a larger {metric} (second minus first attempt) than {other}, with intervals apart",
        measure,
        lambda e: e.low > 0,
    )


def halved(results: Results) -> Estimate:
    """The naive arm's edit rate as a share of the base's."""
    pairs = zip(results.values("naive", "edit"), results.values("naive", "edit", "before"), strict=True)
    return mean_interval([after / before for after, before in pairs])


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
        apart("score", "naive", "delta"),
        Rule(
            "second attempts no worse",
            "score ends with an accuracy of second attempts of at least the naive arm's (mean over seeds)",
            lambda r: r.lead("score", "naive", "acc@t2"),
            lambda e: e.value >= 0,
        ),
        Rule(
            "keeps editing",
            "score ends with answers changed in at least one trajectory in twenty",
            lambda r: r.mean("score", "edit"),
            lambda e: e.value >= 0.05,
        ),
        Rule(
            "naive stops editing",
            "the naive arm changes answers at most half as often as the base does (mean over seeds)",
            halved,
            lambda e: e.value <= 0.5,
        ),
        Rule(
            "no sandbagging",
            "the first attempts of score are no worse than the base's (mean gain at least 0)",
            lambda r: r.gain("score", "acc@t1"),
            lambda e: e.value >= 0,
        ),
    ),
)
