"""MM-UPT (085), its text side, on CHAIN with a base that can write questions, and on one that is mostly wrong.

Rules are those of the method card, written down before the run; both directions were fixed beforehand.
No image is involved; grids written as text have a proof of their own, ``mm-upt-grid``. The low-prior
regime is the base ``view-low`` (about one answer in six is right, and a shortcut leads the vote) on the
same questions.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import PASS_AT_1, closes, does_not_gain, leads
from selfreward.training.comparison import Arm

LOW = {"model": "embedded:view-low", "data": "embedded:chain-writer"}
STEPS = 30

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
        closes("recovers gold", "vote", "gold", PASS_AT_1, at_least=0.7, end="low"),
        leads("above random labels", "vote", "random-label", PASS_AT_1),
        closes(
            "own questions serve",
            "own-questions",
            "gold",
            PASS_AT_1,
            at_least=0.7,
            end="low",
            note="own-questions: the vote on questions that the model wrote; gold learns from given ones",
        ),
        does_not_gain(
            "no help where mostly wrong",
            "low-prior",
            PASS_AT_1,
            note="low-prior: the vote on a base that is mostly wrong",
        ),
    ),
)
