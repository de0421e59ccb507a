"""Who gets how many rollouts: integer budgets over the prompts of a batch.

Every rule returns one number per prompt between ``low`` and ``high`` whose sum is exactly the budget. The
knapsack is that of Knapsack RL (2025, arXiv 2509.25849); the others are what it is compared with. The length that a
rollout may have can be a prompt's own, too (:func:`sample_within`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from selfreward.errors import ConfigError, nearest

if TYPE_CHECKING:
    from torch import Generator

    from selfreward.policy.policy import Policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.types import Group, Prompt

Rule = Literal["knapsack", "uniform", "proportional", "hard-first", "shuffled"]
RULES = ("knapsack", "uniform", "proportional", "hard-first", "shuffled")


def gradient_probability(n: int, p: float) -> float:
    """``1 - p^n - (1 - p)^n``: the probability that ``n`` rollouts have both outcomes. Example: ``(2, .5)`` is .5."""
    return 1 - p**n - (1 - p) ** n if n else 0.0


def rollout_value(n: int, p: float) -> float:
    """What ``n`` rollouts of a prompt with success rate ``p`` are worth to GRPO (2509.25849).

    ``V(n, p) = [1 - p^n - (1 - p)^n] p (1 - p)^2``: the probability that the group has both outcomes, hence
    a gradient, times the first-order rise of the success rate that the gradient buys. Without unit;
    0 at p = 0 and p = 1, and concave in ``n``.

    Example: ``V(4, .5) = (1 - 2/16) / 8 = .109``, ``V(8, .5) = (1 - 2/256) / 8 = .124``, and never above 1/8.
    For large ``n`` the best ``p`` is 1/3, where V approaches 4/27.
    """
    if n < 0 or not 0 <= p <= 1:
        raise ConfigError(f"A value needs n >= 0 and p in [0, 1], not n={n}, p={p}.")
    return gradient_probability(n, p) * p * (1 - p) ** 2


def knapsack(
    p_B: Sequence[float],
    budget: int,
    low: int = 2,
    high: int = 128,
    value: Callable[[int, float], float] = rollout_value,
) -> list[int]:
    """The allocation that maximises the summed ``value``, by dynamic programming.

    Prompts with ``p`` exactly 0 or 1 have no value at any size. Solved ones get ``low``; what the others
    cannot use (all of them at ``high``) is shared among the unsolved ones first, then among the solved
    (the paper's fallback; its exact form could not be checked). Example: ``p = [.5, .5, 1]``, budget 10: ``[4, 4, 2]``.

    Cost: prompts x budget x high additions, in numpy.

    Raises:
        ConfigError: when the budget does not lie between ``low`` and ``high`` per prompt.
    """
    _check(p_B, budget, low, high)
    wanted = [i for i, p in enumerate(p_B) if 0 < p < 1]
    counts = [low] * len(p_B)
    spare = budget - low * len(p_B)
    for i, n in zip(wanted, _best([p_B[i] for i in wanted], spare, low, high, value), strict=True):
        counts[i] += n
        spare -= n
    for rest in ([i for i, p in enumerate(p_B) if p == 0], [i for i, p in enumerate(p_B) if p == 1]):
        shares = _apportion([1.0] * len(rest), min(spare, (high - low) * len(rest)), high - low)
        for i, n in zip(rest, shares, strict=True):
            counts[i] += n
            spare -= n
    return counts


def _best(p_M: Sequence[float], spare: int, low: int, high: int, value: Callable[[int, float], float]) -> list[int]:
    """Extra rollouts beyond ``low`` for each prompt; their sum is ``spare``, or all that they can take."""
    spare = min(spare, (high - low) * len(p_M))
    best = np.full(spare + 1, -np.inf)
    best[0] = 0.0
    chosen: list[NDArray[np.int64]] = []
    for p in p_M:
        gains = [value(low + extra, p) for extra in range(min(high - low, spare) + 1)]
        now, took = np.full(spare + 1, -np.inf), np.zeros(spare + 1, dtype=np.int64)
        for extra, gain in enumerate(gains):
            candidate = best[: spare + 1 - extra] + gain
            better = candidate > now[extra:]
            now[extra:][better] = candidate[better]
            took[extra:][better] = extra
        best = now
        chosen.append(took)
    counts, left = [], spare
    for took in reversed(chosen):
        counts.append(int(took[left]))
        left -= counts[-1]
    return counts[::-1]


def uniform(n: int, budget: int) -> list[int]:
    """Equal shares; what does not divide goes to the first."""
    return [budget // n + (i < budget % n) for i in range(n)]


def proportional(p_B: Sequence[float], budget: int, low: int = 2, high: int = 128) -> list[int]:
    """``low`` each, and the rest in proportion to ``p (1 - p)``, the variance of the reward."""
    _check(p_B, budget, low, high)
    extra = _apportion([p * (1 - p) for p in p_B], budget - low * len(p_B), high - low)
    return [low + n for n in extra]


def hard_first(p_B: Sequence[float], budget: int, low: int = 2, high: int = 128) -> list[int]:
    """``low`` each, and the rest to the prompt with the lowest ``p`` up to ``high``, then to the next."""
    _check(p_B, budget, low, high)
    counts, spare = [low] * len(p_B), budget - low * len(p_B)
    for i in sorted(range(len(p_B)), key=lambda i: p_B[i]):
        extra = min(spare, high - low)
        counts[i] += extra
        spare -= extra
    return counts


def shuffled_counts(counts_B: Sequence[int], generator: Generator) -> list[int]:
    """The same numbers for other prompts: the control that keeps the histogram and forgets the reason."""
    import torch

    return [counts_B[i] for i in torch.randperm(len(counts_B), generator=generator).tolist()]


def allocate(
    rule: str,
    p_B: Sequence[float],
    budget: int,
    low: int = 2,
    high: int = 128,
    generator: Generator | None = None,
) -> list[int]:
    """The allocation by name: one of :data:`RULES`. "shuffled" is a shuffled knapsack and needs the generator."""
    if rule not in RULES:
        raise ConfigError(f"Unknown allocation {rule!r}.{nearest(rule, RULES)}")
    if rule == "uniform":
        return uniform(len(p_B), budget)
    if rule == "proportional":
        return proportional(p_B, budget, low, high)
    if rule == "hard-first":
        return hard_first(p_B, budget, low, high)
    counts = knapsack(p_B, budget, low, high)
    if rule == "knapsack":
        return counts
    if generator is None:
        raise ConfigError("The allocation 'shuffled' needs a generator.")
    return shuffled_counts(counts, generator)


def _apportion(weights: Sequence[float], total: int, most: int) -> list[int]:
    """Integers at most ``most`` that sum to ``total``, as close to proportional as largest remainders make them."""
    counts = [0] * len(weights)
    open_to = list(range(len(weights)))
    left = total
    while left > 0 and open_to:
        mass = sum(weights[i] for i in open_to)
        shares = {i: left * (weights[i] / mass if mass > 0 else 1 / len(open_to)) for i in open_to}
        whole = {i: min(most - counts[i], int(s)) for i, s in shares.items()}
        if not any(whole.values()):
            # Less than one for each: the largest remainders get one.
            for i in sorted(open_to, key=lambda i: -shares[i])[:left]:
                counts[i] += 1
                left -= 1
        for i, n in whole.items():
            counts[i] += n
            left -= n
        open_to = [i for i in open_to if counts[i] < most]
    return counts


def _check(p_B: Sequence[float], budget: int, low: int, high: int) -> None:
    if bad := [p for p in p_B if not 0 <= p <= 1]:
        raise ConfigError(f"Success rates lie in [0, 1]; {bad[0]} does not.")
    if not 0 <= low <= high:
        raise ConfigError(f"Rollouts per prompt need 0 <= low <= high; they are {low} and {high}.")
    if not low * len(p_B) <= budget <= high * len(p_B):
        raise ConfigError(
            f"A budget of {budget} rollouts for {len(p_B)} prompts must lie between {low} and {high} for each: "
            f"{low * len(p_B)} to {high * len(p_B)}."
        )


def sample_within(
    policy: Policy, prompts: Sequence[Prompt], n: int, params: SamplingParams, limits: Sequence[int]
) -> list[Group]:
    """``n`` completions of every prompt with at most ``limits[i]`` new tokens; one sampling call per limit."""
    found: dict[int, Group] = {}
    for limit in sorted(set(limits)):
        at = [i for i, most in enumerate(limits) if most == limit]
        drawn = policy.sample([prompts[i] for i in at], n, replace(params, max_new_tokens=limit))
        found.update(zip(at, drawn, strict=True))
    return [found[i] for i in range(len(prompts))]
