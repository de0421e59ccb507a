"""KnowRL (015) on FACT: a base that knows some keys, has seen others, and claims too many.

Rules are those of the method card, written down before the run. Feasible is a question that the frozen base
answers rightly with probability above one half; the answering model does not move when verdicts are trained.
The arm ``gold`` writes no tasks of its own, since nobody knows their truth.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import Rule
from selfreward.training.comparison import Arm

F1 = "macro_f1"


def kept(kind: str) -> Rule:
    return Rule(
        f"{kind} still recalled",
        f"the recall of {kind} tasks ends no lower than it began (mean over seeds)",
        lambda r: r.gain("knowrl", f"recall_{kind}"),
        lambda e: e.value >= 0,
    )


PROOF = Proof(
    slug="knowrl",
    id="015",
    claim="A model learns what it can do by agreeing with its own majority about tasks of which some are "
    "its own, from a handful of marked examples.",
    task="embedded:fact",
    main="knowrl",
    arms=(
        Arm("knowrl", "knowrl"),
        Arm("permuted", "knowrl", {"truth": "permuted"}),
        Arm("gold", "knowrl", {"truth": "gold"}),
        Arm("unbalanced", "knowrl", {"balance": False}),
        Arm("data-tasks-only", "knowrl", {"write": 0}),
    ),
    settings={"model": "embedded:fact", "eval_every": 20},
    rules=(
        Rule(
            "self-knowledge rises",
            "macro-F1 of held-out verdicts rises from its start (lower end of the interval above 0)",
            lambda r: r.gain("knowrl", F1),
            lambda e: e.low > 0,
        ),
        kept("feasible"),
        kept("infeasible"),
        Rule(
            "not agreement alone",
            "knowrl ends above the arm that is paid for another task's consensus, in macro-F1 (lower end of the "
            "paired interval above 0)",
            lambda r: r.lead("knowrl", "permuted", F1),
            lambda e: e.low > 0,
        ),
    ),
)
