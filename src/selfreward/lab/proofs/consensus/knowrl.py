"""KnowRL (015) on FACT: a base that knows some keys, has seen others, and claims too many.

Rules are those of the method card, written down before the run. Feasible is a question that the frozen base
answers rightly with probability above one half; the answering model does not move when verdicts are trained.
The arm ``gold`` writes no tasks of its own, since nobody knows their truth.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import Metric, gains, keeps, leads
from selfreward.training.comparison import Arm

F1 = Metric("macro_f1", "the macro-F1 of held-out verdicts")
FEASIBLE = Metric("recall_feasible", "the recall of feasible tasks")
INFEASIBLE = Metric("recall_infeasible", "the recall of infeasible tasks")

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
        gains("self-knowledge rises", "knowrl", F1),
        keeps("feasible still recalled", "knowrl", FEASIBLE),
        keeps("infeasible still recalled", "knowrl", INFEASIBLE),
        leads("not agreement alone", "knowrl", "permuted", F1, note="permuted: paid for another task's consensus"),
    ),
)
