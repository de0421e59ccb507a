"""The last-token score of LaSeR (2510.14943): what one reserved token after the end says about a solution.

A token ``z`` that no text uses has a nearly constant probability ``exp(c_ref)`` after every finished solution.
Training moves it: ``log p(z)`` is taught to be ``c_ref + r / beta`` for a solution of reward ``r``, so that

    r_s = beta * (log p(z | x, y, <eos>) - c_ref)

reads the reward back at the cost of one next-token probability. Everything here is a pure function on floats
or tensors ``[N]``; the forward passes are in :mod:`selfreward.signals.scorers.last_token`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from selfreward.errors import RecipeError


def last_token_score(logprob_N: Tensor, c_ref: float, beta: float) -> Tensor:
    """``beta * (logprob - c_ref)``, ``[N]`` (eq. 9). Example: log p = -8, c_ref = -12, beta = 1/4 gives 1."""
    return beta * (logprob_N - c_ref)


def default_beta(c_ref: float) -> float:
    """``2 / |c_ref|``: a right solution is then taught half of the way from ``c_ref`` to 0.

    The published 0.1 at c_ref = -23.1 follows the same rule (0.087). On a small vocabulary c_ref lies near
    -10, and 0.1 would ask for a log-probability above 0.
    """
    return 2.0 / abs(c_ref)


def check_beta(c_ref: float, beta: float) -> None:
    """Refuse a beta that asks for more than the token can give.

    Raises:
        RecipeError: when ``c_ref + 1 / beta`` is not clearly below 0.
    """
    if beta <= 0 or c_ref + 1 / beta > 0.25 * c_ref:
        raise RecipeError(
            f"beta is {beta:g} and c_ref is {c_ref:.2f}: a right solution would be taught the log-probability "
            f"{c_ref + 1 / beta if beta else float('inf'):.2f}, which has to stay well below 0. "
            f"Leave beta out for {default_beta(c_ref):.3g}."
        )


def class_weights(rewards_N: Tensor, balanced: bool = True) -> Tensor:
    """Weights ``[N]`` that give right and wrong solutions the same total: ``N / (2 N_c)`` and ``N / (2 N_i)``.

    Example: rewards ``[1, 0, 0, 0]`` give ``[2, 2/3, 2/3, 2/3]``. Of one kind alone, or unbalanced: ones.
    """
    right = rewards_N > 0.5
    n, correct = rewards_N.numel(), int(right.sum())
    if not balanced or correct in (0, n):
        return torch.ones(n)
    return torch.where(right, n / (2 * correct), n / (2 * (n - correct)))
