"""Self-aligned reward (105) on EFF: can the question's own weight tell filler from thinking?

Rules are those of the method card, written down before the run. All arms start from one base, see the
same prompts and draw the same number of completions; generated tokens differ because length is what
is being changed. The group size, Adam's epsilon and the weight of the KL term were chosen on development
prompts: with 0.1 the KL term holds the filler where the base has it. No rule reads self-confidence in the term's
place and the term alone, without correctness; they were added after the others had run.
"""

from __future__ import annotations

from selfreward.lab.proofs.common.efficiency import FILLER, HARD, LENGTH, Point
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import PASS_AT_1, leads, measured, not_below, trails
from selfreward.training.comparison import Arm

RECIPE = "self-aligned-reward"


def dominated(mine: list[Point], others: list[Point]) -> float:
    """Share of my points to which the others have one that is no longer and no less accurate.

    Example: ``[(10, .9), (8, .7)]`` against ``[(9, .8)]`` is 0; against ``[(8, .9)]`` it is 1.
    """
    beaten = [any(n <= length and a >= accuracy for n, a in others) for length, accuracy in mine]
    return sum(beaten) / len(beaten)


def share_dominated(results: Results) -> list[float]:
    """:func:`dominated` of sar by the length penalty, per seed, over all evaluations after the start."""

    def points(arm: str) -> list[list[Point]]:
        runs = [results.records(arm, seed) for seed in results.seeds(arm)]
        looks = [[r for r in run if r["step"] > 0 and "eval/length" in r] for run in runs]
        return [[(r["eval/length"], r["eval/pass@1"]) for r in run] for run in looks]

    return [dominated(*runs) for runs in zip(points("sar"), points("length"), strict=True)]


PROOF = Proof(
    slug="self-aligned-reward",
    id="105",
    claim="Adding to correctness how much the question explains the answer shortens answers without losing "
    "accuracy, and spares hard questions more than a length penalty does.",
    task="embedded:eff",
    main="sar",
    arms=(
        Arm("sar", RECIPE),
        Arm("correct-only", "gold", {"advantage": "centred", "normalise": "dr_grpo"}),
        Arm("length", RECIPE, {"term": "length"}),
        Arm("confidence", RECIPE, {"term": "confidence"}),
        Arm("sar-alone", RECIPE, {"correct_weight": 0.0}),
        Arm("other-question", RECIPE, {"question": "other"}),
    ),
    settings={
        "model": "embedded:eff",
        "adam_eps": 1e-4,
        "eval_every": 20,
        "log_groups": 1,
        "options": {"group_size": 8, "kl": 0.02},
    },
    curves=("eval/pass@1", "eval/length", "eval/hard"),
    rules=(
        trails("shorter", "sar", "correct-only", LENGTH),
        not_below("as accurate", "sar", "correct-only", PASS_AT_1, within=0.005),
        leads("spares the hard", "sar", "length", HARD, end="mean", note="length: a length penalty"),
        measured(
            "not dominated",
            "the share of sar's evaluations that one of the length penalty matches or beats in length and accuracy",
            share_dominated,
            below=1,
        ),
        trails(
            "the question matters",
            "sar",
            "other-question",
            FILLER,
            note="other-question: the question is that of another prompt",
        ),
    ),
)
