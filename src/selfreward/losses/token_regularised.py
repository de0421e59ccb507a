"""DPO whose implicit token rewards are pulled towards given ones (T-REG, arXiv 2412.02685)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from selfreward.errors import ConfigError
from selfreward.losses.preference_term import Preference
from selfreward.losses.terms import Metrics, MicroBatch


def token_regularisation(logp_B_T: Tensor, credit_B_T: Tensor, beta: float = 0.1) -> Tensor:
    """``-beta sum_t credit_t log pi(y_t)``, float ``[B]`` (T-REG, the regulariser of one response).

    It is minus the inner product of the given token rewards with DPO's own, ``beta log pi / pi_ref``, without the part
    that does not depend on the policy. Example: log-probabilities ``[-1, -2]``, credit ``[.4, -.2]`` and beta 1 give
    ``-(-.4 + .4) = 0``; credit ``[.4, 0]`` gives .4.
    """
    if logp_B_T.shape != credit_B_T.shape:
        raise ValueError(f"logp {tuple(logp_B_T.shape)} and credit {tuple(credit_B_T.shape)} must be alike.")
    return -beta * (credit_B_T * logp_B_T).sum(-1)


def sequence_weight(chosen_P: Tensor, rejected_P: Tensor, beta: float = 0.1) -> Tensor:
    """``sigmoid(beta (rejected - chosen))`` of the log-ratios, ``[P]`` without gradient: DPO's own weight of a pair.

    Example: equal log-ratios weigh 1/2; a pair that is learnt weighs nothing.
    """
    return torch.sigmoid(beta * (rejected_P - chosen_P)).detach()


@dataclass(frozen=True)
class RegularisedPreference(Preference):
    """The DPO family plus ``alpha w (L_reg(chosen) + L_reg(rejected))``, the mean over pairs.

    Token rewards come in the rows' channel ``credit``. Metric beside those of :class:`Preference`: ``regulariser``, the
    mean of the weighted term before ``alpha``.

    Attributes:
        alpha: weight of the regulariser.
        weighting: ``sequence`` is the paper's weight; ``static`` weighs every pair 1.
    """

    alpha: float = 0.25
    weighting: str = "sequence"
    credit: ClassVar[str] = "credit"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weighting not in ("sequence", "static"):
            raise ConfigError(f"weighting is {self.weighting!r}; it must be 'sequence' or 'static'.")
        if self.alpha < 0:
            raise ConfigError(f"alpha is {self.alpha}; it must not be negative.")

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        loss, metrics = super().__call__(batch)
        if not batch.pairs or not self.alpha or self.credit not in batch.extra:
            return loss, metrics
        live = batch.weight != 0
        terms = token_regularisation(
            torch.where(live, batch.logp, 0.0), torch.where(live, batch.extra[self.credit], 0.0), self.beta
        )
        ratios = self.log_ratios(batch).detach()
        chosen, rejected = [p[0] for p in batch.pairs], [p[1] for p in batch.pairs]
        weight = sequence_weight(ratios[chosen], ratios[rejected], self.beta)
        if self.weighting == "static":
            weight = torch.ones_like(weight)
        n = max(batch.total_pairs, len(batch.pairs))
        value = (weight * (terms[chosen] + terms[rejected])).sum() / n
        return loss + self.coefficient * self.alpha * value, metrics | {"regulariser": float(value.detach())}
