"""The proofs of published claims at small scale, found from file names.

``FAMILY/SLUG.py`` is the proof of the system SLUG (with ``-`` for ``_``) and holds it as ``PROOF``; folders are the
families of the recipes, and ``common/`` is what several proofs share. Running a proof writes ``evidence/SLUG.json``; a
rule that fails is recorded as a result.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from selfreward.errors import ConfigError, nearest
from selfreward.lab.evidence.record import Evidence
from selfreward.lab.proofs.proof import Proof, fingerprint


def replays(evidence: Evidence, relative: float = 0.02, absolute: float = 0.01) -> bool:
    """Whether the recipe still does what the evidence recorded.

    The tolerance covers other processors, where rounding can flip single sampled tokens.
    """
    now = fingerprint(load_proof(evidence.slug))
    return all(
        len(now[key]) == len(evidence.fingerprint.get(key, []))
        and all(
            abs(a - b) <= absolute + relative * abs(b) for a, b in zip(now[key], evidence.fingerprint[key], strict=True)
        )
        for key in now
    )


def _discover() -> dict[str, str]:
    """Slug to module: every file of a family's folder is a proof."""
    home = Path(__file__).parent
    files = sorted(p for p in home.glob("*/*.py") if p.parent.name != "common" and p.stem != "__init__")
    return {p.stem.replace("_", "-"): f"selfreward.lab.proofs.{p.parent.name}.{p.stem}" for p in files}


PROOFS: dict[str, str] = _discover()


def load_proof(slug: str, model: str | None = None, data: str | None = None) -> Proof:
    """The proof of a system.

    Args:
        model, data: for proofs on the user's own files (``make(model, data)`` in the module).

    Raises:
        ConfigError: where there is none, or where it brings its own model and data.
    """
    if slug not in PROOFS:
        raise ConfigError(f"There is no small-scale proof of {slug!r} yet.{nearest(slug, PROOFS)}")
    module = importlib.import_module(PROOFS[slug])
    if model or data:
        if not hasattr(module, "make"):
            raise ConfigError(f"The proof of {slug!r} brings its own model and data; leave --model and --data out.")
        made: Proof = module.make(model or module.MODEL, data or module.DATA)
        return made
    proof: Proof = module.PROOF
    return proof
