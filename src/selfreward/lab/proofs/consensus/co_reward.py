"""Co-Reward (003) on VIEW: two spellings of a problem whose shortcuts contradict each other.

Rules are those of the method card, written down before the run. The card asks for a shortcut that
catches the plain vote; the base ``view-trap`` has one (the most frequent answer is wrong on most
questions, in both views). On the base ``view`` (a shortcut in view 1 that says 1, behind which stands
less than behind the truth) votes are healthy; there the question is what the swap costs.

All arms generate as many tokens: ``vote`` gives its 16 samples to view 1 alone, the others 8 to each
view. ``own-both`` is the essential comparison: the same two views and no swap.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

Q = "pass@1"


MILD = {"model": "embedded:view"}


STEPS = 40


# The part that `selfreward demo` shows, beside the vote that works.
DEMO_FOLDER = "trap"


DEMO_TITLE = "A trap: the most frequent answer is wrong"


DEMO_ARMS = (Arm("vote", "vote"), Arm("co-reward", "co-reward"))


DEMO_SETTINGS = {"model": "embedded:view-trap", "steps": STEPS, "eval_every": 8}


def fallen(results: Results, arm: str) -> list[bool]:
    """Per seed: whether more than half of the arm's final samples in view 1 are the shortcut."""
    return [share > 0.5 for share in results.values(arm, "view1/shortcut")]


def falls_more(results: Results) -> Estimate:
    """Share of seeds in which the vote falls for the shortcut, minus the share in which Co-Reward does."""
    ours, theirs = fallen(results, "co-reward"), fallen(results, "vote")
    return mean_interval([float(v) - float(c) for c, v in zip(ours, theirs, strict=True)])


def label_accuracy(run: Path) -> list[float]:
    """Share of right pseudo-labels per step; a group without a label counts as wrong."""
    from selfreward.lab.tasks.arithmetic.chain import Problem

    right: Counter[int] = Counter()
    groups: Counter[int] = Counter()
    with (run / "rollouts.jsonl").open(encoding="utf-8") as file:
        for group in map(json.loads, file):
            truth = str(Problem.parse(group["prompt"]).answer)
            right[group["step"]] += group["pseudo_label"] == truth
            groups[group["step"]] += 1
    return [right[step] / groups[step] for step in sorted(groups)]


def label_trend(results: Results) -> Estimate:
    """Accuracy of the pseudo-labels in the last third of training minus that in the first third, per seed."""
    trends = []
    for seed in sorted(results.arms["co-reward"]):
        curve = label_accuracy(results.root / "co-reward" / f"seed-{seed}")
        third = len(curve) // 3
        trends.append(sum(curve[-third:]) / third - sum(curve[:third]) / third)
    return mean_interval(trends)


PROOF = Proof(
    slug="co-reward",
    id="003",
    claim="Where a shortcut leads the vote, labels from another wording of the question, whose shortcut leads "
    "elsewhere, bring the truth back at the same cost; two wordings that each keep their own vote do not.",
    task="embedded:view-trap",
    main="co-reward",
    arms=(
        Arm("co-reward", "co-reward"),
        Arm("own-both", "co-reward", {"pairing": "own"}),
        Arm("vote", "vote"),
        Arm("union", "co-reward", {"pairing": "union"}),
        Arm("mismatched", "co-reward", {"pairing": "mismatched"}),
        Arm("gold-both", "co-reward", {"pairing": "gold"}),
        Arm("mild-co-reward", "co-reward", settings=MILD),
        Arm("mild-own-both", "co-reward", {"pairing": "own"}, settings=MILD),
    ),
    settings={
        "model": "embedded:view-trap",
        "steps": STEPS,
        "eval_every": 20,
        "probe_every": 0,
        "checkpoint_every": 60,
        "log_groups": -1,
    },
    rules=(
        Rule(
            "the swap teaches",
            "co-reward ends above own votes on both views, equal data, in held-out pass@1 over both views "
            "(lower end of the paired interval above 0)",
            lambda r: r.lead("co-reward", "own-both", Q),
            lambda e: e.low > 0,
        ),
        Rule(
            "improves",
            "co-reward ends above the base in held-out pass@1 over both views (lower end of the interval above 0)",
            lambda r: r.gain("co-reward", Q),
            lambda e: e.low > 0,
        ),
        Rule(
            "labels do not decay",
            "the accuracy of co-reward's pseudo-labels is no lower in the last third of training than in the "
            "first (lower end of the interval at least 0)",
            label_trend,
            lambda e: e.low >= 0,
        ),
        Rule(
            "the vote falls",
            "the plain vote ends with more than half of its answers a shortcut in more seeds than co-reward",
            falls_more,
            lambda e: e.value > 0,
        ),
        Rule(
            "mismatched pairs teach nothing",
            "labels from the other view of another prompt end at most 5 points above the base (mean over seeds)",
            lambda r: r.gain("mismatched", Q),
            lambda e: e.value <= 0.05,
        ),
        Rule(
            "the swap costs nothing",
            "where votes are healthy, co-reward ends at most 2 points below own votes on both views "
            "(lower end of the paired interval)",
            lambda r: r.lead("mild-co-reward", "mild-own-both", Q),
            lambda e: e.low >= -0.02,
        ),
    ),
)
