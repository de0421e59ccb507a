"""Numbers that follow the step: schedules of a coefficient, beginnings of cycles, grids, and the trend of a history."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from selfreward.errors import ConfigError, nearest


def steps_between(low: float, high: float, by: float) -> list[float]:
    """``low``, ``low + by``, ... up to ``high``, which is among them where it fits.

    Raises:
        ConfigError: for a step that is not above 0, or an empty range.
    """
    if by <= 0 or high < low:
        raise ConfigError(f"There is nothing to try between {low} and {high} in steps of {by}.")
    return [round(low + i * by, 6) for i in range(int((high - low) / by + 1e-6) + 1)]


KINDS = ("constant", "linear", "cosine", "step")


def schedule(kind: str, first: float, last: float, steps: int, switch: float = 0.5) -> Callable[[int], float]:
    """A coefficient by step, counted from 1: ``first`` at step 1, ``last`` at step ``steps`` and after.

    ``linear`` and ``cosine`` meet half way in the middle; ``step`` jumps once ``switch`` of the steps are behind;
    ``constant`` is ``first`` throughout. Example, 1 to 0 in 5 steps: linear 1, .75, .5, .25, 0.

    Raises:
        ConfigError: for an unknown kind or no step.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no schedule {kind!r}.{nearest(kind, KINDS)}")
    if steps < 1:
        raise ConfigError(f"A schedule has {steps} steps; it needs at least 1.")

    def coefficient(step: int) -> float:
        if kind == "constant":
            return first
        done = 1.0 if steps == 1 else min(1.0, max(0.0, (step - 1) / (steps - 1)))
        if kind == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        elif kind == "step":
            done = float(step > switch * steps)
        return (1 - done) * first + done * last

    return coefficient


def cycle_starts(step: int, first: int, last: int, cycles: int) -> bool:
    """Whether one of ``cycles`` parts, as equal as can be, of the steps ``first`` to ``last`` begins at ``step``.

    Example: steps 3 to 12 in 3 cycles begin at 3, 6 and 9. Fewer steps than cycles are a cycle each.

    Raises:
        ConfigError: for no cycle at all.
    """
    if cycles < 1:
        raise ConfigError(f"cycles is {cycles}; there must be at least 1.")
    n = last - first + 1
    return step in {first + n * i // min(cycles, n) for i in range(min(cycles, n))}


def trend(values: Sequence[float]) -> float:
    """Slope per entry of the least-squares line through a history; 0 for fewer than two values.

    Example: 1, 2, 4 has mean 7/3 at place 1, and the slope (4 - 1) / 2 = 1.5.
    """
    n = len(values)
    if n < 2:
        return 0.0
    middle, mean = (n - 1) / 2, sum(values) / n
    return sum((i - middle) * (v - mean) for i, v in enumerate(values)) / sum((i - middle) ** 2 for i in range(n))
