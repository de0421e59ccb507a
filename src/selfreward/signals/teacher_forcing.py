"""The reward that teacher forcing leaves in a language model's logits.

Hao et al. 2022, "Teacher Forcing Recovers Reward Functions for Text Generation", arXiv 2210.08708: a model trained
by cross-entropy has learned the values of a maximum-entropy policy. Its logits, centred in each state, are
Q(s, a); one step of the Bellman equation then gives the reward of a token. No metric and no judge.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
