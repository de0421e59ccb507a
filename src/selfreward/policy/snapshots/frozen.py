"""Copies of a policy in a recipe's state: what a lagged, a behaviour or a following policy needs to resume."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from selfreward.errors import ModelError
from selfreward.policy.policy import Policy
from selfreward.policy.precision import HALF


def weights_of(frozen: Policy) -> dict[str, Tensor]:
    """All weights of a snapshot (of a LoRA snapshot its adapter) by name, on the CPU, shared ones once."""
    return {n: w.detach().cpu().clone() for n, w in frozen.copied_weights().items()}


def snapshot_with(policy: Policy, weights: Mapping[str, Tensor]) -> Policy:
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
    _fill(frozen.copied_weights(), weights)


class EMATeacher:
    """A frozen copy that follows a policy as an exponential moving average (a slowly changing teacher).

    Weights of half precision are averaged in float32 and rounded for use: a small step of the average itself would be
    rounded away, step after step, and the copy would stand still.

    Args:
        policy: where the copy begins.

    Attributes:
        policy: the copy, to sample and score with.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy.snapshot()
        self._exact = {n: w.float() if w.dtype in HALF else w for n, w in self.policy.copied_weights().items()}

    @torch.no_grad()
    def follow(self, policy: Policy, rate: float) -> None:
        """``copy <- (1 - rate) copy + rate policy``.

        Raises:
            ModelError: for a rate outside [0, 1], or another model.
        """
        if not 0 <= rate <= 1:
            raise ModelError(f"The rate of a moving average is {rate}; it must lie in 0 .. 1.")
        live = policy.adapter_weights() if policy.is_lora else policy.copied_weights()
        if set(self._exact) != set(live):
            raise ModelError("The copy belongs to another model; it can follow only the policy that it was made from.")
        for name, exact in self._exact.items():
            exact.lerp_(live[name].to(exact.dtype), rate)
        self._round()

    def state_dict(self) -> dict[str, Tensor]:
        """The average by name, on the CPU, as exact as it is kept."""
        return {n: w.detach().cpu().clone() for n, w in self._exact.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            ModelError: if it is that of another model.
        """
        _fill(self._exact, state)
        self._round()

    def _round(self) -> None:
        used = self.policy.copied_weights()
        with torch.no_grad():
            for name, exact in self._exact.items():
                if exact is not used[name]:
                    used[name].copy_(exact)


def _fill(mine: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    odd = [n for n, w in weights.items() if n not in mine or mine[n].shape != w.shape]
    if odd:
        raise ModelError(f"The saved copy belongs to another model: {odd[0]} does not fit.")
    with torch.no_grad():
        for name, values in weights.items():
            mine[name].copy_(values)
