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

import numpy as np

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import POINTS, Metric, does_not_gain, gains, leads, measured, not_below
from selfreward.training.comparison import Arm

BOTH_VIEWS = Metric("pass@1", "held-out pass@1 over both views", POINTS)
MILD = {"model": "embedded:view"}
STEPS = 40

# The part that `selfreward demo` shows, beside the vote that works.
DEMO_FOLDER = "trap"
DEMO_TITLE = "A trap: the most frequent answer is wrong"
DEMO_ARMS = (Arm("vote", "vote"), Arm("co-reward", "co-reward"))
DEMO_SETTINGS = {"model": "embedded:view-trap", "steps": STEPS, "eval_every": 8}


def falls_more(results: Results) -> Values:
    """Per seed whether most of the vote's samples in view 1 are the shortcut, minus whether most of Co-Reward's are."""
    vote, ours = ((results.values(arm, "view1/shortcut") > 0.5).astype(np.float64) for arm in ("vote", "co-reward"))
    return vote - ours


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


def label_trend(results: Results) -> list[float]:
    """Accuracy of the pseudo-labels in the last third of training minus that in the first third, per seed."""
    curves = [label_accuracy(results.run("co-reward", seed)) for seed in results.seeds("co-reward")]
    return [float(np.mean(c[-(len(c) // 3) :]) - np.mean(c[: len(c) // 3])) for c in curves]


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
        leads("the swap teaches", "co-reward", "own-both", BOTH_VIEWS, note="own-both: the same two views, no swap"),
        gains("improves", "co-reward", BOTH_VIEWS),
        measured(
            "labels do not decay",
            "the accuracy of co-reward's pseudo-labels in the last third of training minus that in the first",
            label_trend,
            at_least=0,
            end="low",
        ),
        measured(
            "the vote falls",
            "the share of seeds in which more than half of the vote's final samples in view 1 are the shortcut, minus "
            "the share in which more than half of co-reward's are,",
            falls_more,
            above=0,
        ),
        does_not_gain(
            "mismatched pairs teach nothing",
            "mismatched",
            BOTH_VIEWS,
            within=0.05,
            note="mismatched: labels from the other view of another prompt",
        ),
        not_below(
            "the swap costs nothing",
            "mild-co-reward",
            "mild-own-both",
            BOTH_VIEWS,
            within=0.02,
            end="low",
            note="mild: on a base whose votes are healthy",
        ),
    ),
)
