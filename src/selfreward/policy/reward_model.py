"""A reward model: one number per text, learnt from pairs or labels, on a copy of a policy's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from selfreward.errors import DataError, ModelError
from selfreward.losses.reward_model import bradley_terry
from selfreward.policy.batching import right_pad
from selfreward.policy.scalar_heads import ScalarModel, head_optimizer

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.policy.scalar_heads import Trains


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
        optimiser = head_optimizer(self.model, lr, eps)
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
