"""A bounded memory of rows or groups with an exact state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from selfreward.errors import CheckpointError, ConfigError
from selfreward.types import Group, Pair, Prompt, Row, Segment, Trajectory

Item = TypeVar("Item")

_TYPES: dict[str, type] = {t.__name__: t for t in (Group, Pair, Prompt, Row, Segment, Trajectory)}


class Replay(Generic[Item]):
    """Remembers the newest ``capacity`` items and the step at which each was added.

    Items are :class:`Row` or :class:`Group` objects, or plain values. What is drawn depends on the
    seed and the history alone, and both are in :meth:`state_dict`, so a resumed run draws the same.
    Replayed rows keep their behaviour log-probabilities: a ratio loss corrects for their age.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        if capacity < 1:
            raise ConfigError(f"The replay capacity is {capacity}; it must be 1 or more.")
        self.capacity = capacity
        self._items: list[Item] = []
        self._steps: list[int] = []
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """The items, oldest first."""
        return iter(list(self._items))

    def add(self, items: Iterable[Item], step: int) -> int:
        """Append ``items``; returns how many of the oldest made room."""
        for item in items:
            self._items.append(item)
            self._steps.append(step)
        return self._forget(len(self._items) - self.capacity)

    def expire(self, step: int, max_age: int) -> int:
        """Forget what is older than ``max_age`` steps at ``step``; returns how many."""
        young = [i for i, added in enumerate(self._steps) if step - added <= max_age]
        expired = len(self._items) - len(young)
        self._items = [self._items[i] for i in young]
        self._steps = [self._steps[i] for i in young]
        return expired

    def sample(self, n: int, *, half_life: float | None = None) -> list[Item]:
        """Draw ``n`` different items, or all there are if fewer, in random order.

        Args:
            half_life: None draws uniformly. Otherwise an item's chance halves with every so many
                steps of age.
        """
        if half_life is not None and half_life <= 0:
            raise ConfigError(f"half_life is {half_life}; it must be positive, or None for uniform draws.")
        # The n largest of (log weight + Gumbel noise) are a weighted draw without replacement, and logarithms
        # do not underflow for old items.
        uniform = torch.rand(len(self._items), generator=self._generator, dtype=torch.float64)
        keys = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
        if half_life is not None:
            keys += torch.tensor(self._steps, dtype=torch.float64) * (math.log(2) / half_life)
        order = keys.argsort(descending=True, stable=True)[: max(0, n)]
        return [self._items[i] for i in order.tolist()]

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts and lists of tensors and plain values."""
        return {
            "items": [_encode(item) for item in self._items],
            "steps": list(self._steps),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`; a smaller capacity keeps the newest items."""
        items, steps = state["items"], state["steps"]
        if len(items) != len(steps):
            raise CheckpointError(f"The replay state has {len(items)} items but {len(steps)} steps; it is damaged.")
        self._items = [_decode(item) for item in items]
        self._steps = [int(s) for s in steps]
        self._generator.set_state(state["generator"])
        self._forget(len(self._items) - self.capacity)

    def _forget(self, n: int) -> int:
        n = max(0, n)
        del self._items[:n]
        del self._steps[:n]
        return n


def _encode(value: Any, path: str = "item") -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value).__name__ in _TYPES and dataclasses.is_dataclass(value):
        fields = {f.name: _encode(getattr(value, f.name), f"{path}.{f.name}") for f in dataclasses.fields(value)}
        return {"__type__": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): _encode(v, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(v, f"{path}.{i}") for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"{path} of a replayed item is a {type(value).__name__}, which cannot be stored; "
        "keep tensors and plain values in fields, stats and meta."
    )


def _decode(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        decoded = {k: _decode(v) for k, v in value.items()}
        name = decoded.pop("__type__", None)
        if name is None:
            return decoded
        if name == "Prompt" and decoded["messages"] is not None:
            decoded["messages"] = tuple(decoded["messages"])
        return _TYPES[name](**decoded)
    if isinstance(value, list):
        return [_decode(v) for v in value]
    return value
