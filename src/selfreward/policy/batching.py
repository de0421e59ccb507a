"""Sequences of unequal length as batches: how they are padded, and how they are cut by size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Tokens (with padding) in one forward of a GPU.
MICRO_TOKENS = 16_384


def right_pad(sequences: Sequence[Tensor], value: float = 0) -> Tensor:
    """``[B, T]`` (or ``[B, T, ...]``) with ``value`` after each sequence's end."""
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=value)


def micro_batches(lengths: Sequence[int], max_tokens: int = MICRO_TOKENS) -> list[list[int]]:
    """Indices of sequences, longest first, in batches of at most ``max_tokens`` padded tokens.

    Example: lengths ``[2, 5, 3]`` in batches of 6 are ``[[1], [2, 0]]``: 5 tokens, then 3 and 2 padded to 3.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        width = lengths[batches[-1][0]] if batches else 0
        if batches and width * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
