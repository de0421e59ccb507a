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
    load_weights(frozen, weights)
    return frozen


def load_weights(frozen: Policy, weights: Mapping[str, Tensor]) -> None:
    """Give a snapshot what :func:`weights_of` gave.

    Raises:
        ModelError: if they are the weights of another model.
    """
    mine = frozen._adapter if frozen._adapter is not None else dict(frozen.model.named_parameters())
    odd = [n for n, w in weights.items() if n not in mine or mine[n].shape != w.shape]
    if odd:
        raise ModelError(f"The saved copy belongs to another model: {odd[0]} does not fit.")
    with torch.no_grad():
        for name, values in weights.items():
            mine[name].copy_(values)


@torch.no_grad()
def move_towards(frozen: Policy, policy: Policy, rate: float) -> None:
    """Exponential moving average in place: ``frozen <- (1 - rate) frozen + rate policy`` (a slowly following teacher).

    Raises:
        ModelError: for a rate outside [0, 1], or a snapshot of another model.
    """
    if not 0 <= rate <= 1:
        raise ModelError(f"The rate of a moving average is {rate}; it must lie in 0 .. 1.")
    mine = frozen._adapter if frozen._adapter is not None else dict(frozen.model.named_parameters())
    live = policy._adapter_tensors() if frozen._adapter is not None else dict(policy.model.named_parameters())
    if set(mine) != set(live):
        raise ModelError("The copy belongs to another model; only a snapshot of the same policy can follow it.")
    for name, values in mine.items():
        values.lerp_(live[name].to(values.dtype), rate)
