"""Temporal self-rewarding (100) on CON: do pairs of one improving model die out, and do past and future keep them
alive?

Rules are those of the method card, written down before the run. All arms take the same number of DPO updates; the
future model's are counted, so that two iterations of two phases stand against four of self-rewarding-lm. With seven
answers of each model the full method draws 14 and 7 answers per prompt in its two phases, 10.5 on average; the
baseline draws 11. Settings are the task's; one look at both on development prompts, with a seed that the proof does not
use, left them as they were.
"""

from __future__ import annotations

from itertools import pairwise

from selfreward.lab.proofs.common.rounds import in_round, lead
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

Q = "score"


STEPS = 32


MAIN, PLAIN = "temporal-self-rewarding", "self-rewarding-lm"


def shrinking(name: str) -> Rule:
    """That a value of the baseline falls from iteration to iteration: the largest of its three changes, per seed."""

    def measure(results: Results) -> Estimate:
        rounds = [in_round(results, PLAIN, name, k) for k in range(4)]
        return mean_interval([max(b - a for a, b in pairwise(run)) for run in zip(*rounds, strict=True)])

    return Rule(
        f"the baseline's {name} shrinks",
        f"{name} of self-rewarding-lm falls in every iteration (the largest change is below 0, mean over seeds)",
        measure,
        lambda e: e.value < 0,
    )


def kept_gap(results: Results) -> Estimate:
    ours, theirs = in_round(results, MAIN, "pairs/gap", 1), in_round(results, PLAIN, "pairs/gap", 3)
    return mean_interval([a / b for a, b in zip(ours, theirs, strict=True)])


PROOF = Proof(
    slug=MAIN,
    id="100",
    claim="Answers of one improving model grow alike and its preferences die out; rejecting answers of the past and "
    "choosing those of a future model keeps them apart, and trains better at the same cost.",
    task="embedded:con",
    main=MAIN,
    arms=(
        Arm(MAIN, MAIN),
        Arm(PLAIN, PLAIN, {"iterations": 4, "group_size": 11}),
        Arm("past-only", MAIN, {"future": False, "iterations": 4}),
        Arm("future-only", MAIN, {"past": False}),
        Arm("shuffled", MAIN, {"scores": "shuffled"}),
    ),
    settings={
        "model": "embedded:con",
        "steps": STEPS,
        "eval_every": STEPS // 4,
        "probe_every": 0,
        "checkpoint_every": STEPS,
        "options": {"group_size": 7, "iterations": 2},
    },
    curves=(f"eval/{Q}", "eval/greedy_score", "pairs/gap", "grad_norm"),
    rules=(
        shrinking("pairs/gap"),
        shrinking("grad_norm"),
        Rule(
            "the gap is kept",
            "in the last iteration the gap of grades is at least twice that of self-rewarding-lm (mean over seeds)",
            kept_gap,
            lambda e: e.value >= 2,
        ),
        Rule(
            "above self-rewarding-lm",
            "temporal self-rewarding ends with a higher score (lower end of the paired interval above 0)",
            lead(MAIN, PLAIN, Q),
            lambda e: e.low > 0,
        ),
        Rule(
            "above shuffled grades",
            "it ends above shuffled grades (lower end of the paired interval above 0)",
            lead(MAIN, "shuffled", Q),
            lambda e: e.low > 0,
        ),
    ),
    reason="At this size self-rewarding does not die out within the budget, so there is nothing to rescue. With a "
    "judge this good (rank correlation .92) the baseline's gap holds at 3.4 for three iterations and falls to 2.5 in "
    "the last, its gradient does not shrink at all, and it ends at .89. Anchored rejection does keep the gap (3.7 in "
    "the last iteration) and costs nothing (past-only: .89 after the same updates). The future model does: its half of "
    "the updates is thrown away, the model moves by .01 in each second phase, and both arms with it end at .76.",
)
