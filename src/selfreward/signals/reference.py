"""Reference likelihood: how well a reasoning trace explains an outcome that is known to be good.

R3, the reasoning reflection reward of DRO (Xu et al. 2025, arXiv 2506.13351 v1). With ``l_ij = log p(y_j | q, c_i,
y_<j)`` for trace c_i of a group of N and reference token y_j of T:

* ``sigma_j``, the standard deviation of ``l_ij`` over i, is large where the outcome depends on the reasoning;
* ``R3_i = sum_j w(sigma_j) (l_ij - m_j)``, ``m_j`` the same log-probability with the reasoning masked.

The shape of w is not published. ``m_j`` does not depend on i: it cancels exactly in every advantage that subtracts the
group's mean, and matters only where rewards of different prompts are compared (filters, thresholds, logs).
Tensors are float, in nats, ``[N, T]`` unless said otherwise. No model is called here.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from selfreward.errors import ConfigError

Shape = Literal["proportional", "squared", "top", "uniform"]
SHAPES = ("proportional", "squared", "top", "uniform")


def token_spread(logprob_N_T: Tensor) -> Tensor:
    """``sigma_j``: population standard deviation over the traces, ``[N, T]`` to ``[T]``.

    Example: two traces with ``[-1, -1]`` and ``[-1, -3]`` spread ``[0, 1]``.
    """
    assert logprob_N_T.ndim == 2, f"log-probabilities must be [traces, tokens], got {tuple(logprob_N_T.shape)}"
    return logprob_N_T.std(0, correction=0)


def spread_weights(spread_T: Tensor, shape: Shape = "proportional", share: float = 0.1) -> Tensor:
    """``w(sigma_j)``, ``[T]``, summing to 1; all 0 where no token depends on the reasoning.

    Example: spreads ``[0, 1, 3]`` weigh ``[0, 1/4, 3/4]`` proportionally and ``[0, 1/10, 9/10]`` squared.

    Args:
        shape: ``proportional`` to sigma, to its square (``squared``), equal on the ``top`` share of the tokens (at
            least one), or ``uniform`` over all tokens (the aggregate likelihood).
        share: of the tokens, for ``top``.
    """
    assert spread_T.ndim == 1 and spread_T.numel() > 0, f"one spread per token, got {tuple(spread_T.shape)}"
    if shape not in SHAPES:
        raise ConfigError(f"Unknown shape {shape!r} of the token weights; there are {', '.join(SHAPES)}.")
    if shape == "uniform":
        return torch.full_like(spread_T, 1 / spread_T.numel())
    if shape == "top":
        n = max(1, round(share * spread_T.numel()))
        raw = torch.zeros_like(spread_T)
        raw[spread_T.argsort(descending=True, stable=True)[:n]] = 1.0
        raw = raw * (spread_T > 0)
    else:
        raw = spread_T if shape == "proportional" else spread_T**2
    total = raw.sum()
    return raw / total if float(total) > 0 else torch.zeros_like(raw)


def reasoning_reflection(logprob_N_T: Tensor, weight_T: Tensor, masked_T: Tensor | None = None) -> Tensor:
    """``R3_i = sum_j w_j (l_ij - m_j)``, ``[N, T]`` to ``[N]``.

    Example: ``l = [[-1, -1], [-1, -3]]``, weights ``[0, 1]`` and ``m = [-1, -2]`` give ``[1, -1]``.

    Args:
        masked_T: ``m_j``; None leaves it out.
    """
    assert logprob_N_T.ndim == 2 and weight_T.shape == logprob_N_T.shape[1:], (
        f"{tuple(logprob_N_T.shape)} log-probabilities for {tuple(weight_T.shape)} weights"
    )
    gain = logprob_N_T if masked_T is None else logprob_N_T - masked_T
    return gain @ weight_T


def propagated(logprob_N_T: Tensor, reflective_T: Tensor, gamma: float = 0.1) -> Tensor:
    """Log-probabilities without the help of reference tokens that the trace did not foresee, ``[N, T]``.

    Forcing the reference corrects a wrong reasoning in passing: once the right number has been read, the rest is
    easy. So token j is multiplied by ``prod_{k < j} P_k(j)`` over the reflective tokens k, with
    ``P_k(j) = p_k + (1 - p_k)(1 - exp(-gamma (j - k)))``: a token k of probability 0 takes j along right behind it and
    is forgotten at a distance. DRO's alternative for outcomes with few reflective tokens.

    Example: probabilities ``[0.5, 1]``, token 0 reflective and ``gamma = ln 2``: ``P_0(1) = 0.5 + 0.5 * 0.5 = 0.75``.
    """
    assert logprob_N_T.ndim == 2 and reflective_T.shape == logprob_N_T.shape[1:], (
        f"{tuple(logprob_N_T.shape)} log-probabilities for {tuple(reflective_T.shape)} marks"
    )
    if gamma <= 0:
        raise ConfigError(f"gamma is {gamma}; it must be positive.")
    result = logprob_N_T.clone()
    tokens = torch.arange(logprob_N_T.shape[1])
    for k in tokens[reflective_T.bool()].tolist():
        p = logprob_N_T[:, k : k + 1].exp()
        later = tokens[k + 1 :]
        kept = 1 - torch.exp(-gamma * (later - k).to(p.dtype))
        result[:, k + 1 :] += (p + (1 - p) * kept).clamp(min=1e-12).log()
    return result


def outcome_length_reward(lengths: Sequence[int], reference: int, beta: float = 1.0) -> Tensor:
    """``1 - beta | |y| - |o_i| | / |y|`` for outcomes of these lengths, ``[N]``.

    Only the outcome counts, never the reasoning. Example: lengths 10 and 15 against 10 are worth 1 and 0.5.
    """
    assert reference > 0, "the reference outcome is empty"
    return 1 - beta * (torch.tensor(lengths, dtype=torch.float32) - reference).abs() / reference


def overlap(outcome: Sequence[Hashable], reference: Sequence[Hashable], n: int = 2) -> float:
    """F1 of the n-grams of two token lists, in [0, 1]: a reward that never looks at the reasoning (comparison).

    Example: ``a b c`` and ``a b d`` share one of two bigrams each: 0.5.
    """
    from collections import Counter

    def grams(tokens: Sequence[Hashable]) -> Counter[tuple[Hashable, ...]]:
        return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

    own, other = grams(outcome), grams(reference)
    total = sum(own.values()) + sum(other.values())
    return 2 * sum((own & other).values()) / total if total else 0.0


# ---- which prompts are worth learning from -------------------------------------------------------


def too_hard(rank_N_T: Tensor, worst: float = 0.1, k: float = 100.0) -> bool:
    """DRO's filter (a): in no trace is the mean rank of the worst-ranked reference tokens below ``k``.

    Example: ranks ``[[1, 9], [1, 5]]``, of which the worst half is ``[9]`` and ``[5]``: too hard for k = 4, not for 6.

    Args:
        rank_N_T: rank of each reference token in the model's order, 1 the likeliest.
        worst: share of the tokens that is looked at, at least one.
    """
    assert rank_N_T.ndim == 2, f"ranks must be [traces, tokens], got {tuple(rank_N_T.shape)}"
    n = max(1, round(worst * rank_N_T.shape[1]))
    mean_N = rank_N_T.float().topk(n, dim=1).values.mean(1)
    return not bool((mean_N < k).any())


def worth_learning(
    spread: Mapping[str, float], hard: Mapping[str, bool], drop: float = 0.3
) -> tuple[list[str], dict[str, int]]:
    """DRO's filter (a) and (b): the prompts to keep, in the order given, and how many were dropped for what.

    After the hard ones (``hard``) have gone, the lowest share ``drop`` by ``max_j sigma_j`` (``spread``) goes: what
    does not depend on the reasoning teaches none.
    Example: spreads a 3, b 1, c 2, d 9 with d hard and drop 1/3 keep a and c.
    """
    if not 0 <= drop < 1:
        raise ConfigError(f"drop is {drop}; it must lie in [0, 1).")
    able = [p for p in spread if not hard[p]]
    n = int(drop * len(able))
    flat = set(sorted(able, key=lambda p: (spread[p], p))[:n])
    return [p for p in able if p not in flat], {"too_hard": len(spread) - len(able), "no_reasoning": n}
