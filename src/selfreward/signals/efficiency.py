"""Efficiency: is every token of an answer needed for this question?

Pure functions on one group ``[G]``. Four yardsticks: how much the question explains the answer
(self-aligned reward), the group's mean length, the shortest right answer of the group, and a share
of the prompt's usual length that was asked for.

Sources: self-aligned reward, arXiv 2509.05489; relative length, O1-Pruner (2501.12570) as in the
released code of 2509.05489; self-rewarded efficiency, 2506.15647; adaptive effort control, 2510.27042.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from selfreward.signals.shaping import Values, as_values, shortest_bonus

Alignment = Literal["relative", "difference", "log_difference", "confidence"]


def self_aligned_reward(conditional: Values, alone: Values, variant: Alignment = "relative") -> Tensor:
    """How much better the model predicts an answer when it sees the question, ``[G]``.

    With perplexities ``P_qa = exp(-mean log p(y | x))`` and ``P_a = exp(-mean log p(y))`` the reward is
    ``max((P_a - P_qa) / P_a, -1)``: near 1 when every token depends on the question, 0 for text that
    fits any question, negative when the question makes the text less likely (2509.05489, section 3).

    Example: ``P_qa = 2``, ``P_a = 8`` is .75; ``P_qa = 8``, ``P_a = 2`` would be -3 and is cut to -1.

    Args:
        conditional: mean log-probability per token given the question, nats.
        alone: the same without the question; all from one and the same empty context.
        variant: ``"relative"`` is the formula; the released code's switches are ``"difference"``
            (``P_a - P_qa``, no denominator), ``"log_difference"`` (of the logarithms) and ``"confidence"``
            (``-P_qa``, no comparison at all).
    """
    given, bare = as_values(conditional), as_values(alone)
    assert given.shape == bare.shape, f"{given.numel()} conditional and {bare.numel()} bare likelihoods"
    if variant == "relative":
        return (1 - torch.exp(bare - given)).clamp(min=-1.0)
    if variant == "log_difference":
        return given - bare
    if variant == "difference":
        return torch.exp(-bare) - torch.exp(-given)
    assert variant == "confidence", f"unknown variant {variant!r}"
    return -torch.exp(-given)


def relative_length_reward(lengths: Values) -> Tensor:
    """``-clip((L - mean L) / L, -1, 1)``, ``[G]``: shorter than the group's mean is a bonus.

    O1-Pruner's term as the released code of 2509.05489 has it, with the sample's own length below.
    Example: lengths ``[2, 6]``, mean 4: ``[1, -.333]``.
    """
    v = as_values(lengths)
    assert bool((v > 0).all()), "lengths must be positive"
    return -((v - v.mean()) / v).clamp(-1.0, 1.0)


def efficiency_reward(correct: Values, lengths: Values, gamma: float = 0.5, gated: bool = True) -> Tensor:
    """``1 + gamma (L_max - L) / (L_max - L_min)`` for right answers, 0 for wrong ones, ``[G]``.

    ``L_min`` and ``L_max`` are of the *right* answers of the group: the model's own best is the
    yardstick (2506.15647, section 4; form as in the method card). Where all right answers have one
    length, or there is one only, it is its own best and earns ``1 + gamma``.

    Example: right ``[1, 1, 0]``, lengths ``[10, 30, 5]``, gamma .5: ``[1.5, 1, 0]``.

    Args:
        gated: False is the ablation that pays the shortest of *all* answers, right or wrong:
            ``correct + gamma * bonus``. The example becomes ``[1 + .5 * .8, 1, .5]``.
    """
    right = as_values(correct)
    if gated:
        return right * (1 + gamma * shortest_bonus(lengths, right))
    return right + gamma * shortest_bonus(lengths, torch.ones_like(right))


def target_length_reward(correct: Values, lengths: Values, target: float, weight: float = 0.5) -> Tensor:
    """``correct - weight |L - target| / target``, ``[G]``: the baseline with a yardstick from outside.

    One length for every question, paid whether right or wrong, as L1-Exact has it (2503.04697, eq. 1).
    Example: right ``[1, 0]``, lengths ``[15, 10]``, target 10, weight .5: ``[.75, 0]``.
    """
    assert target > 0, f"the target length must be positive, got {target}"
    return as_values(correct) - weight * (as_values(lengths) - target).abs() / target


def effort_reward(
    correct: Values, lengths: Values, average: float, efforts: float | Values, floor: float = 0.0
) -> Tensor:
    """``[correct] * [L / T_avg < r]``, ``[G]``: credit only below the asked share of the usual length.

    Adaptive effort control (2510.27042, eq. 1). Example: right ``[1, 1, 0]``, lengths ``[9, 10, 2]``,
    average 20, effort .5: ``[1, 0, 0]`` (10 / 20 is not below .5).

    Args:
        average: the prompt's usual length.
        efforts: the share that was asked for, one number or one per answer.
        floor: the target ``r * T_avg`` is never taken below this many tokens.
    """
    assert average > 0, f"the average length must be positive, got {average}"
    right, v = as_values(correct), as_values(lengths)
    asked = torch.as_tensor(efforts, dtype=v.dtype)
    return right * (v < (average * asked).clamp(min=floor)).to(right.dtype)


def question_overlap(question: Sequence[int], answer: Sequence[int], n: int = 3) -> float:
    """Share of the answer's n-grams that stand in the question: what copying the question would raise.

    0 for an answer shorter than ``n``. Example: question ``1 2 3 4``, answer ``2 3 4 9``, n 3: 1 of 2, .5.
    """
    assert n >= 1, f"n-grams need n >= 1, got {n}"
    seen = {tuple(question[i : i + n]) for i in range(len(question) - n + 1)}
    grams = [tuple(answer[i : i + n]) for i in range(len(answer) - n + 1)]
    return sum(g in seen for g in grams) / len(grams) if grams else 0.0
