"""Losses in three layers: pure functions, normalisations as weights, and the terms of an objective.

1. Pure functions (:mod:`.policy_gradient`, :mod:`.preference`, :mod:`.likelihood`): tensors in,
   unreduced tensors out. They serve any training loop.
2. :func:`token_weights`: a normalisation is a weight per token, so that a plain sum over any split
   into micro-batches is the same loss.
3. Terms (:mod:`.terms`, :mod:`.preference_term`): what a recipe lists as its objective and the trainer evaluates.
"""

from selfreward.losses.distillation import Distillation, divergence, interpolated, with_tail
from selfreward.losses.likelihood import distillation, weighted_nll
from selfreward.losses.policy_gradient import VARIANTS, Surrogate, k3_kl, policy_gradient
from selfreward.losses.preference import KINDS, kto, preference
from selfreward.losses.preference_term import KTO, Preference
from selfreward.losses.terms import KL, NLL, EntropyBonus, LossTerm, MicroBatch, PolicyGradient, Uniformity
from selfreward.losses.weights import NORMALISATIONS, token_weights

__all__ = [
    "KINDS",
    "KL",
    "KTO",
    "NLL",
    "NORMALISATIONS",
    "VARIANTS",
    "Distillation",
    "EntropyBonus",
    "LossTerm",
    "MicroBatch",
    "PolicyGradient",
    "Preference",
    "Surrogate",
    "Uniformity",
    "distillation",
    "divergence",
    "interpolated",
    "k3_kl",
    "kto",
    "policy_gradient",
    "preference",
    "token_weights",
    "weighted_nll",
    "with_tail",
]
