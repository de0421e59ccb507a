"""A critic: the value of the state before every token, learnt from returns beside the policy (PPO)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selfreward.losses.value import clipped_value_loss
from selfreward.policy.batching import micro_batches, right_pad
from selfreward.policy.scalar_heads import ScalarModel, head_optimizer

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy


class Critic:
    """The value of the state before every token, with an optimiser of its own.

    Args:
        policy: whose weights to start from; all values are 0 at first.
        lr, eps: of its AdamW.
        clip: of :func:`clipped_value_loss`.
        epochs: passes over each batch.
    """

    def __init__(
        self, policy: Policy, *, lr: float = 1e-3, eps: float = 1e-8, clip: float = 0.2, epochs: int = 2
    ) -> None:
        self.model = ScalarModel(policy)
        self.optimiser = head_optimizer(self.model, lr, eps)
        self.clip, self.epochs = clip, epochs

    def values(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        """Float ``[T]`` per sequence: entry ``t`` is the value of the state in which token ``t`` is chosen.

        Entry 0 is 0: nothing precedes the first token, and nobody chooses it.
        """
        return [torch.cat([v.new_zeros(1), v[:-1]]) for v in self.model.numbers(sequences)]

    def learn(
        self,
        sequences: Sequence[Tensor],
        masks: Sequence[Tensor],
        returns: Sequence[Tensor],
        old: Sequence[Tensor],
    ) -> dict[str, float]:
        """Move the values where ``masks`` is 1 towards ``returns``; all arguments are ``[T]`` per sequence.

        Args:
            old: the values (:meth:`values`) from which the returns were made.

        Returns:
            ``value_loss`` before the first step, and ``explained_variance`` of the returns by ``old``.
        """
        first = float("nan")
        total = sum(float(m.sum()) for m in masks)
        if not total:
            return {}
        for epoch in range(self.epochs):
            self.optimiser.zero_grad(set_to_none=True)
            loss_sum = 0.0
            for batch in micro_batches([len(s) for s in sequences]):
                tokens, mask, target, before = (
                    right_pad([part[i] for i in batch]).to(self.model.device)
                    for part in (sequences, masks, returns, old)
                )
                values = self.model(tokens).roll(1, 1)
                values = torch.where(torch.arange(values.shape[1], device=values.device) > 0, values, 0.0)
                loss = (clipped_value_loss(values, before, target, self.clip) * mask).sum() / total
                loss.backward()
                loss_sum += float(loss.detach())
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            first = loss_sum if epoch == 0 else first
        aim = torch.cat([r[m > 0] for r, m in zip(returns, masks, strict=True)])
        had = torch.cat([v[m > 0] for v, m in zip(old, masks, strict=True)])
        spread = float(aim.var()) if aim.numel() > 1 else 0.0
        explained = 1 - float((aim - had).var()) / spread if spread > 0 else 0.0
        return {"value_loss": first, "explained_variance": explained}

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser, for a recipe's state."""
        from selfreward.runtime.checkpoint import optimizer_state

        return {"weights": self.model.weights(), "optimiser": copy.deepcopy(optimizer_state(self.optimiser))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        from selfreward.runtime.checkpoint import load_optimizer_state

        self.model.load_weights(state["weights"])
        load_optimizer_state(self.optimiser, state["optimiser"])
