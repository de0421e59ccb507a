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
    "flr": "flr",
    "rubric-self-reward": "rubric_self_reward",
    "dro-r3": "dro_r3",
    "vote": "vote",
    "score": "score",
    "reflect-retry-reward": "reflect_retry_reward",
    "rise": "rise",
    "sdpo": "sdpo",
    "sdpo-dsl": "sdpo_dsl",
    "co-reward": "co_reward",
    "covo": "covo",
    "self-judging": "self_judging",
    "self-judging-cd": "self_judging_cd",
    "serl": "serl",
    "scpo": "scpo",
    "self-rewarding-lm": "self_rewarding_lm",
    "spo": "spo",
    "cream": "cream",
    "t-reg": "t_reg",
    "temporal-self-rewarding": "temporal_self_rewarding",
    "mm-upt": "mm_upt",
    "mm-upt-grid": "mm_upt_grid",
    "ssr-zero": "ssr_zero",
    "rlsf": "rlsf",
    "distill-rewards": "distill_rewards",
    "teacher-forcing-reward": "teacher_forcing_reward",
    "self-certainty": "self_certainty",
    "self-prm": "self_prm",
    "laser": "laser",
    "self-aligned-reward": "self_aligned_reward",
    "self-rewarded-efficiency": "self_rewarded_efficiency",
    "e1-adaptive-effort": "e1_adaptive_effort",
    "ssr-zero-weak-judge": "ssr_zero_weak_judge",
    "ssr-zero-multi30k": "ssr_zero_multi30k",
    "knapsack-rl": "knapsack_rl",
    "knowrl": "knowrl",
    "rest-mcts": "rest_mcts",
    "b-star": "b_star",
    "masa": "masa",
    "spiral": "spiral",
    "ssrl": "ssrl",
}


def load_proof(slug: str, model: str | None = None, data: str | None = None) -> Proof:
    """The proof of a system.

    Args:
        model, data: for proofs on the user's own files (``make(model, data)`` in the module).

    Raises:
        ConfigError: where there is none, or where it brings its own model and data.
    """
    if slug not in PROOFS:
        raise ConfigError(f"There is no small-scale proof of {slug!r} yet.{nearest(slug, PROOFS)}")
    module = importlib.import_module(f"selfreward.proofs.{PROOFS[slug]}")
    if model or data:
        if not hasattr(module, "make"):
            raise ConfigError(f"The proof of {slug!r} brings its own model and data; leave --model and --data out.")
        made: Proof = module.make(model or module.MODEL, data or module.DATA)
        return made
    proof: Proof = module.PROOF
    return proof
