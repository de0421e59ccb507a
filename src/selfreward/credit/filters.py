"""Filters: which groups are worth learning from, and how many were not.

A filter is a predicate on a whole group, so that a group is kept or dropped but never thinned. What
was dropped is counted under the name of the first predicate that refused it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from selfreward.errors import ConfigError, RecipeError
from selfreward.types import Group

Predicate = Callable[[Group], bool]


@dataclass
class Kept:
    """The groups that passed, and how many each predicate dropped."""

    groups: list[Group] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return len(self.groups) + sum(self.dropped.values())

    @property
    def share(self) -> float:
        """Kept over seen, 0 when nothing was seen."""
        return len(self.groups) / self.total if self.total else 0.0

    def stats(self) -> dict[str, float]:
        """``filter/kept`` (a share) and ``filter/NAME`` (counts), for ``Experience.stats``."""
        return {"filter/kept": self.share, **{f"filter/{name}": float(n) for name, n in self.dropped.items()}}


def keep(groups: Iterable[Group], predicates: Mapping[str, Predicate]) -> Kept:
    """Keep the groups that every predicate accepts; predicates are asked in their order."""
    kept = Kept(dropped=dict.fromkeys(predicates, 0))
    for group in groups:
        refused = next((name for name, accepts in predicates.items() if not accepts(group)), None)
        if refused is None:
            kept.groups.append(group)
        else:
            kept.dropped[refused] += 1
    return kept


def resample(
    draw: Callable[[], list[Group]], predicates: Mapping[str, Predicate], *, target: int, rounds: int = 4
) -> Kept:
    """Dynamic sampling (DAPO 2503.14476): draw until ``target`` groups are kept.

    Stops after ``rounds`` draws with what there is: late in training almost no group may be
    informative. Kept groups beyond the target are dropped and counted as ``surplus``.
    """
    if target < 1 or rounds < 1:
        raise ConfigError(f"target is {target} and rounds is {rounds}; both must be 1 or more.")
    result = Kept(dropped={**dict.fromkeys(predicates, 0), "surplus": 0})
    for _ in range(rounds):
        found = keep(draw(), predicates)
        result.groups += found.groups
        for name, n in found.dropped.items():
            result.dropped[name] += n
        if len(result.groups) >= target:
            break
    result.dropped["surplus"] = max(0, len(result.groups) - target)
    del result.groups[target:]
    return result


def has_spread(smallest: float = 1e-6) -> Predicate:
    """Rewards differ by more than ``smallest``; otherwise every advantage of the group is zero."""
    return lambda group: len(group) > 0 and max(group.rewards) - min(group.rewards) > smallest


def reward_band(low: float = 0.2, high: float = 0.8) -> Predicate:
    """The mean reward lies in ``[low, high]``: neither too easy nor too hard (SeRL 2505.20347)."""
    _ordered("reward_band", low, high)
    return lambda group: len(group) > 0 and low <= sum(group.rewards) / len(group) <= high


def length_band(low: float = 1, high: float = float("inf")) -> Predicate:
    """The mean completion has ``low`` to ``high`` tokens."""
    _ordered("length_band", low, high)
    return lambda group: len(group) > 0 and low <= sum(len(t.last) for t in group) / len(group) <= high


def finished(share: float = 0.5) -> Predicate:
    """At least this share of the completions ended by themselves."""
    return lambda group: len(group) > 0 and sum(t.finished for t in group) >= share * len(group)


def quorum(least: float = 0.5, share: Callable[[Group], float] | None = None) -> Predicate:
    """The vote's share reaches ``least``.

    Args:
        share: computes the share; None reads it where the vote recipe leaves it, ``meta["vote"]["share"]``.
    """

    def read(group: Group) -> float:
        try:
            return float(group.meta["vote"]["share"])
        except (KeyError, TypeError):
            raise RecipeError(
                f"The quorum filter reads meta['vote']['share'] of group {group.key!r}, which is not there. "
                "Record the vote before filtering, or pass a function as share."
            ) from None

    return lambda group: (share or read)(group) >= least


def informative_share(groups: Iterable[Group]) -> float:
    """Share of the groups whose rewards differ at all; what dynamic sampling has to make up for."""
    return keep(groups, {"zero_variance": has_spread()}).share


def _ordered(name: str, low: float, high: float) -> None:
    if low > high:
        raise ConfigError(f"{name} keeps values from {low} to {high}, which is none; put the smaller first.")
