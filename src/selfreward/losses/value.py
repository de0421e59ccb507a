"""The loss of a critic: squared error to the returns, clipped around the old values (PPO)."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float = 0.2) -> Tensor:
    """``max((v - R)^2, (clip(v, old - c, old + c) - R)^2) / 2``, any shape (PPO, arXiv 1707.06347, as released).

    A value that has moved by more than ``clip`` towards its return has no gradient left. Example: value 1,
    old value 0, return 2, clip .2 is max(1, 3.24) / 2 = 1.62.
    """
    bounded = torch.maximum(torch.minimum(values, old + clip), old - clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (bounded - returns) ** 2)
