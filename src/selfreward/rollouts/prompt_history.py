"""Running statistics per prompt: what past visits of the same prompt were like.

Methods that compare a sample with "how this prompt usually goes" (its mean length, its pass rate)
need a memory that outlives a batch and comes back from a checkpoint bit by bit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from selfreward.errors import ConfigError, RecipeError


class RunningStats:
    """Named running means per prompt.

    A value is a mean over one visit (the mean length of this step's samples, their pass rate). With
    ``momentum`` visits are averaged exponentially, the start corrected as in Adam, so that the first
    visit counts in full. With ``window`` the last visits count alike. With neither, all visits do.

    Example, ``momentum=.5``: lengths 10, then 20: ``(.25 * 10 + .5 * 20) / .75 = 16.67``. With
    ``window=2``: lengths 10, 20, 30 give 25.

    Args:
        momentum: weight of the past, in [0, 1): 0 remembers the last visit only.
        window: number of latest visits; not together with ``momentum``.

    Raises:
        ConfigError: for both at once, or a value out of range.
    """

    def __init__(self, momentum: float | None = None, window: int | None = None) -> None:
        if momentum is not None and window is not None:
            raise ConfigError("Running statistics take a momentum or a window, not both.")
        if momentum is not None and not 0 <= momentum < 1:
            raise ConfigError(f"The momentum of running statistics is {momentum}; it must lie in [0, 1).")
        if window is not None and window < 1:
            raise ConfigError(f"The window of running statistics is {window}; it must be 1 or more visits.")
        self.momentum, self.window = momentum, window
        # Per prompt and name: (weighted sum, weight, visits), or the latest values.
        self._sums: dict[str, dict[str, tuple[float, float, int]]] = {}
        self._latest: dict[str, dict[str, tuple[deque[float], int]]] = {}

    def update(self, prompt_id: str, /, **values: float) -> None:
        """Take in one visit of a prompt.

        Raises:
            RecipeError: for a value that is not a finite number; it would poison the mean for good.
        """
        for name, value in values.items():
            number = float(value)
            if not math.isfinite(number):
                raise RecipeError(f"Running statistic {name!r} of prompt {prompt_id!r} was given {number}.")
            if self.window is not None:
                latest, visits = self._latest.setdefault(prompt_id, {}).get(name, (deque(maxlen=self.window), 0))
                latest.append(number)
                self._latest[prompt_id][name] = latest, visits + 1
                continue
            total, weight, visits = self._sums.setdefault(prompt_id, {}).get(name, (0.0, 0.0, 0))
            keep, new = (1.0, 1.0) if self.momentum is None else (self.momentum, 1 - self.momentum)
            self._sums[prompt_id][name] = keep * total + new * number, keep * weight + new, visits + 1

    def get(self, prompt_id: str, name: str, default: float | None = None) -> float:
        """The running mean of ``name`` for a prompt; ``default`` before its first visit.

        Raises:
            KeyError: before the first visit, without a default.
        """
        if self.window is not None and name in self._latest.get(prompt_id, {}):
            latest, _ = self._latest[prompt_id][name]
            return math.fsum(latest) / len(latest)
        if self.window is None and name in self._sums.get(prompt_id, {}):
            total, weight, _ = self._sums[prompt_id][name]
            return total / weight
        if default is None:
            raise KeyError(f"prompt {prompt_id!r} has no running {name!r} yet")
        return default

    def count(self, prompt_id: str, name: str) -> int:
        """How often ``name`` was recorded for a prompt."""
        if self.window is not None:
            return self._latest.get(prompt_id, {}).get(name, (None, 0))[1]
        return self._sums.get(prompt_id, {}).get(name, (0.0, 0.0, 0))[2]

    def mean(self, name: str, default: float | None = None) -> float:
        """Mean of the prompts' running means: what to expect of a prompt never seen.

        Raises:
            KeyError: where no prompt has the statistic, without a default.
        """
        found = [self.get(prompt, name) for prompt in self.prompts() if self.count(prompt, name)]
        if found:
            return math.fsum(found) / len(found)
        if default is None:
            raise KeyError(f"no prompt has a running {name!r} yet")
        return default

    def prompts(self) -> list[str]:
        """The prompts seen so far, in the order of their first visit."""
        return list(self._latest if self.window is not None else self._sums)

    def __len__(self) -> int:
        return len(self.prompts())

    def __contains__(self, prompt_id: str) -> bool:
        return prompt_id in (self._latest if self.window is not None else self._sums)

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; floats keep every bit."""
        return {
            "momentum": self.momentum,
            "window": self.window,
            "sums": {p: {n: list(v) for n, v in names.items()} for p, names in self._sums.items()},
            "latest": {
                p: {n: [list(v), visits] for n, (v, visits) in names.items()} for p, names in self._latest.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ConfigError: if the state was smoothed in another way.
        """
        if (state["momentum"], state["window"]) != (self.momentum, self.window):
            raise ConfigError(
                f"The saved running statistics have momentum={state['momentum']}, window={state['window']}; "
                f"this run has momentum={self.momentum}, window={self.window}."
            )
        self._sums = {
            p: {n: (float(s), float(w), int(k)) for n, (s, w, k) in names.items()} for p, names in state["sums"].items()
        }
        self._latest = {
            p: {n: (deque(map(float, v), maxlen=self.window), int(k)) for n, (v, k) in names.items()}
            for p, names in state["latest"].items()
        }


def smoothed_rate(successes: float, trials: float, prior: float = 1.0) -> float:
    """``(s + prior) / (n + 2 prior)``: a pass rate that few trials cannot push to 0 or 1 (Laplace).

    Example: 0 of 8 is .1, 8 of 8 is .9, and nothing at all is .5.
    """
    assert 0 <= successes <= trials, f"{successes} successes in {trials} trials"
    assert prior > 0, f"the prior must be positive, got {prior}"
    return (successes + prior) / (trials + 2 * prior)
