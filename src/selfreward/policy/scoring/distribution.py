"""Statistics of next-token distributions: how probable, how certain, how surprising, from logits ``[..., V]``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STATS = ("logprob", "entropy", "self_certainty", "gap", "gini", "rank", "centred_logit", "value_max", "value_soft")


def _entropy(logp: Tensor) -> Tensor:
    # A token of probability 0 contributes 0, but 0 * -inf is NaN.
    value = -(logp.exp() * logp).sum(-1)
    if torch.isfinite(value).all():
        return value
    return -(logp.exp() * logp.masked_fill(logp == -torch.inf, 0.0)).sum(-1)


def _self_certainty(logp: Tensor) -> Tensor:
    value = -logp.mean(-1) - math.log(logp.shape[-1])
    if torch.isfinite(value).all():
        return value
    allowed = logp > -torch.inf
    size = allowed.sum(-1)
    masked = -logp.masked_fill(~allowed, 0.0).sum(-1) / size - size.log()
    return torch.where(logp.isnan().any(-1), torch.nan, masked)


def _gap(logp: Tensor) -> Tensor:
    if logp.shape[-1] < 2:
        return torch.ones_like(logp[..., 0])
    top = logp.topk(2, dim=-1).values.exp()
    return top[..., 0] - top[..., 1]


def _centre(logp: Tensor) -> Tensor:
    """Mean log-probability ``[..., 1]`` over the tokens that are allowed: what centring subtracts."""
    value = logp.mean(-1, keepdim=True)
    if torch.isfinite(value).all():
        return value
    allowed = logp > -torch.inf
    return logp.masked_fill(~allowed, 0.0).sum(-1, keepdim=True) / allowed.sum(-1, keepdim=True)


def _value_max(logp: Tensor) -> Tensor:
    return logp.amax(-1) - _centre(logp).squeeze(-1)


def _value_soft(logp: Tensor) -> Tensor:
    return -_entropy(logp) - _centre(logp).squeeze(-1)


def _rank(logp: Tensor, chosen: Tensor) -> Tensor:
    return 1.0 + (logp > chosen[..., None]).sum(-1)


def _centred_logit(logp: Tensor, chosen: Tensor) -> Tensor:
    return chosen - _centre(logp).squeeze(-1)


def _gini(logp: Tensor) -> Tensor:
    return (2 * logp).exp().sum(-1)


# Of the distribution alone, and of the distribution and the log-probability of the token in question.
_ON_LOGPROBS: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": _entropy,
    "self_certainty": _self_certainty,
    "gap": _gap,
    "gini": _gini,
    "value_max": _value_max,
    "value_soft": _value_soft,
}
_ON_TOKEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logprob": lambda logp, chosen: chosen,
    "rank": _rank,
    "centred_logit": _centred_logit,
}


def _logprobs(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities in float32 (float64 stays), whatever the input's precision."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if temperature != 1.0:
        logits = logits.to(dtype) / temperature
    return torch.log_softmax(logits, dim=-1, dtype=dtype)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the next-token distribution in nats, ``[..., V]`` to ``[...]``."""
    return _entropy(_logprobs(logits))


def negative_entropy(logits: Tensor) -> Tensor:
    """``-entropy``, the reward of RENT (2505.22660), ``[..., V]`` to ``[...]``."""
    return -entropy(logits)


def self_certainty(logits: Tensor) -> Tensor:
    """``KL(uniform || p) = -(1/V) sum_j log p_j - log V``, ``[..., V]`` to ``[...]`` (2502.18581).

    Zero for the uniform distribution, larger when more certain. Tokens whose logit is ``-inf`` are
    left out and V counts the others: a masked vocabulary would otherwise be infinitely certain.
    Not comparable across models, vocabularies or temperatures.
    """
    return _self_certainty(_logprobs(logits))


def probability_gap(logits: Tensor) -> Tensor:
    """Probability of the likeliest token minus that of the second, ``[..., V]`` to ``[...]``."""
    return _gap(_logprobs(logits))


def gini(logits: Tensor) -> Tensor:
    """``sum_j p_j ** 2``, 1 minus the Gini impurity, ``[..., V]`` to ``[...]``: 1/V when uniform, 1 when certain.

    One of the confidences that self-certainty is compared with (2502.18581).
    """
    return _gini(_logprobs(logits))


def token_rank(logits: Tensor, tokens: Tensor) -> Tensor:
    """1 plus the number of tokens that are likelier than ``tokens`` ``[...]``; 1 is the greedy choice."""
    logp = _logprobs(logits)
    return _rank(logp, logp.gather(-1, tokens[..., None]).squeeze(-1)).to(logp.dtype)


def centred_logit(logits: Tensor, tokens: Tensor) -> Tensor:
    """``f(s, a) - mean_a' f(s, a')``, the logit of ``tokens`` ``[...]`` above the mean (2210.08708).

    Cross-entropy leaves a constant per state open; centring fixes it. Read as a value of taking ``a`` in
    ``s``. Tokens whose logit is ``-inf`` do not enter the mean.
    """
    logp = _logprobs(logits)
    return _centred_logit(logp, logp.gather(-1, tokens[..., None]).squeeze(-1))


def state_value(logits: Tensor, kind: str = "max") -> Tensor:
    """Value of a state under centred logits ``f``, ``[..., V]`` to ``[...]`` (2210.08708).

    Args:
        kind: ``"max"`` is ``max_a f(s, a)``; ``"soft"`` is ``sum_a softmax(f)_a f(s, a)``.
    """
    assert kind in ("max", "soft"), f"kind is {kind!r}; there are max and soft"
    return (_value_max if kind == "max" else _value_soft)(_logprobs(logits))


def token_statistics(
    logits_N_V: Tensor,
    tokens_N: Tensor,
    stats: Sequence[str] = STATS,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """Statistics of N next-token distributions from one log-softmax each.

    Rows are processed in chunks, so at most a few ``chunk * V`` float32 values exist beside the
    input, never a float copy of all of it. Differentiable.

    Args:
        logits_N_V: any floating dtype; the arithmetic is float32.
        tokens_N: long, the token that was chosen in each row.
        stats: any of :data:`STATS`. Of the chosen token: ``logprob``, ``rank`` (1 is the likeliest) and
            ``centred_logit``; of the distribution: ``entropy``, ``self_certainty``, ``gap`` (top-1 minus
            top-2 probability), ``value_max`` and ``value_soft`` (:func:`state_value`).
        temperature: of the distribution that is described; log-probabilities of sampled tokens
            must use the sampler's.
        chunk: rows at a time; None picks a size that suits the device.

    Returns:
        One float tensor ``[N]`` per requested statistic.
    """
    assert logits_N_V.ndim == 2, f"logits must be [N, V], got {tuple(logits_N_V.shape)}"
    n, vocabulary = logits_N_V.shape
    assert tokens_N.shape == (n,), f"tokens must be [{n}], got {tuple(tokens_N.shape)}"
    unknown = set(stats) - set(STATS)
    assert not unknown, f"unknown statistics {sorted(unknown)}; there are {', '.join(STATS)}"
    if chunk is None:
        # On a CPU a chunk should stay in the cache; on a GPU it should fill the device.
        budget = 2**19 if logits_N_V.device.type == "cpu" else 2**27
        chunk = max(1, budget // max(1, vocabulary))

    parts: dict[str, list[Tensor]] = {name: [] for name in stats}
    for start in range(0, max(n, 1), chunk):
        logp = _logprobs(logits_N_V[start : start + chunk], temperature)
        chosen = logp.gather(-1, tokens_N[start : start + chunk, None].to(logp.device)).squeeze(-1)
        for name in stats:
            if name in _ON_TOKEN:
                parts[name].append(_ON_TOKEN[name](logp, chosen).to(logp.dtype))
            else:
                parts[name].append(_ON_LOGPROBS[name](logp))
    return {name: values[0] if len(values) == 1 else torch.cat(values) for name, values in parts.items()}
