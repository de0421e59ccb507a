"""Small-scale proofs of published claims, one module per system.

A proof names its arms, its budget, and pass rules that were written down before it was run. Running
it gives ``evidence/SLUG.json``; a rule that fails is recorded as a result.
"""

from __future__ import annotations

import importlib

from selfreward.errors import ConfigError, nearest
from selfreward.proofs.base import Proof

# Slug -> module. Modules are imported only when their proof is used.
PROOFS: dict[str, str] = {
    "vote": "vote",
    "ssr-zero": "ssr_zero",
}


def load_proof(slug: str) -> Proof:
    """The proof of a system.

    Raises:
        ConfigError: where there is none.
    """
    if slug not in PROOFS:
        raise ConfigError(f"There is no small-scale proof of {slug!r} yet.{nearest(slug, PROOFS)}")
    proof: Proof = importlib.import_module(f"selfreward.proofs.{PROOFS[slug]}").PROOF
    return proof
