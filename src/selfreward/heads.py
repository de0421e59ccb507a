"""Scalar heads on a causal language model: a reward model and a critic.

Both are a copy of a policy's weights with one linear output in place of the vocabulary: the number at
a token sees that token and everything before it. A reward model reads the number at the last token of
a text; a critic reads the number before each token. They have weights and an optimiser of their own
and never touch the policy. What wires a critic into PPO is :mod:`selfreward.actor_critic`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from selfreward.errors import ConfigError, DataError, ModelError
from selfreward.precision import MasterAdamW
from selfreward.scoring import MICRO_TOKENS, causal_model, micro_batches, right_pad
from selfreward.sharding import is_sharded

if TYPE_CHECKING:
    from selfreward.policy import Policy

Trains = Literal["all", "head"]


# ---- losses --------------------------------------------------------------------------------------


def bradley_terry(chosen_P: Tensor, rejected_P: Tensor, margin: float | Tensor = 0.0) -> Tensor:
    """``-log sigmoid(chosen - rejected - margin)`` of every pair, ``[P]`` (Bradley and Terry 1952).

    The margin is that of Llama 2 (arXiv 2307.09288, eq. 2). Example: 2 over 1 with margin 1 is log 2.
    """
    if chosen_P.shape != rejected_P.shape:
        raise ValueError(f"chosen {tuple(chosen_P.shape)} and rejected {tuple(rejected_P.shape)} must be alike.")
    return -logsigmoid(chosen_P - rejected_P - margin)


def clipped_value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float = 0.2) -> Tensor:
    """``max((v - R)^2, (clip(v, old - c, old + c) - R)^2) / 2``, any shape (PPO, arXiv 1707.06347, as released).

    A value that has moved by more than ``clip`` towards its return has no gradient left. Example: value 1,
    old value 0, return 2, clip .2 is max(1, 3.24) / 2 = 1.62.
    """
    bounded = torch.maximum(torch.minimum(values, old + clip), old - clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (bounded - returns) ** 2)


# ---- the model -----------------------------------------------------------------------------------


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
            with source._weights():
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


def _optimiser(model: torch.nn.Module, lr: float, eps: float) -> MasterAdamW:
    """Not fused, which rounds otherwise: evidence on reward models and critics rests on these numbers."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return MasterAdamW(trained, lr=lr, betas=(0.9, 0.95), eps=eps, weight_decay=0.0)


# ---- the reward model ----------------------------------------------------------------------------


class RewardModel:
    """One number per text, read at its last token.

    Args:
        policy: whose weights to start from.
        trains: all weights, or the new head alone.
    """

    def __init__(self, policy: Policy | ScalarModel, trains: Trains = "all") -> None:
        self.model = policy if isinstance(policy, ScalarModel) else ScalarModel(policy, trains)

    def score(self, sequences: Sequence[Tensor]) -> Tensor:
        """Float ``[N]``: the reward of each token sequence, without gradient."""
        if not all(len(s) for s in sequences):
            raise DataError(f"Sequence {[len(s) for s in sequences].index(0)} of {len(sequences)} is empty.")
        return torch.stack([v[-1] for v in self.model.numbers(sequences)]) if sequences else torch.zeros(0)

    def fit_pairs(
        self,
        chosen: Sequence[Tensor],
        rejected: Sequence[Tensor],
        margins: Sequence[float] | None = None,
        *,
        updates: int = 200,
        batch: int = 32,
        lr: float = 1e-3,
        eps: float = 1e-8,
        seed: int = 0,
    ) -> dict[str, float]:
        """Learn that each ``chosen`` sequence is worth more than its ``rejected`` one (:func:`bradley_terry`).

        Args:
            margins: per pair, how much more.
            updates: gradient steps; pairs come in random order, epoch after epoch.

        Returns:
            ``loss`` of the last update, and ``accuracy`` over all pairs afterwards.
        """
        if not chosen or len(chosen) != len(rejected) or (margins is not None and len(margins) != len(chosen)):
            raise DataError(
                f"Pairs are needed: {len(chosen)} chosen, {len(rejected)} rejected"
                + (f", {len(margins)} margins." if margins is not None else ".")
            )
        wanted = torch.tensor(margins if margins is not None else [0.0] * len(chosen))
        texts = [*chosen, *rejected]

        def loss(picked: list[int]) -> Tensor:
            values = self._last([texts[i] for i in (*picked, *(i + len(chosen) for i in picked))])
            first, second = values.chunk(2)
            return bradley_terry(first, second, wanted[picked].to(values.device)).mean()

        last = self._fit(loss, len(chosen), updates, batch, lr, eps, seed)
        scores = self.score(texts)
        return {"loss": last, "accuracy": float((scores[: len(chosen)] > scores[len(chosen) :]).float().mean())}

    def fit_labels(
        self,
        sequences: Sequence[Tensor],
        labels: Sequence[float],
        *,
        kind: Literal["binary", "regression"] = "binary",
        updates: int = 200,
        batch: int = 32,
        lr: float = 1e-3,
        eps: float = 1e-8,
        seed: int = 0,
    ) -> dict[str, float]:
        """Learn a label in [0, 1] per sequence as a log-odds (``binary``), or any number by squared error.

        Returns:
            ``loss`` of the last update.
        """
        if not sequences or len(sequences) != len(labels):
            raise DataError(f"One label per sequence is needed: {len(sequences)} sequences, {len(labels)} labels.")
        truth = torch.tensor([float(v) for v in labels])
        if kind == "binary" and not bool(((truth >= 0) & (truth <= 1)).all()):
            raise DataError("A binary label lies in [0, 1]; use kind='regression' for other numbers.")

        def loss(picked: list[int]) -> Tensor:
            values = self._last([sequences[i] for i in picked])
            target = truth[picked].to(values.device)
            if kind == "binary":
                return binary_cross_entropy_with_logits(values, target)
            return ((values - target) ** 2).mean()

        return {"loss": self._fit(loss, len(sequences), updates, batch, lr, eps, seed)}

    def auroc(self, sequences: Sequence[Tensor], truth: Sequence[bool]) -> float:
        """Probability that a random true sequence scores above a random false one."""
        from selfreward.statistics import auroc

        return auroc(self.score(sequences).numpy(), [float(t) for t in truth])

    def state_dict(self) -> dict[str, Tensor]:
        """All weights, for a recipe's state."""
        return self.model.weights()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            ModelError: if they are the weights of another model.
        """
        self.model.load_weights(state)

    def save(self, folder: str | Path) -> None:
        """Write the backbone as a Hugging Face folder with ``head.safetensors`` beside it."""
        from safetensors.torch import save_file

        self.model.backbone.save_pretrained(str(folder))  # type: ignore[operator]
        save_file({k: v.detach().cpu() for k, v in self.model.head.state_dict().items()}, f"{folder}/head.safetensors")
        (Path(folder) / "head.json").write_text(json.dumps({"kind": "reward"}), encoding="utf-8")

    @staticmethod
    def load(folder: str | Path) -> RewardModel:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: if the folder holds no reward model.
        """
        from safetensors.torch import load_file
        from transformers import AutoModel
        from transformers.utils import logging

        head = Path(folder) / "head.safetensors"
        if not head.is_file():
            raise ModelError(f"{folder} holds no reward model: there is no {head.name}.")
        logging.disable_progress_bar()
        model = ScalarModel(AutoModel.from_pretrained(str(folder), use_safetensors=True).float())
        model.head.load_state_dict(load_file(str(head)))
        return RewardModel(model)

    def _last(self, sequences: Sequence[Tensor]) -> Tensor:
        values = self.model(right_pad(sequences))
        return values[torch.arange(len(sequences)), torch.tensor([len(s) - 1 for s in sequences])]

    def _fit(self, loss: Any, n: int, updates: int, batch: int, lr: float, eps: float, seed: int) -> float:
        """Gradient steps with a linear fall of the rate to 0; returns the last loss."""
        optimiser = _optimiser(self.model, lr, eps)
        generator = torch.Generator().manual_seed(seed)
        order: list[int] = []
        value = float("nan")
        for update in range(updates):
            if len(order) < min(batch, n):
                order = torch.randperm(n, generator=generator).tolist()
            picked, order = order[:batch], order[batch:]
            current = loss(picked)
            optimiser.zero_grad(set_to_none=True)
            current.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimiser.param_groups[0]["lr"] = lr * (1 - update / updates)
            optimiser.step()
            value = float(current.detach())
        return value


# ---- the critic ----------------------------------------------------------------------------------


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
        self.optimiser = _optimiser(self.model, lr, eps)
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
        from selfreward.checkpoint import optimizer_state

        return {"weights": self.model.weights(), "optimiser": copy.deepcopy(optimizer_state(self.optimiser))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        from selfreward.checkpoint import load_optimizer_state

        self.model.load_weights(state["weights"])
        load_optimizer_state(self.optimiser, state["optimiser"])
