"""The DPO family on log-ratios of whole sequences, and KTO for unpaired ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from selfreward.errors import ConfigError, nearest

Number = float | Tensor


def _sigmoid(h: Tensor, smoothing: Number) -> Tensor:
    return -(1 - smoothing) * logsigmoid(h) - smoothing * logsigmoid(-h)


def _robust(h: Tensor, smoothing: Number) -> Tensor:
    return (-(1 - smoothing) * logsigmoid(h) + smoothing * logsigmoid(-h)) / (1 - 2 * smoothing)


def _exo(h: Tensor, smoothing: Number) -> Tensor:
    e = torch.as_tensor(smoothing, dtype=h.dtype, device=h.device)
    return torch.sigmoid(h) * (logsigmoid(h) - torch.log1p(-e)) + torch.sigmoid(-h) * (logsigmoid(-h) - torch.log(e))


# Losses of the margin h = beta (chosen - rejected) - margin alone ...
_OF_MARGIN: dict[str, Callable[[Tensor, Number], Tensor]] = {
    "sigmoid": _sigmoid,
    "robust": _robust,
    "exo_pair": _exo,
    "hinge": lambda h, _: torch.relu(1 - h),
}
# ... and of the two scaled log-ratios c and r, which also say where each of them should be.
_OF_BOTH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nca_pair": lambda c, r: -logsigmoid(c) - 0.5 * logsigmoid(-c) - 0.5 * logsigmoid(-r),
    "apo_zero": lambda c, r: 1 - torch.sigmoid(c) + torch.sigmoid(r),
    "apo_down": lambda c, r: torch.sigmoid(c) + 1 - torch.sigmoid(c - r),
}

KINDS = (*_OF_MARGIN, "ipo", *_OF_BOTH, "sppo_hard", "orpo")
WITH_MARGIN = (*_OF_MARGIN, "ipo")
WITH_SMOOTHING = ("sigmoid", "robust", "exo_pair")


def preference(
    chosen: Tensor,
    rejected: Tensor,
    *,
    kind: str = "sigmoid",
    beta: float = 0.1,
    margin: Number = 0.0,
    label_smoothing: Number = 0.0,
) -> Tensor:
    """Loss of every pair, from the log-ratios ``log pi(y) - log pi_ref(y)`` of its two sequences.

    Summed over tokens the log-ratios give DPO; averaged over tokens they give IPO as its authors run
    it and, without a reference, SimPO and ORPO. With ``h = beta (chosen - rejected) - margin``:

    ========= ======================================================== ===========================
    kind      loss                                                     source
    ========= ======================================================== ===========================
    sigmoid   -log s(h); with label smoothing e: -(1-e) log s(h)       DPO 2305.18290 eq. 7; cDPO;
              - e log s(-h)                                            SimPO 2405.14734 eq. 6
    robust    (-(1-e) log s(h) + e log s(-h)) / (1 - 2e)               rDPO 2403.00409
    exo_pair  KL(softmax of the pair || (1-e, e))                      EXO 2402.00856 eq. 16
    hinge     relu(1 - h)                                              SLiC 2305.10425
    ipo       (h / beta - 1 / (2 beta))^2                              IPO 2310.12036 eq. 17
    nca_pair  noise-contrastive, anchors both sequences                NCA 2402.05369
    apo_zero, apo_down                                                 APO 2408.06266 eq. 7, 8
    sppo_hard (chosen - 1/(2 beta))^2 + (rejected + 1/(2 beta))^2      SPPO 2405.00675 eq. 4.7
    orpo      -beta log s(log odds ratio) of mean log-probabilities    ORPO 2403.07691
    ========= ======================================================== ===========================

    Args:
        chosen: float ``[P]``.
        rejected: float ``[P]``.
        margin: a number or ``[P]``, how much larger than zero the scaled difference should be.
        label_smoothing: a number or ``[P]``, the probability that the label of a pair is wrong.

    Returns:
        float ``[P]``.
    """
    if chosen.shape != rejected.shape or chosen.dim() != 1:
        raise ValueError(f"chosen {tuple(chosen.shape)} and rejected {tuple(rejected.shape)} must both be [P].")
    if kind in _OF_MARGIN:
        return _OF_MARGIN[kind](beta * (chosen - rejected) - margin, label_smoothing)
    if kind == "ipo":
        return (chosen - rejected - margin / beta - 1 / (2 * beta)) ** 2
    if kind in _OF_BOTH:
        return _OF_BOTH[kind](beta * chosen, beta * rejected)
    if kind == "sppo_hard":
        return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2
    if kind == "orpo":
        return -beta * logsigmoid(_log_odds(chosen) - _log_odds(rejected))
    raise ConfigError(f"Unknown preference loss {kind!r}.{nearest(kind, KINDS)}")


def _log_odds(logp: Tensor) -> Tensor:
    """``log(p / (1 - p))``; p = 1 has infinite odds, so p stops one rounding step short of it."""
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    return logp - torch.log(-torch.expm1(logp))


def kto(
    logratio: Tensor,
    desirable: Tensor,
    *,
    reference_point: Number,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO (2402.01306): single sequences that are either desirable or not.

    Args:
        logratio: float ``[N]``, summed log-ratios.
        desirable: bool ``[N]``.
        reference_point: the estimate of KL(policy || reference), not below zero and without gradient.

    Returns:
        float ``[N]``.
    """
    gain = torch.where(desirable, 1.0, -1.0) * (logratio - reference_point)
    weight = torch.where(desirable, desirable_weight, undesirable_weight)
    return weight * (1 - torch.sigmoid(beta * gain))
