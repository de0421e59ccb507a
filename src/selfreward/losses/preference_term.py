"""Preferences as terms of an objective: pairs of rows in one micro-batch (the DPO family), or single rows (KTO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from selfreward.errors import ConfigError, RecipeError
from selfreward.losses.preference import KINDS, WITH_MARGIN, WITH_SMOOTHING, kto, preference
from selfreward.losses.terms import LossTerm, Metrics, MicroBatch, channel_of, known, nothing, reference_of
from selfreward.losses.weights import support
from selfreward.types import Row

# Two forwards of the same weights differ by rounding: log-ratios (nats) closer than this count as equal.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Preference(LossTerm):
    """The DPO family (:func:`preference`): the weighted mean over the pairs of an update.

    DPO is the default. SimPO is ``length_normalise=True, reference_free=True, margin=gamma``.

    Two channels of the rows (``Row.extra``) can stand in for numbers of the whole run, by name. ``anchor``: the
    reference's log-probabilities, where every round of a run has a reference of its own. ``confidence``: at any token
    of the chosen row, the probability c that the pair is in order, which is label smoothing 1 - c pair by pair (CREAM,
    2410.12735); a chosen row without it counts as certain.
    Metrics are means over pairs: ``preference_accuracy`` (chosen above rejected by more than rounding),
    ``preference_margin``, ``chosen_logratio`` and ``rejected_logratio``.
    """

    name: ClassVar[str] = "preference"
    uses_pairs: ClassVar[bool] = True

    kind: str = "sigmoid"
    beta: float = 0.1
    margin: float = 0.0
    label_smoothing: float = 0.0
    length_normalise: bool = False
    reference_free: bool = False
    coefficient: float = 1.0
    anchor: str = ""
    confidence: str = ""

    def __post_init__(self) -> None:
        known("kind", self.kind, KINDS)
        if self.beta <= 0:
            raise ConfigError(f"beta is {self.beta}; it must be positive.")
        if self.margin and self.kind not in WITH_MARGIN:
            raise ConfigError(f"kind={self.kind!r} has no margin. Kinds with one: {', '.join(WITH_MARGIN)}.")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}; it must be in 0 .. 0.5 (0.5 excluded).")
        if self.label_smoothing and self.kind not in WITH_SMOOTHING:
            raise ConfigError(
                f"kind={self.kind!r} takes no label_smoothing. Kinds that do: {', '.join(WITH_SMOOTHING)}."
            )
        if self.confidence and (self.label_smoothing or self.kind not in WITH_SMOOTHING):
            raise ConfigError(
                f"confidence={self.confidence!r} is label smoothing pair by pair: it goes with one of the kinds "
                f"{', '.join(WITH_SMOOTHING)}, and without label_smoothing."
            )
        if self.anchor and self.reference_free:
            raise ConfigError(f"anchor={self.anchor!r} names a reference, but reference_free=True asks for none.")
        if self.kind == "exo_pair" and not self.label_smoothing:
            raise ConfigError("kind='exo_pair' needs label_smoothing > 0 (its target is a distribution), e.g. 0.001.")
        if self.kind == "orpo" and not (self.length_normalise and self.reference_free):
            raise ConfigError(
                "kind='orpo' compares mean log-probabilities: set length_normalise=True and reference_free=True."
            )

    @property
    def needs_reference(self) -> bool:
        return not self.reference_free and not self.anchor and self.coefficient != 0

    def active(self, row: Row) -> bool:
        return self.coefficient != 0 and support(row, "mask")

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        return [row.mask.float() for row in rows]

    def log_ratios(self, batch: MicroBatch) -> Tensor:
        """``[B]``: summed (or mean) log-ratios of the rows to the reference, or log-probabilities without one."""
        scores = torch.where(batch.weight != 0, batch.logp, 0.0)
        if not self.reference_free:
            known = channel_of(batch, self.anchor, self.name) if self.anchor else reference_of(batch, self.name)
            scores = scores - torch.where(batch.weight != 0, known, 0.0)
        sums = (batch.weight * scores).sum(-1)
        return sums / batch.weight.sum(-1).clamp(min=1.0) if self.length_normalise else sums

    def smoothing(self, batch: MicroBatch, chosen: Sequence[int]) -> float | Tensor:
        """The probability that a pair is out of order: a number, or one per pair."""
        if not self.confidence:
            return self.label_smoothing
        certainty = channel_of(batch, self.confidence, self.name).amax(-1)[list(chosen)]
        return 1 - torch.where(certainty > 0, certainty, 1.0)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        if not batch.pairs or self.coefficient == 0:
            return nothing(batch), {}
        sums = self.log_ratios(batch)
        chosen_rows, rejected_rows, weight, margin = zip(*batch.pairs, strict=True)
        if any(margin) and self.kind not in WITH_MARGIN:
            raise RecipeError(f"The pairs carry margins, which kind={self.kind!r} does not use; set them to 0.")
        chosen, rejected = sums[list(chosen_rows)], sums[list(rejected_rows)]
        losses = preference(
            chosen,
            rejected,
            kind=self.kind,
            beta=self.beta,
            margin=sums.new_tensor(margin) + self.margin,
            label_smoothing=self.smoothing(batch, chosen_rows),
        )
        n = max(batch.total_pairs, len(batch.pairs))
        with torch.no_grad():
            metrics = {
                "preference_accuracy": float((chosen - rejected > ROUNDING).sum()) / n,
                "preference_margin": float((chosen - rejected).sum()) / n,
                "chosen_logratio": float(chosen.sum()) / n,
                "rejected_logratio": float(rejected.sum()) / n,
            }
        return self.coefficient * (sums.new_tensor(weight) * losses).sum() / n, metrics


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
