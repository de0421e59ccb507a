"""Policy-gradient surrogates and the KL estimate, per token and unreduced."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from selfreward.errors import ConfigError, nearest

VARIANTS = ("clip", "dual_clip", "gspo", "cispo", "sapo", "importance", "reinforce")

# exp(20) is far outside every clip range, and a finite ratio keeps 0 * inf out of the gradient.
_MAX_LOG_RATIO = 20.0


class Surrogate(NamedTuple):
    """A per-token loss and where the clip took its gradient away (bool, same shape)."""

    loss: Tensor
    clipped_low: Tensor
    clipped_high: Tensor


def policy_gradient(
    logp: Tensor,
    behaviour: Tensor,
    advantage: Tensor,
    *,
    variant: str = "clip",
    mask: Tensor | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = 3.0,
    temperatures: tuple[float, float] = (1.0, 1.05),
) -> Surrogate:
    """Negative policy-gradient surrogate of every token; ``r = exp(logp - behaviour)``, ``A`` the advantage.

    ========== ============================================================== =======================
    variant    surrogate to maximise                                          source
    ========== ============================================================== =======================
    clip       min(r A, clip(r, 1-low, 1+high) A)                             PPO 1707.06347 eq. 7;
                                                                              low != high: DAPO 2503.14476
    dual_clip  as clip, but at least ``dual_clip`` A where A < 0              1912.09729
    gspo       as clip, with r = exp(mean of the log ratios of the sequence)  GSPO 2507.18071
    cispo      sg(min(r, 1+high)) A logp                                      MiniMax-M1 2506.13585
    sapo       4/t sigmoid(t (r-1)) A, t = temperatures[0 if A > 0 else 1]    SAPO 2511.20347
    importance r A                                                            unclipped importance sampling
    reinforce  A logp                                                         no correction at all
    ========== ============================================================== =======================

    Args:
        logp: float ``[B, T]`` or flat ``[N]``, log-probabilities under the policy that is trained.
        behaviour: same shape, log-probabilities under the policy that sampled; never differentiated.
        advantage: same shape.
        mask: ``[B, T]`` 0/1, needed by "gspo" alone, whose ratio belongs to the whole sequence.

    Returns:
        The loss (same shape, unreduced) and the two clip indicators.
    """
    if not logp.shape == behaviour.shape == advantage.shape:
        raise ValueError(
            f"logp {tuple(logp.shape)}, behaviour {tuple(behaviour.shape)} and advantage "
            f"{tuple(advantage.shape)} must have one shape."
        )
    advantage = advantage.detach()
    ratio = importance_ratio(logp, behaviour)
    if variant == "gspo":
        if mask is None or mask.dim() != 2 or mask.shape != logp.shape:
            raise ValueError("variant 'gspo' needs logp and mask of one shape [B, T]: its ratio is that of a sequence.")
        lengths = mask.sum(-1, keepdim=True).clamp(min=1.0)
        ratio = importance_ratio(
            (logp * mask).sum(-1, keepdim=True) / lengths, (behaviour * mask).sum(-1, keepdim=True) / lengths
        )
        ratio = ratio.expand_as(logp)
    never = torch.zeros_like(advantage, dtype=torch.bool)

    if variant == "reinforce":
        return Surrogate(-advantage * logp, never, never)
    if variant == "importance":
        return Surrogate(-advantage * ratio, never, never)
    if variant == "sapo":
        t = torch.where(advantage > 0, temperatures[0], temperatures[1])
        return Surrogate(-advantage * torch.sigmoid(t * (ratio - 1)) * 4 / t, never, never)
    high = (ratio.detach() > 1 + clip_high) & (advantage > 0)
    if variant == "cispo":
        # The clip caps the weight of a token; the token keeps a gradient.
        return Surrogate(-advantage * ratio.detach().clamp(max=1 + clip_high) * logp, never, high)
    if variant not in VARIANTS:
        raise ConfigError(f"Unknown policy-gradient variant {variant!r}.{nearest(variant, VARIANTS)}")
    low = (ratio.detach() < 1 - clip_low) & (advantage < 0)
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    if variant == "dual_clip":
        high = high | ((ratio.detach() > dual_clip) & (advantage < 0))
        ratio = ratio.clamp(max=dual_clip)
    return Surrogate(-torch.minimum(ratio * advantage, clipped * advantage), low, high)


def importance_ratio(logp: Tensor, behaviour: Tensor) -> Tensor:
    """``exp(logp - behaviour)``, with gradient to ``logp`` alone."""
    return (logp - behaviour.detach()).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()


def k3_kl(logp: Tensor, reference: Tensor) -> Tensor:
    """Per-token estimate of KL(policy || reference) from tokens of the policy, never negative.

    ``exp(d) - d - 1`` with ``d = reference - logp`` (http://joschu.net/blog/kl-approx.html; GRPO
    2402.03300 eq. 4). Any shape in, the same shape out.
    """
    d = reference.detach() - logp
    return d.clamp(max=_MAX_LOG_RATIO).exp() - d - 1
