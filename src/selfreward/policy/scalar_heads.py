"""A scalar head on a causal language model: what a reward model and a critic have in common.

It is a copy of a policy's weights with one linear output in place of the vocabulary: the number at a token sees
that token and everything before it. A reward model (:mod:`selfreward.policy.reward_model`) reads the number at the
last token of a text, a critic (:mod:`selfreward.policy.critic`) the number before each token. They have weights and an
optimiser of their own and never touch the policy. What wires a critic into PPO is :mod:`selfreward.credit.ppo`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from selfreward.errors import ConfigError, ModelError
from selfreward.policy.architecture import causal_model
from selfreward.policy.batching import MICRO_TOKENS, micro_batches, right_pad
from selfreward.policy.precision import MasterAdamW
from selfreward.policy.sharding import is_sharded

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

Trains = Literal["all", "head"]


class ScalarModel(torch.nn.Module):
    """A copy of a causal LM's backbone with one linear output, zero at the start.

    Args:
        source: the policy whose weights are copied; later changes to it are not seen.
        trains: ``"head"`` leaves the backbone as it is.

    Raises:
        ModelError: if the architecture has no backbone of its own to put a head on.
    """

    def __init__(self, source: Policy | torch.nn.Module, trains: Trains = "all") -> None:
        super().__init__()
        if isinstance(source, torch.nn.Module):
            self.backbone = source
        else:
            causal = causal_model(source.model)
            if causal.base_model is causal:
                raise ModelError(f"{type(causal).__name__} has no separate backbone for a scalar head.")
            if is_sharded(causal):
                raise ConfigError("A recipe with models of its own (a reward model, a critic) cannot use shard=true.")
            with source.own_weights():
                self.backbone = copy.deepcopy(causal.base_model)
        width = int(self.backbone.config.get_text_config().hidden_size)  # type: ignore[union-attr, operator, arg-type]
        device = next(self.backbone.parameters()).device
        self.head = torch.nn.Linear(width, 1, device=device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.backbone.requires_grad_(trains == "all")
        self.eval()

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, tokens_B_T: Tensor) -> Tensor:
        """Float ``[B, T]``: the number at every token of right-padded sequences."""
        states = self.backbone(input_ids=tokens_B_T.to(self.device), use_cache=False).last_hidden_state
        values: Tensor = self.head(states.to(self.head.weight.dtype)).squeeze(-1)
        return values.float()

    @torch.no_grad()
    def numbers(self, sequences: Sequence[Tensor], max_tokens: int = MICRO_TOKENS) -> list[Tensor]:
        """Float ``[T]`` per sequence, on the CPU and without gradient."""
        found: list[Tensor] = [torch.empty(0)] * len(sequences)
        for batch in micro_batches([len(s) for s in sequences], max_tokens):
            values = self(right_pad([sequences[i] for i in batch])).cpu()
            for row, i in zip(values, batch, strict=True):
                found[i] = row[: len(sequences[i])]
        return found

    def weights(self) -> dict[str, Tensor]:
        """All weights on the CPU, under names that :meth:`load_weights` takes."""
        return {k: v.detach().cpu().contiguous().clone() for k, v in self.state_dict().items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Restore :meth:`weights`.

        Raises:
            ModelError: if they are those of another model.
        """
        try:
            self.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise ModelError(
                f"The saved head belongs to another model: {str(error).splitlines()[-1].strip()}"
            ) from None


def head_optimizer(model: torch.nn.Module, lr: float, eps: float) -> MasterAdamW:
    """AdamW over what is trained of a scalar model.

    Not fused, which rounds otherwise: evidence on reward models and critics rests on these numbers.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    return MasterAdamW(trained, lr=lr, betas=(0.9, 0.95), eps=eps, weight_decay=0.0)
