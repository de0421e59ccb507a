"""The regression of LaSeR: one log-probability per row is pulled to a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from selfreward.errors import ConfigError, nearest
from selfreward.losses.terms import LossTerm, Metrics, MicroBatch
from selfreward.types import Row

WEIGHT, TARGET, REWARD = "last_token/weight", "last_token/target", "last_token/reward"
KINDS = ("mse", "bce")


@dataclass(frozen=True)
class LastToken(LossTerm):
    """``mse``: the class-balanced mean of ``(r_s - r_v) ** 2`` (2510.14943, eq. 11); ``bce``: its ablation.

    Rows carry, at the position of the reserved token, a weight, the log-probability that means their
    reward (``c_ref + r_v / beta``), and the reward. As ``r_s - r_v = beta * (log p - target)``, the weight
    includes ``beta ** 2`` and the loss needs neither constant. ``bce`` is the cross-entropy of the token's
    own probability, which has to go to 1 for right solutions and so pulls on the rest of the
    vocabulary. The mean is over the rows with a weight. Metric: ``last_token``.
    """

    name: ClassVar[str] = "last_token"

    coefficient: float = 0.1
    kind: str = "mse"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"Unknown kind {self.kind!r} of the last-token loss.{nearest(self.kind, KINDS)}")

    def active(self, row: Row) -> bool:
        return self.coefficient != 0 and WEIGHT in row.extra and bool(torch.any(row.extra[WEIGHT] != 0))

    def wanted(self, row: Row) -> Tensor | None:
        return row.extra[WEIGHT] != 0 if self.active(row) else None

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        n = max(1, sum(self.active(r) for r in rows))
        return [r.extra[WEIGHT] / n if self.active(r) else torch.zeros(len(r)) for r in rows]

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        live = batch.weight != 0
        logp = torch.where(live, batch.logp, -1.0)
        if not live.any():
            return (logp * 0.0).sum(), {}
        if self.kind == "mse":
            loss = (logp - batch.extra[TARGET]) ** 2
        else:
            reward = batch.extra[REWARD]
            # log(1 - p) by expm1: p is far below float precision of 1 at the start.
            loss = -(reward * logp + (1 - reward) * torch.log(-torch.expm1(logp.clamp(max=-1e-6))))
        total = (batch.weight * torch.where(live, loss, 0.0)).sum()
        return self.coefficient * total, {"last_token": float(total.detach())}
