"""The reward that a trained model implies: how much likelier than its ancestor it finds a response.

DPO (Rafailov et al. 2023, arXiv 2305.18290, eq. 5): up to a term of the prompt alone, the reward under which ``pi``
is the best policy near ``pi_ref`` is ``beta (log pi(y|x) - log pi_ref(y|x))``. It needs no judge, no prompt and no
parsing. Of a model that was tuned on good examples it mostly says "looks like the examples".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from selfreward.policy import Policy
    from selfreward.types import Group


def implicit_reward(logp_T: Tensor, reference_T: Tensor, beta: float = 1.0, mean: bool = False) -> float:
    """``beta sum_t (logp_t - reference_t)`` of one response; with ``mean`` divided by its tokens.

    Example: ``[-1, -2]`` against ``[-2, -2.5]`` is 1.5, and .75 as a mean.
    """
    if logp_T.shape != reference_T.shape or logp_T.ndim != 1:
        raise ValueError(f"Two [T] tensors are needed, not {tuple(logp_T.shape)} and {tuple(reference_T.shape)}.")
    ratio = (logp_T - reference_T).double()
    return beta * float(ratio.mean() if mean and len(ratio) else ratio.sum())


def response_logprobs(model: Policy, groups: Sequence[Group], *, role: str = "scorer") -> list[list[Tensor]]:
    """``[groups][trajectories]`` of float ``[T]``: log-probabilities of every last segment under ``model``."""
    flat = [t for group in groups for t in group]
    starts = [len(t.tokens) - len(t.last) for t in flat]
    scored = iter(model.score([t.tokens for t in flat], starts, role=role))
    return [[next(scored)["logprob"] for _ in group] for group in groups]


def implicit_rewards(
    model: Policy, ancestor: Policy, groups: Sequence[Group], *, beta: float = 1.0, mean: bool = False
) -> list[list[float]]:
    """``[groups][trajectories]``: :func:`implicit_reward` of every response, two forwards and no sampling."""
    mine, theirs = response_logprobs(model, groups), response_logprobs(ancestor, groups)
    return [
        [implicit_reward(a, b, beta, mean) for a, b in zip(first, second, strict=True)]
        for first, second in zip(mine, theirs, strict=True)
    ]
