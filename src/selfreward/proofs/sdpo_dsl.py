"""SDPO (028) on DSL, the task that its method card names: feedback in words, the first failed test of a program.

Arms, controls and rules are those of the proof on chains with hints, and so of the method card, written down before
the run. As published, a response is read again behind a sibling's success, and where the whole group failed behind
what is said of its own failed test. The shuffled control is shown the success, or the failed test, of another prompt.
The base was made so that it is the content of either that helps: the gate measures both, true and shuffled, on
development prompts.
"""

from __future__ import annotations

from typing import Any

from selfreward.errors import RecipeError
from selfreward.proofs.base import Proof
from selfreward.proofs.sdpo import PROOF as ON_CHAIN


def gate() -> dict[str, Any]:
    """Accuracy of the base with and without context, on development prompts."""
    from selfreward.models import load_policy
    from selfreward.tasks import dsl_base

    found = dsl_base.measure(load_policy("embedded:dsl", device="cpu"), dsl_base.dev(150))
    if (gap := found["with hint"] - found["pass@1"]) < 0.15:
        raise RecipeError(f"A hint is worth {gap:.2f} here; self-distillation needs at least .15.")
    return {k: round(v, 3) for k, v in found.items()}


PROOF = Proof(
    slug="sdpo-dsl",
    id="028",
    claim=ON_CHAIN.claim,
    task="embedded:dsl",
    main=ON_CHAIN.main,
    gate=gate,
    arms=ON_CHAIN.arms,
    settings={**ON_CHAIN.settings, "model": "embedded:dsl", "options": {"group_size": 8, "kl": 0.0}},
    curves=ON_CHAIN.curves,
    rules=ON_CHAIN.rules,
)
