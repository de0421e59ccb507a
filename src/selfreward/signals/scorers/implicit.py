"""The reward that DPO's policy implies, read off two models: ``beta (log p(y|x) - log p_reference(y|x))``.

See :mod:`selfreward.signals.implicit` for the formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from selfreward.signals.implicit import implicit_reward

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.types import Group


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
