"""Token distillation: a student's next-token distributions are pulled to a teacher's, token by token.

The teacher may be the same weights in a richer context (SDPO, 2601.20802), an average of past weights, or another
model with the same tokenizer. Distributions are compared on K candidate tokens and one bucket for all the rest, so
that nothing of the size tokens x vocabulary is ever kept; with K = vocabulary size that is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from selfreward.errors import ConfigError, RecipeError, nearest
from selfreward.losses.likelihood import distillation
from selfreward.losses.policy_gradient import importance_ratio
from selfreward.losses.terms import LossTerm, Metrics, MicroBatch
from selfreward.types import Row

WEIGHT, TOKENS, TEACHER = "distillation/weight", "distillation/tokens", "distillation/teacher"
SAMPLED = "distillation/sampled"
FORMS = ("logits", "token")

# Below this, what is left beside the candidates is rounding.
_LEAST_TAIL = 1e-6


def with_tail(logp_K: Tensor) -> Tensor:
    """Log-probabilities ``[..., K]`` of some tokens with one bucket for all others, ``[..., K + 1]``.

    The bucket holds at least 1e-6, so that a complete list of candidates gives no infinite logarithm.
    Example: probabilities ``[.5, .25]`` are ``[.5, .25, .25]``.
    """
    inside = logp_K.logsumexp(-1, keepdim=True).clamp(max=-_LEAST_TAIL)
    return torch.cat([logp_K, torch.log(-torch.expm1(inside))], -1)


def divergence(student_K: Tensor, teacher_K: Tensor, alpha: float) -> Tensor:
    """``D_alpha`` of two distributions over candidates and tail, ``[..., K]`` to ``[...]`` (SDPO, 2601.20802).

    ``alpha`` 0 is KL(teacher || student), 1 is KL(student || teacher), and between them
    ``(1 - alpha) KL(S || M) + alpha KL(T || M)`` with ``M = (1 - alpha) S + alpha T``.

    Raises:
        ConfigError: for an ``alpha`` outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha}; it must lie in 0 .. 1 (0: forward KL, 1: reverse KL).")
    direction = "forward" if alpha == 0 else "reverse" if alpha == 1 else "jsd"
    return distillation(with_tail(student_K), with_tail(teacher_K), direction=direction, mix=alpha)


def interpolated(first_K: Tensor, second_K: Tensor, share: float) -> Tensor:
    """Log-probabilities of the geometric mean ``first^(1 - share) second^share``, ``[..., K]`` (trust-region teacher).

    Logits are interpolated between a reference (``first``) and the policy; the normaliser is taken over candidates and
    tail bucket, which is exact where the candidates are the whole vocabulary.
    Example: ``[.8, .2]`` and ``[.2, .8]`` with share .5 is ``[.5, .5]``.
    """
    mixed = (1 - share) * with_tail(first_K) + share * with_tail(second_K)
    return mixed.log_softmax(-1)[..., :-1]


@dataclass(frozen=True)
class Distillation(LossTerm):
    """Mean divergence from the teacher over the tokens with a weight, each times ``min(ratio, ratio_cap)``.

    Rows carry ``distillation/weight`` ``[T]``, and for ``form="logits"`` the candidates' ids
    ``distillation/tokens`` ``[T, K]`` and the teacher's log-probabilities of them ``distillation/teacher``
    ``[T, K]``; for ``form="token"`` the teacher's log-probability of the token itself, ``distillation/sampled``
    ``[T]``: its loss ``sg[log S - log T] log S`` is the reverse KL's gradient from one sample per position.
    ``ratio`` is policy over behaviour, without gradient. Metric: ``distillation``, the mean divergence (its
    one-sample estimate for "token").
    """

    name: ClassVar[str] = "distillation"
    needs_candidates: ClassVar[str | None] = TOKENS

    coefficient: float = 1.0
    alpha: float = 0.5
    form: str = "logits"
    ratio_cap: float = 2.0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(f"Unknown form {self.form!r} of distillation.{nearest(self.form, FORMS)}")
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"alpha is {self.alpha}; it must lie in 0 .. 1 (0: forward KL, 1: reverse KL).")
        if self.ratio_cap <= 0:
            raise ConfigError(f"ratio_cap is {self.ratio_cap}; it must be positive.")

    def active(self, row: Row) -> bool:
        return self.coefficient != 0 and WEIGHT in row.extra and bool(torch.any(row.extra[WEIGHT] != 0))

    def wanted(self, row: Row) -> Tensor | None:
        return row.extra[WEIGHT] != 0 if self.active(row) else None

    def weights(self, rows: Sequence[Row]) -> list[Tensor]:
        own = [r.extra[WEIGHT].float() if self.active(r) else torch.zeros(len(r)) for r in rows]
        total = max(1, sum(int((w != 0).sum()) for w in own))
        return [w / total for w in own]

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Metrics]:
        live = batch.weight != 0
        logp = torch.where(live, batch.logp, 0.0)
        if not live.any():
            return (logp * 0.0).sum(), {}
        if self.form == "token":
            gap = (logp - batch.extra[SAMPLED]).detach()
            loss, shown = gap * logp, gap
        else:
            if batch.candidates is None:
                raise RecipeError(f"Rows to be distilled need the channels {TOKENS!r} and {TEACHER!r} [T, K].")
            loss = torch.zeros_like(logp)
            loss[live] = divergence(batch.candidates[live], batch.extra[TEACHER][live], self.alpha)
            shown = loss.detach()
        ratio = importance_ratio(logp, torch.where(live, batch.behaviour, 0.0)).detach().clamp(max=self.ratio_cap)
        total = self.coefficient * (batch.weight * ratio * torch.where(live, loss, 0.0)).sum()
        return total, {"distillation": float((batch.weight * torch.where(live, shown, 0.0)).sum())}
