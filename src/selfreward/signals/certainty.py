"""Certainty of the policy about its own text: entropy, self-certainty, gaps, likelihood.

Per-token functions take logits ``[..., V]`` of a next-token distribution; sequence functions reduce
per-token values ``[..., T]``. "Certainty" is not one signal: self-certainty looks at the tail of the
vocabulary, entropy at the head, and on the same samples they can order completions oppositely.
As a training reward each is known to collapse; they are for selection, audit and as warnings.

Sources: self-certainty, arXiv 2502.18581 and Intuitor (2505.19590); entropy minimisation, RENT
(2505.22660); top-1 minus top-2, chain-of-thought decoding (2402.10200) and RLSF (2507.21931); centred
logits and state values, the inverse-RL reading of a language model (2210.08708).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def token_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the last dimension, ``[..., T]`` to ``[...]``, of the positions where ``mask`` is 1.

    NaN where there is no position: the certainty of an empty text is not zero, it is undefined.
    """
    if mask is None:
        return values.mean(-1)
    assert mask.shape == values.shape, f"mask {tuple(mask.shape)} for values {tuple(values.shape)}"
    return torch.where(mask.bool(), values, 0.0).sum(-1) / mask.bool().sum(-1)


def mean_logprob(logprobs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Length-normalised log-likelihood, ``[..., T]`` to ``[...]``."""
    return token_mean(logprobs, mask)


def perplexity(logprobs: Tensor, mask: Tensor | None = None) -> Tensor:
    """``exp(-mean log p)``, ``[..., T]`` to ``[...]``; lower is more certain."""
    return torch.exp(-token_mean(logprobs, mask))


_SEQUENCE: dict[str, tuple[str, Callable[[Tensor, Tensor | None], Tensor]]] = {
    "entropy": ("entropy", token_mean),
    "negative_entropy": ("entropy", lambda v, m: -token_mean(v, m)),
    "self_certainty": ("self_certainty", token_mean),
    "gap": ("gap", token_mean),
    "gini": ("gini", token_mean),
    "mean_logprob": ("logprob", mean_logprob),
    "perplexity": ("logprob", perplexity),
    "negative_perplexity": ("logprob", lambda v, m: -perplexity(v, m)),
}
SEQUENCE_SCORES = tuple(_SEQUENCE)


def needed_statistic(name: str) -> str:
    """Which per-token statistic the sequence score ``name`` is made of."""
    assert name in _SEQUENCE, f"unknown sequence score {name!r}; there are {', '.join(_SEQUENCE)}"
    return _SEQUENCE[name][0]


def sequence_score(name: str, stats: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
    """A sequence's certainty from its per-token statistics ``[..., T]``: one of :data:`SEQUENCE_SCORES`.

    ``self_certainty`` is the mean over response tokens of the per-token value (2502.18581).
    Leave prompt tokens out.
    """
    source = needed_statistic(name)
    return _SEQUENCE[name][1](stats[source], mask)
