"""Credit of single tokens from two opposite instructions, without a reward model.

T-REG (Zhou et al. 2024, arXiv 2412.02685): a model that is asked to make a response better finds its good tokens
likelier than when it is asked to make it worse. The response is forced under both requests; nothing is generated.
"""

from __future__ import annotations

import torch
from torch import Tensor


def contrast_credit(better_T: Tensor, worse_T: Tensor) -> Tensor:
    """``sigmoid(better_t - worse_t) - 1/2`` of every token, float ``[T]`` in (-1/2, 1/2).

    Args:
        better_T, worse_T: log-probabilities of the response's tokens when asked for a better and for a worse one.

    Example: a token of probability .9 under "better" and .1 under "worse" gets
    ``sigmoid(log 9) - 1/2 = .9 - .5 = .4``, the other way round -.4.
    """
    if better_T.shape != worse_T.shape:
        raise ValueError(f"The two readings differ in length: {tuple(better_T.shape)} and {tuple(worse_T.shape)}.")
    return torch.sigmoid(better_T - worse_T) - 0.5
