"""The reward that teacher forcing leaves in a language model's logits.

Hao et al. 2022, "Teacher Forcing Recovers Reward Functions for Text Generation", arXiv 2210.08708: a model trained
by cross-entropy has learned the values of a maximum-entropy policy. Its logits, centred in each state, are
Q(s, a); one step of the Bellman equation then gives the reward of a token. No metric and no judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.credit import return_to_go
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.auditing.context import Context, Scores


def step_rewards(centred_T: Tensor, value_T: Tensor) -> Tensor:
    """``r_t = f(s_t, a_t) - V(s_{t+1})`` of a finished text, ``[T]``; V is 0 after the last token (2210.08708).

    Example: centred logits ``[2, 1]`` of the tokens and values ``[2, 3]`` of their states give ``[-1, 1]``: the
    second token fell 2 short of what its state promised, and the first is charged for the promise.

    Args:
        centred_T: logit of each token minus the mean logit in its state (``centred_logit``).
        value_T: value of the state *before* each token (``value_max`` or ``value_soft``).
    """
    assert centred_T.shape == value_T.shape and centred_T.ndim == 1, f"{centred_T.shape} logits, {value_T.shape} values"
    return centred_T - torch.cat([value_T[1:], value_T.new_zeros(1)])


def induced_advantages(centred_T: Tensor, value_T: Tensor, baseline_T: Tensor, scale: float = 100.0) -> Tensor:
    """Return-to-go of :func:`step_rewards` minus the state's baseline, divided by ``scale``, ``[T]``.

    With ``value_max`` the sum telescopes: what remains at t is ``f(s_t, a_t)`` minus the later tokens' regrets
    ``max_a f - f``. The best text is close to the teacher's own greedy one. Example: the one above with baseline
    ``[1.5, 2]`` and scale 1 is ``[0 - 1.5, 1 - 2]``.
    """
    return (return_to_go(step_rewards(centred_T, value_T)) - baseline_T) / scale


def importance(current_T: Tensor, behaviour_T: Tensor, kind: str = "token") -> Tensor:
    """How much likelier the policy finds each token than the copy that wrote it, ``[T]``.

    Args:
        current_T: log-probabilities under the policy.
        behaviour_T: under the copy that sampled.
        kind: ``"token"`` is ``exp(current - behaviour)``. ``"released"`` is what the authors' code does: the
            policy's probability of this token over the copy's of *all tokens so far*, which grows with t.
            ``"none"`` is 1.
    """
    if kind == "none":
        return torch.ones_like(current_T)
    assert kind in ("token", "released"), f"kind is {kind!r}; there are token, released and none"
    return (current_T - (behaviour_T.cumsum(0) if kind == "released" else behaviour_T)).clamp(max=20.0).exp()


def induced_return(context: Context, groups: Sequence[Group], value: str = "max") -> Scores:
    """The audit's scorer: the sum of :func:`step_rewards` of every text that ended, under the model as it is."""
    name = f"value_{value}"
    stats = context.stats(groups, ["centred_logit", name])
    return [
        [
            float(step_rewards(s["centred_logit"], s[name]).sum()) if t.finished and len(t.last) else None
            for t, s in zip(g, own, strict=True)
        ]
        for g, own in zip(groups, stats, strict=True)
    ]
