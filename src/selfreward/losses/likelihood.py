"""Likelihood losses: weighted negative log-likelihood and token distillation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from selfreward.errors import ConfigError, nearest

_DIRECTIONS = ("forward", "reverse", "jsd")


def weighted_nll(logp: Tensor, weight: Tensor) -> Tensor:
    """``-weight * logp`` per token; tokens of weight 0 stay out even where ``logp`` is not finite."""
    return -weight * torch.where(weight != 0, logp, 0.0)


def distillation(student: Tensor, teacher: Tensor, *, direction: str = "forward", mix: float = 0.5) -> Tensor:
    """Divergence between the next-token distributions of a student and a teacher, per position.

    Reads nothing but its last dimension, so a caller can hand it chunks of positions.

    Args:
        student: float ``[..., V]``, log-probabilities with gradient.
        teacher: float ``[..., V]``, log-probabilities; never differentiated.
        direction: "forward" KL(teacher || student), "reverse" KL(student || teacher), or "jsd", the
            generalised Jensen-Shannon divergence of GKD (2306.13649 eq. 1) with ``mix`` on the teacher.

    Returns:
        float ``[...]``.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have one shape.")
    teacher = teacher.detach()
    if direction == "forward":
        return _kl(teacher, student)
    if direction == "reverse":
        return _kl(student, teacher)
    if direction == "jsd":
        if not 0 < mix < 1:
            raise ConfigError(f"mix is {mix}; it must lie between 0 and 1, both excluded.")
        mixture = torch.logaddexp(teacher + math.log(mix), student + math.log1p(-mix))
        return mix * _kl(teacher, mixture) + (1 - mix) * _kl(student, mixture)
    raise ConfigError(f"Unknown distillation direction {direction!r}.{nearest(direction, _DIRECTIONS)}")


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities over the last dimension, with ``0 log 0 = 0``."""
    possible = p > -torch.inf
    difference = torch.where(possible, p, 0.0) - torch.where(possible, q, 0.0)
    return (p.exp() * difference).sum(-1)
