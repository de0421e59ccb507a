"""MM-UPT (085), its text side, on CHAIN with a base that can write questions, and on one that is mostly wrong.

Rules are those of the method card, written down before the run; both directions were fixed beforehand.
No image is involved; grids written as text have a proof of their own, ``mm-upt-grid``. The low-prior
regime is the base ``view-low`` (about one answer in six is right, and a shortcut leads the vote) on the
same questions.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

Q = "pass@1"


LOW = {"model": "embedded:view-low", "data": "embedded:chain-writer"}


STEPS = 30


def recovered(results: Results, arm: str) -> Estimate:
    """Share of gold's gain that ``arm`` gains, per seed."""
    start, own, gold = results.values(arm, Q, "before"), results.values(arm, Q), results.values("gold", Q)
    return mean_interval([(b - a) / (g - a) for a, b, g in zip(start, own, gold, strict=True)])


PROOF = Proof(
    slug="mm-upt",
    id="085",
    claim="Where the model is right more often than it agrees on an error, its majority vote recovers most of what "
    "gold answers give, also on questions that it wrote itself; where it is mostly wrong the vote does not help.",
    task="embedded:chain-writer",
    main="vote",
    arms=(
        Arm("vote", "mm-upt"),
        Arm("gold", "gold"),
        Arm("random-label", "mm-upt", {"pseudo_label": "random"}),
        Arm("own-questions", "mm-upt", {"questions": "in-context"}),
        Arm("low-prior", "mm-upt", settings=LOW),
    ),
    settings={
        "model": "embedded:chain-writer",
        "data": "embedded:chain-writer",
        "steps": STEPS,
        "eval_every": STEPS,
        "eval_prompts": 200,
        "probe_every": 0,
        "checkpoint_every": STEPS,
    },
    rules=(
        Rule(
            "recovers gold",
            "the vote gains at least 70 % of what gold gains in held-out pass@1 (lower end of the interval)",
            lambda r: recovered(r, "vote"),
            lambda e: e.low >= 0.7,
        ),
        Rule(
            "above random labels",
            "the vote ends above random pseudo-labels in held-out pass@1 (lower end of the paired interval above 0)",
            lambda r: r.lead("vote", "random-label", Q),
            lambda e: e.low > 0,
        ),
        Rule(
            "own questions serve",
            "on questions that the model wrote, the vote gains at least 70 % of what gold gains on given ones "
            "(lower end of the interval)",
            lambda r: recovered(r, "own-questions"),
            lambda e: e.low >= 0.7,
        ),
        Rule(
            "no help where mostly wrong",
            "in the low-prior regime the vote does not end above its start in held-out pass@1 (mean over seeds)",
            lambda r: r.gain("low-prior", Q),
            lambda e: e.value <= 0,
        ),
    ),
)
