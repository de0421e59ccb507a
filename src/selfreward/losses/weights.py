"""Normalisations as weights per token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from selfreward.errors import ConfigError, nearest
from selfreward.types import Row

NORMALISATIONS = ("grpo", "dr_grpo", "dapo", "bnpo")


def token_weights(
    rows: Sequence[Row],
    normalise: str,
    max_tokens: int | None = None,
    *,
    field: str = "mask",
    count_empty: bool = True,
) -> list[Tensor]:
    """Weights under which a plain sum over all tokens of one update is the named normalisation.

    A sum does not care how the rows are split into micro-batches, so gradient accumulation changes
    nothing. ``n_i`` is the number of tokens of row i whose ``field`` is not zero, ``B`` the number of rows:

    ========= ========================= ==============================================
    name      weight of a token         source
    ========= ========================= ==============================================
    grpo      1 / (B n_i)               mean of sequence means, GRPO 2402.03300 eq. 3
    dr_grpo   1 / (B max_tokens)        Dr. GRPO 2503.20783: no length bias
    dapo      1 / sum_j n_j             token mean over the update, DAPO 2503.14476
    bnpo      the same as dapo          trl's name; its mean is per micro-batch, ours never
    ========= ========================= ==============================================

    Args:
        rows: every row of the update, also those that a trainer will skip because they carry no
            gradient: they belong to the mean.
        max_tokens: the completion budget, for "dr_grpo" alone.
        field: "mask", "nll" or "kl". A value other than 0 and 1 scales its token; it does not change the count.
        count_empty: whether a row without a token of this field counts in ``B``. True for rollouts
            (a masked-out truncated rollout was sampled too), False for rows made for something else.

    Returns:
        One float tensor ``[T]`` per row.
    """
    if normalise not in NORMALISATIONS:
        raise ConfigError(f"Unknown normalisation {normalise!r}.{nearest(normalise, NORMALISATIONS)}")
    values = [getattr(row, field).float() for row in rows]
    counts = [int((v != 0).sum()) for v in values]
    n_rows = max(1, len(rows) if count_empty else sum(c > 0 for c in counts))
    if normalise == "grpo":
        return [v / (n_rows * max(1, c)) for v, c in zip(values, counts, strict=True)]
    if normalise == "dr_grpo":
        if max_tokens is None or max_tokens < 1:
            raise ConfigError(f"normalise='dr_grpo' needs max_tokens, the completion budget; it is {max_tokens!r}.")
        return [v / (n_rows * max_tokens) for v in values]
    total = max(1, sum(counts))
    return [v / total for v in values]


def support(row: Row, field: str) -> bool:
    """Whether ``row`` has any token of ``field``."""
    return bool(torch.any(getattr(row, field) != 0))
