"""Frozen copies of a policy in a recipe's state: what a lagged, a behaviour or a warmed-up policy needs to resume."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from selfreward.errors import ModelError
from selfreward.policy import Policy


def weights_of(frozen: Policy) -> dict[str, Tensor]:
    """All weights of a snapshot (of a LoRA snapshot its adapter) by name, on the CPU, shared ones once."""
    if frozen._adapter is not None:
        return {k: v.cpu().clone() for k, v in frozen._adapter.items()}
    return {n: p.detach().cpu().clone() for n, p in frozen.model.named_parameters()}


def frozen_copy(policy: Policy, weights: Mapping[str, Tensor]) -> Policy:
    """A snapshot of ``policy`` with other weights, as :func:`weights_of` gave them.

    Raises:
        ModelError: if they are those of another model.
    """
    frozen = policy.snapshot()
    mine = frozen._adapter if frozen._adapter is not None else dict(frozen.model.named_parameters())
    odd = [n for n, w in weights.items() if n not in mine or mine[n].shape != w.shape]
    if odd:
        raise ModelError(f"The saved copy belongs to another model: {odd[0]} does not fit.")
    with torch.no_grad():
        for name, values in weights.items():
            mine[name].copy_(values)
    return frozen
