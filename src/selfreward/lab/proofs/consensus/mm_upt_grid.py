"""MM-UPT (085) on GRID: questions about pictures, the pictures written as text.

The rules are those of the proof on CHAIN, and so of the method card, written down before the run. The card asks for
grids of patches and for counting, comparing and locating; here the cells are characters, nine of them, so that a text
model can read them. The model's own questions are about the picture that it was shown, as in the paper. The
low-prior regime is the base ``grid-low``, whose shortcut leads the vote, on the same questions.
"""

from __future__ import annotations

from selfreward.lab.proofs.consensus.mm_upt import PROOF as ON_CHAIN
from selfreward.lab.proofs.proof import Proof
from selfreward.training.comparison import Arm

LOW = {"model": "embedded:grid-low", "data": "embedded:grid"}

PROOF = Proof(
    slug="mm-upt-grid",
    id="085",
    claim=ON_CHAIN.claim,
    task="embedded:grid",
    main="vote",
    arms=(
        Arm("vote", "mm-upt"),
        Arm("gold", "gold"),
        Arm("random-label", "mm-upt", {"pseudo_label": "random"}),
        Arm("own-questions", "mm-upt", {"questions": "in-context"}),
        Arm("low-prior", "mm-upt", settings=LOW),
    ),
    settings={**ON_CHAIN.settings, "model": "embedded:grid", "data": "embedded:grid"},
    rules=ON_CHAIN.rules,
)
