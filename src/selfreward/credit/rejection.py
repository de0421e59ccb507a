"""Rejection sampling: which of the policy's own solutions it is trained on, and with what weight.

A set is built in the order that papers describe: predicates one after another, duplicates out, the best few per
prompt, a size for the whole. ReST-EM (arXiv 2312.06585), RFT (arXiv 2308.01825), ReST-MCTS* (2406.03816) and
B-STaR (2412.17256) differ only in what they fill in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from selfreward.credit.rows import row_of
from selfreward.errors import ConfigError
from selfreward.types import Experience, Group, Trajectory

Test = Callable[[Trajectory], bool]


@dataclass
class RejectionSet:
    """What was kept, per group, and what became of the rest.

    Attributes:
        kept: per group, the trajectories in the order of their rank.
        lost: solutions by what ended them: a predicate's name, ``duplicate``, ``cap`` or ``total``.
        cap: solutions per prompt that were allowed in the end; None without a limit.
    """

    kept: list[list[Trajectory]]
    lost: dict[str, int] = field(default_factory=dict)
    cap: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self.kept))

    @property
    def solved(self) -> int:
        """Prompts with at least one solution."""
        return sum(map(bool, self.kept))


def rejection_set(
    groups: Sequence[Group],
    predicates: Mapping[str, Test],
    *,
    rank: Callable[[Trajectory], float] = lambda t: t.reward,
    cap: int | None = None,
    target: int | None = None,
    total: int | None = None,
    dedupe: Literal["before", "after", "never"] = "before",
    key: Callable[[Trajectory], str] = lambda t: t.completion,
) -> RejectionSet:
    """Filter, drop duplicates, take the best per prompt, and limit the whole.

    Args:
        predicates: by name, asked in order; the first that says no is what a solution is lost to.
        rank: higher is better; equal ones stay in their order.
        cap: most solutions per prompt.
        target: wanted size: the cap grows from 1 until the set has this size, or no prompt has more (B-STaR).
            ``cap``, where given, bounds its growth.
        total: largest size, taken in turns, the best of every prompt first, so that no prompt is left out
            for another's second.
        dedupe: duplicates (by ``key``, within a prompt) leave ``before`` the cap, ``after`` it (the released
            code of B-STaR, in which they use up the cap), or ``never``.

    Raises:
        ConfigError: for a limit below 1.

    Example: rewards .9, .9, .5, .2 with texts a, a, b, c, the predicate ``reward > .3`` and cap 2 keep a and b, and
    lose one to the predicate and one as a duplicate; with ``dedupe="after"`` only a is left.
    """
    for name, value in (("cap", cap), ("target", target), ("total", total)):
        if value is not None and value < 1:
            raise ConfigError(f"The {name} of a rejection set is {value}; it must be at least 1, or None.")
    lost: Counter[str] = Counter()
    ranked: list[list[Trajectory]] = []
    for group in groups:
        passed = sorted(_passing(group, predicates, lost), key=rank, reverse=True)
        fresh = _distinct(passed, key) if dedupe == "before" else passed
        lost["duplicate"] += len(passed) - len(fresh)
        ranked.append(fresh)

    limit = cap
    if target is not None:
        longest = max(map(len, ranked), default=0)
        limit, most = 1, min(longest, cap or longest)
        while limit < most and sum(len(_finally(r[:limit], key, dedupe)) for r in ranked) < target:
            limit += 1
    kept = []
    for row in ranked:
        few = row[:limit]
        lost["cap"] += len(row) - len(few)
        once = _finally(few, key, dedupe)
        lost["duplicate"] += len(few) - len(once)
        kept.append(once)
    if total is not None:
        places = [(place, i) for i, row in enumerate(kept) for place in range(len(row))]
        allowed = set(sorted(places)[:total])
        lost["total"] += len(places) - len(allowed)
        kept = [[t for place, t in enumerate(row) if (place, i) in allowed] for i, row in enumerate(kept)]
    return RejectionSet(kept, {reason: n for reason, n in lost.items() if n}, limit)


def likelihood_experience(
    found: RejectionSet, groups: Sequence[Group] = (), weight: Literal["solution", "prompt"] = "solution"
) -> Experience:
    """Rows for a likelihood loss.

    Args:
        groups: kept for the log.
        weight: every ``solution`` weighs 1, or every ``prompt`` does and its solutions share that (so that easy
            prompts, which have more of them, do not outweigh hard ones).
    """
    rows = [row_of(t, nll=1.0 if weight == "solution" else 1.0 / len(row)) for row in found.kept for t in row]
    stats = {"rejection/kept": float(len(found)), "rejection/solved": found.solved / max(1, len(found.kept))}
    stats |= {f"rejection/lost to {name}": float(n) for name, n in found.lost.items()}
    return Experience(rows, groups=list(groups), stats=stats)


def _passing(group: Group, predicates: Mapping[str, Test], lost: Counter[str]) -> list[Trajectory]:
    """Trajectories that pass every predicate; the others are counted by the first that says no."""
    passing = []
    for trajectory in group:
        failed = next((name for name, test in predicates.items() if not test(trajectory)), None)
        if failed is None:
            passing.append(trajectory)
        else:
            lost[failed] += 1
    return passing


def _distinct(trajectories: Sequence[Trajectory], key: Callable[[Trajectory], str]) -> list[Trajectory]:
    seen: dict[str, Trajectory] = {}
    for trajectory in trajectories:
        seen.setdefault(key(trajectory), trajectory)
    return list(seen.values())


def _finally(row: list[Trajectory], key: Callable[[Trajectory], str], dedupe: str) -> list[Trajectory]:
    return _distinct(row, key) if dedupe == "after" else row
