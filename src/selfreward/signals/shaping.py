"""Shaping: rewards to rewards. Pure functions of one group's or one batch's values.

Inputs are sequences of numbers or tensors; outputs are float tensors of the same shape. Signals on
different scales are brought to one scale before they are mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from selfreward.errors import ConfigError, nearest

Values = Tensor | Sequence[float]


def as_values(values: Values) -> Tensor:
    """A one-dimensional float tensor ``[N]``."""
    tensor = torch.as_tensor(values)
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float32)
    assert tensor.ndim == 1, f"expected one value per item, got shape {tuple(tensor.shape)}"
    return tensor


def clip(values: Values, low: float, high: float) -> Tensor:
    """Values limited to ``[low, high]``. Example: ``[-2, .5, 3]`` to ``[0, 1]`` is ``[0, .5, 1]``."""
    assert low <= high, f"clip bounds are in the wrong order: {low} > {high}"
    return as_values(values).clamp(low, high)


def unit_scale(values: Values, low: float = 0.0, high: float = 100.0) -> Tensor:
    """Linear map of ``[low, high]`` to [0, 1]. Example: a judge's ``[0, 85]`` is ``[0, .85]``."""
    assert low < high, f"scale bounds are in the wrong order: {low} >= {high}"
    return (as_values(values) - low) / (high - low)


def z_score(values: Values, eps: float = 1e-6) -> Tensor:
    """Mean 0, population standard deviation 1; all zero where the values do not differ by ``eps``.

    Example: ``[1, 3]`` is ``[-1, 1]``.
    """
    v = as_values(values)
    if v.numel() < 2 or float(v.std(correction=0)) <= eps:
        return torch.zeros_like(v)
    return (v - v.mean()) / v.std(correction=0)


def centred_sigmoid(values: Values, temperature: float = 1.0) -> Tensor:
    """``sigmoid((r - mean r) / temperature)``, in (0, 1): bounds an unbounded score.

    Example: ``[-1, 1]`` is ``[.269, .731]``; only differences inside the group survive.
    """
    assert temperature > 0, f"temperature must be positive, got {temperature}"
    v = as_values(values)
    return torch.sigmoid((v - v.mean()) / temperature)


def potential_differences(potentials: Values, discount: float = 1.0) -> Tensor:
    """``F_t = discount * phi(s_{t+1}) - phi(s_t)``, ``[T + 1]`` to ``[T]`` (Ng, Harada and Russell 1999).

    Potential-based: added to a reward it does not change which policy is optimal, provided that the
    terminal potential is 0. Example: ``[.2, .5, .4]`` is ``[.3, -.1]``.
    """
    phi = as_values(potentials)
    assert phi.numel() >= 1, "potentials of at least the first state are needed"
    return discount * phi[1:] - phi[:-1]


def progress_bonus(first: Values, second: Values, alpha: float = 10.0) -> Tensor:
    """``r2 + alpha (r2 - r1)`` of two attempts, ``[N]`` (SCoRe, arXiv 2409.12917, section 5.2).

    It belongs to the second attempt's tokens alone: on the first attempt's it would pay for failing first.
    Example with alpha 10: first ``[0, 1, 1]``, second ``[1, 1, 0]`` is ``[11, 1, -10]``.
    """
    r1, r2 = as_values(first), as_values(second)
    assert r1.shape == r2.shape, f"{r1.numel()} first but {r2.numel()} second attempts"
    return r2 + alpha * (r2 - r1)


def with_weakest_step(right: Sequence[float], steps: Sequence[Sequence[float]], bound: float = 5.0) -> list[float]:
    """``r + clip(min over steps of the process reward / bound, -1, 1)`` per solution (B-STaR, 2412.17256, section 3.1).

    A solution without a step gets -1 on top. Example: right solutions with steps ``[2, -5]``, ``[2.5]`` and none are
    worth ``[0, 1.5, 0]``.
    """
    weakest = [min(s, default=-bound) / bound for s in steps]
    return [r + max(-1.0, min(1.0, low)) for r, low in zip(right, weakest, strict=True)]


def relative_length_penalty(lengths: Values, bound: float = 1.0) -> Tensor:
    """``-clip((L - mean L) / mean L, -bound, bound)``: shorter than the group's mean is a bonus.

    The relative length term of O1-Pruner (arXiv 2501.12570). Example: ``[50, 150]`` is ``[.5, -.5]``.
    """
    v = as_values(lengths)
    mean = v.mean()
    if v.numel() == 0 or float(mean) == 0:
        return torch.zeros_like(v)
    return -((v - mean) / mean).clamp(-bound, bound)


def shortest_bonus(lengths: Values, good: Values) -> Tensor:
    """``(L_max - L) / (L_max - L_min)`` among the good items, 0 for the others (2506.15647, step 3).

    Only items that pass ``good`` (0/1) set the yardstick and are paid, so a short wrong answer earns
    nothing. One good length alone earns 1. Example: lengths ``[10, 30, 5]``, good ``[1, 1, 0]``: ``[1, 0, 0]``.
    """
    v, ok = as_values(lengths), as_values(good) > 0
    assert v.shape == ok.shape, f"{v.numel()} lengths but {ok.numel()} verdicts"
    if not bool(ok.any()):
        return torch.zeros_like(v)
    low, high = v[ok].min(), v[ok].max()
    bonus = torch.ones_like(v) if low == high else (high - v) / (high - low)
    return torch.where(ok, bonus, 0.0)


def overlong_penalty(lengths: Values, limit: float, buffer: float) -> Tensor:
    """0 up to ``limit - buffer``, falling linearly to -1 at ``limit`` and beyond (DAPO, 2503.14476, eq. 13).

    Example: limit 100, buffer 20: lengths ``[70, 90, 120]`` are ``[0, -.5, -1]``.
    """
    assert 0 < buffer <= limit, f"the buffer must be in (0, {limit}], got {buffer}"
    return ((limit - buffer - as_values(lengths)) / buffer).clamp(-1.0, 0.0)


def mix(
    weights: Mapping[str, float],
    terms: Mapping[str, Values],
    gates: Sequence[Values] = (),
    closed: float = 0.0,
) -> Tensor:
    """Weighted sum of named terms, ``[N]``, replaced by ``closed`` where any gate is 0.

    Example: weights ``{a: 1, b: .5}``, terms ``{a: [1, 0], b: [1, 1]}``, gate ``[1, 0]``: ``[1.5, 0]``.

    Args:
        weights: one per term; a term with weight 0 is not read, so it may be undefined.
        terms: values per item.
        gates: 0/1 per item, such as a format check. A gate replaces rather than multiplies, so an
            undefined term behind a closed gate does no harm.
        closed: reward of an item behind a closed gate.

    Raises:
        ConfigError: when weights and terms do not have the same names.
    """
    for name in weights:
        if name not in terms:
            raise ConfigError(
                f"A weight is given for the reward term {name!r}, which does not exist." + nearest(name, terms)
            )
    for name in terms:
        if name not in weights:
            raise ConfigError(f"The reward term {name!r} has no weight." + nearest(name, weights))
    values = {name: as_values(v) for name, v in terms.items()}
    opened = [as_values(g) > 0 for g in gates]
    sizes = {v.numel() for v in [*values.values(), *opened]}
    assert len(sizes) == 1, f"reward terms and gates differ in length: {sorted(sizes)}"
    total = torch.zeros(sizes.pop())
    for name, weight in weights.items():
        if weight != 0:
            total = total + weight * values[name]
    for gate in opened:
        total = torch.where(gate, total, closed)
    return total
