"""Preference learning without pairs: KTO as a loss term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from selfreward.errors import ConfigError, RecipeError
from selfreward.losses.preference import kto
from selfreward.losses.terms import LossTerm, Metrics, MicroBatch
from selfreward.types import Row


@dataclass(frozen=True)
class KTO(LossTerm):
    """KTO (2402.01306) on rows whose advantage is positive (desirable) or negative (undesirable).

    The mean over the rows of an update. The reference point is a constant: the published estimate (the mean
    log-ratio of mismatched answers, not below 0) starts at 0 and needs a second forward.
    Metrics: ``desirable_logratio`` and ``undesirable_logratio``, sums over rows divided by all rows.
    """

    name: ClassVar[str] = "kto"

    beta: float = 0.1
    reference_point: float = 0.0
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.reference_point < 0:
            raise ConfigError(
                f"KTO needs beta above 0 and a reference point not below 0, not {self.beta} and {self.reference_point}."
            )

    @property
    def needs_reference(self) -> bool:
        return self.coefficient != 0

    def active(self, row: Row) -> bool:
        return self.coefficient != 0 and bool(torch.any(row.advantage * row.mask != 0))

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        # One over the number of rows, so that the sum over micro-batches is the mean over the update.
        n = max(1, sum(self.active(row) for row in rows))
        return [row.mask.float() / n for row in rows]

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        if batch.reference is None:
            raise RecipeError("The kto term needs the reference's log-probabilities, but the micro-batch has none.")
        live = (batch.mask != 0) & (batch.advantage != 0)
        ratio = (torch.where(live, batch.logp, 0.0) - torch.where(live, batch.reference, 0.0)).sum(-1)
        share = torch.where(live, batch.weight, 0.0).max(-1).values
        desirable = batch.advantage.sum(-1) > 0
        losses = kto(ratio, desirable, reference_point=self.reference_point, beta=self.beta)
        with torch.no_grad():
            metrics = {
                "desirable_logratio": float((share * ratio * desirable).sum()),
                "undesirable_logratio": float((share * ratio * ~desirable).sum()),
            }
        return self.coefficient * (share * losses).sum(), metrics
