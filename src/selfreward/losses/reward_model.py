"""The loss of a reward model that learns from pairs (Bradley and Terry)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(chosen_P: Tensor, rejected_P: Tensor, margin: float | Tensor = 0.0) -> Tensor:
    """``-log sigmoid(chosen - rejected - margin)`` of every pair, ``[P]`` (Bradley and Terry 1952).

    The margin is that of Llama 2 (arXiv 2307.09288, eq. 2). Example: 2 over 1 with margin 1 is log 2.
    """
    if chosen_P.shape != rejected_P.shape:
        raise ValueError(f"chosen {tuple(chosen_P.shape)} and rejected {tuple(rejected_P.shape)} must be alike.")
    return -logsigmoid(chosen_P - rejected_P - margin)
