"""The terms of an objective: what a recipe lists and the trainer evaluates on micro-batches.

The trainer asks every term, once per update, for the weights of all rows; splits the rows that are
active for any term into micro-batches; and adds up what the terms return. Everything a term returns
(the loss and each metric) is a sum over the micro-batch whose total over the update has its meaning,
so nothing has to be averaged afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from selfreward.errors import ConfigError, RecipeError, nearest
from selfreward.losses.likelihood import weighted_nll
from selfreward.losses.policy_gradient import VARIANTS, importance_ratio, k3_kl, policy_gradient
from selfreward.losses.weights import NORMALISATIONS, support, token_weights
from selfreward.types import Row

Metrics = dict[str, float]


@dataclass
class MicroBatch:
    """Padded rows and the model's view of them, all ``[B, T]`` on one device.

    Position ``t`` holds the quantities of token ``t`` (position 0 is never predicted). Padding has
    weight 0 everywhere, and what the other tensors hold there is never read.

    Attributes:
        logp: log-probabilities under the policy, with gradient.
        behaviour: log-probabilities at sampling time.
        reference: log-probabilities under the reference; None unless a term needs it.
        entropy: entropy of the next-token distributions, with gradient; None unless a term needs it.
        stats: the statistics that terms need, by name, with gradient.
        candidates: log-probabilities ``[B, T, K]`` of the tokens in a term's channel of candidates, with gradient.
        extra: the rows' further channels by name; 0 for rows without one.
        weight: the present term's own weights, as it computed them for the whole update.
        pairs: ``(chosen, rejected, weight, margin)``, rows of this micro-batch.
        total_pairs: number of pairs in the whole update.
    """

    logp: Tensor
    behaviour: Tensor
    advantage: Tensor
    mask: Tensor
    weight: Tensor
    nll: Tensor
    kl: Tensor
    reference: Tensor | None = None
    entropy: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)
    candidates: Tensor | None = None
    pairs: list[tuple[int, int, float, float]] = field(default_factory=list)
    total_pairs: int = 0


class LossTerm(ABC):
    """One summand of an objective. Its value includes its ``coefficient``.

    ``needs_stats`` names the statistics (:data:`selfreward.policy.scoring.distribution.STATS`) that it differentiates;
    ``needs_candidates`` the channel of ``Row.extra`` with token ids ``[T, K]`` whose log-probabilities it
    differentiates (one channel per objective).
    """

    name: ClassVar[str]
    uses_pairs: ClassVar[bool] = False
    needs_entropy: ClassVar[bool] = False
    needs_stats: ClassVar[tuple[str, ...]] = ()
    needs_candidates: ClassVar[str | None] = None
    coefficient: float

    def wanted(self, row: Row) -> Tensor | None:
        """Bool ``[T]``: tokens whose ``logp`` the term reads beside those with a mask, NLL or KL weight."""
        return None

    @property
    def needs_reference(self) -> bool:
        return False

    @abstractmethod
    def active(self, row: Row) -> bool:
        """Whether ``row`` can have a gradient from this term (pairs aside)."""

    @abstractmethod
    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        """Weight ``[T]`` of every token, from all rows of one update."""

    @abstractmethod
    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        """The term's share of the loss, a scalar, and of the metrics."""


@dataclass(frozen=True)
class PolicyGradient(LossTerm):
    """Clipped policy gradient and its variants (:func:`policy_gradient`).

    Metrics: ``clip_low`` and ``clip_high``, the share of the loss weight whose gradient was clipped.
    """

    name: ClassVar[str] = "policy_gradient"

    variant: str = "clip"
    clip_low: float = 0.2
    clip_high: float = 0.2
    normalise: str = "dapo"
    max_tokens: int | None = None
    dual_clip: float = 3.0
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        known("variant", self.variant, VARIANTS)
        known_normalisation(self.normalise, self.max_tokens)
        if not 0 <= self.clip_low < 1 or self.clip_high < 0:
            raise ConfigError(
                f"clip_low is {self.clip_low} and clip_high is {self.clip_high}: the ratio is clipped to "
                "1 - clip_low .. 1 + clip_high, so 0 <= clip_low < 1 and 0 <= clip_high."
            )
        if self.variant == "dual_clip" and self.dual_clip <= 1 + self.clip_high:
            raise ConfigError(f"dual_clip is {self.dual_clip}; it must exceed 1 + clip_high = {1 + self.clip_high}.")

    def active(self, row: Row) -> bool:
        return self.coefficient != 0 and bool(torch.any(row.advantage * row.mask != 0))

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        return token_weights(rows, self.normalise, self.max_tokens)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        live = batch.mask != 0
        surrogate = policy_gradient(
            torch.where(live, batch.logp, 0.0),
            torch.where(live, batch.behaviour, 0.0),
            torch.where(live, batch.advantage, 0.0),
            variant=self.variant,
            mask=batch.mask,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            dual_clip=self.dual_clip,
        )
        metrics = {
            "clip_low": float((batch.weight * surrogate.clipped_low).sum()),
            "clip_high": float((batch.weight * surrogate.clipped_high).sum()),
        }
        return self.coefficient * (batch.weight * surrogate.loss).sum(), metrics


@dataclass(frozen=True)
class KL(LossTerm):
    """Penalty on the distance to the reference (:func:`k3_kl`), weighted by ``Row.kl``. Metric: ``kl``.

    With ``corrected`` each token's estimate is multiplied by its importance ratio (DeepSeek-V3.2,
    2512.02556). Its gradient is then that of the KL, also on fresh tokens, where the ratio is 1 but
    has a gradient. GRPO as published does not correct.
    """

    name: ClassVar[str] = "kl"

    coefficient: float = 0.05
    normalise: str = "dapo"
    max_tokens: int | None = None
    corrected: bool = False

    def __post_init__(self) -> None:
        known_normalisation(self.normalise, self.max_tokens)
        if self.coefficient < 0:
            raise ConfigError(f"The KL coefficient is {self.coefficient}; a penalty must not be negative.")

    @property
    def needs_reference(self) -> bool:
        return self.coefficient > 0

    def active(self, row: Row) -> bool:
        return self.coefficient > 0 and support(row, "kl")

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        return token_weights(rows, self.normalise, self.max_tokens, field="kl")

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        if self.coefficient == 0:
            return nothing(batch), {}
        live = batch.weight != 0
        reference = reference_of(batch, self.name)
        logp = torch.where(live, batch.logp, 0.0)
        kl = k3_kl(logp, torch.where(live, reference, 0.0))
        if self.corrected:
            kl = kl * importance_ratio(logp, torch.where(live, batch.behaviour, 0.0))
        total = (batch.weight * kl).sum()
        return self.coefficient * total, {"kl": float(total.detach())}


@dataclass(frozen=True)
class NLL(LossTerm):
    """Negative log-likelihood weighted by ``Row.nll`` (imitation, rejection sampling, NLL beside DPO).

    ``normalise="grpo"`` is the mean over the rows that have such tokens of their token means, as the
    NLL of ScPO and IRPO. Metric: ``nll``.
    """

    name: ClassVar[str] = "nll"

    coefficient: float = 1.0
    normalise: str = "dapo"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        known_normalisation(self.normalise, self.max_tokens)

    def active(self, row: Row) -> bool:
        return self.coefficient != 0 and support(row, "nll")

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        return token_weights(rows, self.normalise, self.max_tokens, field="nll", count_empty=False)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        total = weighted_nll(batch.logp, batch.weight).sum()
        return self.coefficient * total, {"nll": float(total.detach())}


@dataclass(frozen=True)
class EntropyBonus(LossTerm):
    """Rewards the entropy of the next-token distributions; a negative coefficient punishes it.

    Unlike a certainty reward it is differentiated directly. Metric: ``entropy_bonus``, the mean entropy.
    """

    name: ClassVar[str] = "entropy_bonus"
    needs_entropy: ClassVar[bool] = True

    coefficient: float = 0.001
    normalise: str = "dapo"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        known_normalisation(self.normalise, self.max_tokens)

    def active(self, row: Row) -> bool:
        return self.coefficient != 0 and support(row, "mask")

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        return token_weights(rows, self.normalise, self.max_tokens)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        if batch.entropy is None:
            raise RecipeError("The entropy bonus needs the entropy of every token, but the micro-batch has none.")
        total = (batch.weight * torch.where(batch.weight != 0, batch.entropy, 0.0)).sum()
        return -self.coefficient * total, {"entropy_bonus": float(total.detach())}


@dataclass(frozen=True)
class Uniformity(LossTerm):
    """Pulls the next-token distributions towards uniform: ``KL(uniform || policy)``, mean over tokens.

    Up to a constant the mean of ``-log p`` over the vocabulary, which 2210.08708 adds to its loss. Unlike an
    entropy bonus it fears small probabilities above all. Metric: ``uniformity``, the mean KL.
    """

    name: ClassVar[str] = "uniformity"
    needs_stats: ClassVar[tuple[str, ...]] = ("self_certainty",)

    coefficient: float = 0.1
    normalise: str = "dapo"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        known_normalisation(self.normalise, self.max_tokens)

    def active(self, row: Row) -> bool:
        return self.coefficient != 0 and support(row, "mask")

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        return token_weights(rows, self.normalise, self.max_tokens)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        kl = batch.stats["self_certainty"]
        total = (batch.weight * torch.where(batch.weight != 0, kl, 0.0)).sum()
        return self.coefficient * total, {"uniformity": float(total.detach())}


def known(what: str, value: str, valid: Sequence[str]) -> None:
    """Raise ConfigError unless ``value`` is one of ``valid``."""
    if value not in valid:
        raise ConfigError(f"Unknown {what} {value!r}.{nearest(value, valid)}")


def known_normalisation(normalise: str, max_tokens: int | None) -> None:
    """ConfigError for an unknown normalisation, or ``dr_grpo`` without the budget that it divides by."""
    known("normalise", normalise, NORMALISATIONS)
    if normalise == "dr_grpo" and (max_tokens is None or max_tokens < 1):
        raise ConfigError(f"normalise='dr_grpo' needs max_tokens, the completion budget; it is {max_tokens!r}.")


def reference_of(batch: MicroBatch, term: str) -> Tensor:
    """The reference's log-probabilities; RecipeError where there are none."""
    if batch.reference is None:
        raise RecipeError(f"The {term} term needs the reference's log-probabilities, but the micro-batch has none.")
    return batch.reference


def channel_of(batch: MicroBatch, name: str, term: str) -> Tensor:
    """A channel of the rows; RecipeError where no row brings it."""
    if name not in batch.extra:
        raise RecipeError(f"The {term} term reads the channel {name!r}, which no row of the update brings (Row.extra).")
    return batch.extra[name]


def nothing(batch: MicroBatch) -> Tensor:
    """Zero, connected to the graph so that a backward pass finds one."""
    return torch.where(torch.zeros_like(batch.logp, dtype=torch.bool), batch.logp, 0.0).sum()
