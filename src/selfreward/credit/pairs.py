"""Pair builders: from the scores or votes of one group to preferences.

A builder returns :class:`IndexPair` tuples with indices into its group; it returns none where a group
prefers nothing (ties, too few votes, unreadable scores), and never a pair of identical completions. A
score that is None or NaN means "could not be judged": such a trajectory is in no pair.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from selfreward.errors import RecipeError
from selfreward.types import Experience, Group

if TYPE_CHECKING:
    from torch import Generator

    from selfreward.policy.policy import Policy
    from selfreward.signals.scorers.self_grades import Grades


def pair_statistics(grades: Grades, pairs: Sequence[Sequence[IndexPair]]) -> dict[str, float]:
    """For the record of a step: share of prompts with a pair, gap of grades in the pairs, mean grade, share unread."""
    every = [s for own in grades for s in own]
    known = [s for s in every if s is not None]
    gaps = [(own[p.chosen] or 0.0) - (own[p.rejected] or 0.0) for own, found in zip(grades, pairs) for p in found]
    return {
        "pairs/kept": sum(map(bool, pairs)) / max(1, len(pairs)),
        "pairs/gap": sum(gaps) / max(1, len(gaps)),
        "grade/mean": sum(known) / max(1, len(known)),
        "grade/unread": 1 - len(known) / max(1, len(every)),
    }


def share_from(groups: Sequence[Group], pairs: Sequence[Sequence[IndexPair]], pool: str) -> float:
    """Share of the pairs with a side from this pool (``meta["pool"]``, :func:`selfreward.credit.pairs.merged`)."""
    found = [pool in _pools(group, pair) for group, own in zip(groups, pairs, strict=True) for pair in own]
    return sum(found) / max(1, len(found))


def likeness(policy: Policy, experience: Experience) -> float:
    """Mean cosine of the policy's last hidden states at the ends of the chosen and the rejected answer.

    DPO's gradient is bounded by the distance of the two (Temporal Self-Rewarding, 2508.06026): where the answers grow
    alike it vanishes. 0 without pairs.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    rows, pairs = experience.rows, experience.pairs
    if not pairs:
        return 0.0
    read = policy.score([r.tokens for r in rows], [0] * len(rows), hidden_at=[-1] * len(rows), role="probe")
    ends = torch.stack([r["hidden"] for r in read])
    return float(cosine_similarity(ends[[p.chosen for p in pairs]], ends[[p.rejected for p in pairs]]).mean())


Margin = Literal["exp", "difference", "none"]


def confidence_pairs(
    confidences: Sequence[float | None], *, floor: float = 0.9, margin: Margin = "exp"
) -> list[IndexPair]:
    """Every trace with a confidence of at least ``floor`` over every less confident one.

    Example: ``[.95, .2, .9]`` prefers 0 over 1 with margin exp(.75), 0 over 2 with exp(.05), 2 over 1 with exp(.7).

    Args:
        confidences: one per trace; None (no answer) is in no pair.
        margin: ``"exp"`` is exp(c1 - c2) as published. It lies in [1, e], so that even near-ties must be told
            apart by more than one unit of reward; ``"difference"`` is c1 - c2.
    """
    known = [(i, c) for i, c in enumerate(confidences) if c is not None and not math.isnan(c)]

    def gap(high: float, low: float) -> float:
        return {"exp": math.exp(high - low), "difference": high - low, "none": 0.0}[margin]

    return [
        IndexPair(i, j, margin=gap(high, low)) for i, high in known if high >= floor for j, low in known if high > low
    ]


class IndexPair(NamedTuple):
    """Trajectory ``chosen`` over trajectory ``rejected`` of one group."""

    chosen: int
    rejected: int
    weight: float = 1.0
    margin: float = 0.0


def top_bottom(
    group: Group,
    scores: Sequence[float | None] | None = None,
    *,
    min_gap: float = 0.0,
    tier: float = 0.0,
    margin_scale: float = 0.0,
) -> list[IndexPair]:
    """The best over the worst, at most one pair (Self-Rewarding LM 2401.10020).

    Example: scores ``[3, 5, 5, 1]`` prefer 1 over 3.

    Args:
        scores: one per trajectory; None takes the group's rewards.
        min_gap: no pair unless the scores differ by more than this.
        tier: the shortest completion whose score is within this share of the range below the best is
            chosen. A judge that likes length otherwise makes each iteration longer (Meta-Rewarding,
            2407.19594, length control).
        margin_scale: the pair's margin is this times the gap.
    """
    known = _scored(group, scores)
    if len(known) < 2:
        return []
    best, worst = max(known.values()), min(known.values())
    if best - worst <= min_gap:
        return []
    top = [i for i, s in known.items() if s >= best - tier * (best - worst)]
    chosen = min(top, key=lambda i: len(group.trajectories[i].last)) if tier > 0 else top[0]
    rejected = next(i for i, s in known.items() if s == worst)
    gap = known[chosen] - worst
    if gap <= min_gap or not _distinct(group, chosen, rejected):
        return []
    return [IndexPair(chosen, rejected, margin=margin_scale * gap)]


def best_over_worst(groups: Sequence[Group], scores: Sequence[Sequence[float | None]]) -> list[list[IndexPair]]:
    """:func:`top_bottom` of every group."""
    return [top_bottom(group, own) for group, own in zip(groups, scores, strict=True)]


def all_above(
    group: Group,
    scores: Sequence[float | None] | None = None,
    *,
    floor: float,
    most: int | None = None,
    margin_scale: float = 0.0,
    generator: Generator | None = None,
) -> list[IndexPair]:
    """Every trajectory that reaches ``floor`` over every one that does not (IRPO 2404.19733).

    Example: scores ``[1, 0, 1]`` and floor 1 prefer 0 over 1 and 2 over 1.

    Args:
        most: at most so many pairs; with a ``generator`` a random subset, otherwise the first ones.
    """
    known = _scored(group, scores)
    pairs = [
        IndexPair(i, j, margin=margin_scale * (high - low))
        for i, high in known.items()
        if high >= floor
        for j, low in known.items()
        if low < floor and _distinct(group, i, j)
    ]
    if most is not None and len(pairs) > most:
        pairs = [pairs[i] for i in sorted(_draw(len(pairs), most, generator))]
    return pairs


def vote_pairs(
    group: Group,
    classes: Sequence[int | None],
    *,
    quorum: float = 0.0,
    weighted: bool = True,
    missing: Literal["drop", "reject"] = "drop",
    generator: Generator | None = None,
) -> list[IndexPair]:
    """The most voted answer over the least voted one, at most one pair (ScPO 2411.04109).

    The weight is ``(V(chosen) - V(rejected)) / k``, k the size of the group. Example: classes
    ``[0, 0, 1, None]`` prefer 0 over 2 with weight 1/4; with ``missing="reject"`` 0 over 3 with 1/2.

    Args:
        classes: answer class of each trajectory, None where the answer is missing.
        quorum: no pair unless V(chosen) / k reaches it.
        weighted: False gives every pair weight 1.
        missing: "drop" leaves trajectories without an answer out; "reject" counts each as an answer
            with no vote, which can only be rejected.
        generator: draws the representatives of the two answers; without one the first of each.
    """
    _sized(group, classes, "classes")
    votes = Counter(c for c in classes if c is not None)
    if not votes:
        return []
    ballot = [(i, votes[c] if c is not None else 0) for i, c in enumerate(classes)]
    if missing == "drop":
        ballot = [(i, v) for i, v in ballot if v > 0]
    high, low = max(v for _, v in ballot), min(v for _, v in ballot)
    if high == low or high / len(group) < quorum:
        return []
    chosen = _pick([i for i, v in ballot if v == high], generator)
    rejected = _pick([i for i, v in ballot if v == low], generator)
    return [IndexPair(chosen, rejected, (high - low) / len(group) if weighted else 1.0)]


def random_pairs(group: Group, generator: Generator, count: int = 1) -> list[IndexPair]:
    """The control: ``count`` different pairs of distinct completions in a random order, fewer if there are fewer."""
    pairs = [(i, j) for i, j in combinations(range(len(group)), 2) if _distinct(group, i, j)]
    if not pairs:
        return []
    import torch

    drawn = [pairs[i] for i in _draw(len(pairs), min(count, len(pairs)), generator)]
    flips = torch.randint(2, (len(drawn),), generator=generator).tolist()
    return [IndexPair(j, i) if flip else IndexPair(i, j) for (i, j), flip in zip(drawn, flips, strict=True)]


def merged(pools: Mapping[str, Group]) -> Group:
    """One group of all trajectories of several pools on the same prompt; ``meta["pool"]`` of each says from which.

    Raises:
        RecipeError: without pools, or when their prompts differ.
    """
    groups = list(pools.values())
    if not groups or any(g.prompt.id != groups[0].prompt.id for g in groups):
        raise RecipeError(f"Pools of one prompt are needed, not of {sorted({g.prompt.id for g in groups})}.")
    for name, group in pools.items():
        for trajectory in group:
            trajectory.meta["pool"] = name
    return Group(groups[0].key, groups[0].prompt, [t for g in groups for t in g])


def across(pools: Mapping[str, Sequence[Group]]) -> list[Group]:
    """:func:`merged` for lists of groups: one group per prompt from pools in the order of the prompts."""
    return [merged(dict(zip(pools, own, strict=True))) for own in zip(*pools.values(), strict=True)]


def cross_pool(
    group: Group,
    scores: Sequence[float | None] | None = None,
    *,
    chosen: Sequence[str],
    rejected: Sequence[str],
    min_gap: float = 0.0,
    margin_scale: float = 0.0,
) -> list[IndexPair]:
    """The best of some pools over the worst of others, at most one pair (Temporal Self-Rewarding, 2508.06026).

    Pools are named by ``meta["pool"]`` (:func:`merged`); equal scores go to the pool that is named first. With
    ``chosen=("now",), rejected=("now", "past")`` the rejected one comes from the past where the past's worst is worse
    (anchored rejection); with ``chosen=("now", "future")`` the chosen one from the future where its best is better.

    Example: now ``[3, 5, 2]`` and past ``[4, 1]`` prefer the 5 over the 1.
    """
    known = _scored(group, scores)

    def candidates(pools: Sequence[str]) -> list[int]:
        return [i for pool in pools for i in known if group.trajectories[i].meta.get("pool") == pool]

    high, low = candidates(chosen), candidates(rejected)
    if not high or not low:
        return []
    best, worst = max(high, key=known.__getitem__), min(low, key=known.__getitem__)
    gap = known[best] - known[worst]
    if gap <= min_gap or not _distinct(group, best, worst):
        return []
    return [IndexPair(best, worst, margin=margin_scale * gap)]


def rank_agreement(first: Sequence[float | None], second: Sequence[float | None]) -> float | None:
    """How alike two judges rank one group: ``(Kendall tau + 1) / 2`` in [0, 1] (CREAM, 2410.12735, eq. 7).

    Example: ``[1, 2, 3]`` and ``[1, 3, 2]`` are at tau 1/3, so 2/3. None where a score is missing on either side: such
    a group says nothing about agreement.
    """
    pairs = list(zip(first, second, strict=True))
    if len(pairs) < 2 or any(v is None or math.isnan(v) for pair in pairs for v in pair):
        return None
    from selfreward.statistics import kendall_tau

    return (kendall_tau([float(a) for a, _ in pairs], [float(b) for _, b in pairs]) + 1) / 2  # type: ignore[arg-type]


def provenance(
    group: Group, pairs: Sequence[IndexPair], builder: str, scores: Sequence[float | None] | None = None
) -> list[dict[str, Any]]:
    """Where each pair comes from, as plain values for a log."""
    return [
        {
            "group": group.key,
            "prompt": group.prompt.id,
            "builder": builder,
            **pair._asdict(),
            "pools": _pools(group, pair),
            "scores": None if scores is None else [scores[pair.chosen], scores[pair.rejected]],
        }
        for pair in pairs
    ]


def pool_shares(entries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """For the record of a step: share of the pairs, as :func:`provenance` gives them, by the pools of their sides.

    Example: two pairs of a future answer over a past one, and one within a group of no pool, give
    ``{"pairs/future_over_past": 2/3, "pairs/own_over_own": 1/3}``.
    """
    found = Counter("_over_".join(str(pool or "own") for pool in entry["pools"]) for entry in entries)
    return {f"pairs/{name}": n / found.total() for name, n in sorted(found.items())}


def _pools(group: Group, pair: IndexPair) -> list[str | None]:
    """Where the chosen and the rejected side come from (:func:`merged`)."""
    return [group.trajectories[i].meta.get("pool") for i in pair[:2]]


def _scored(group: Group, scores: Sequence[float | None] | None) -> dict[int, float]:
    values: Sequence[float | None] = group.rewards if scores is None else scores
    _sized(group, values, "scores")
    return {i: float(s) for i, s in enumerate(values) if s is not None and not math.isnan(s)}


def _sized(group: Group, values: Sequence[Any], what: str) -> None:
    if len(values) != len(group):
        raise RecipeError(f"Group {group.key!r} has {len(group)} trajectories but was given {len(values)} {what}.")


def _distinct(group: Group, i: int, j: int) -> bool:
    return group.trajectories[i].completion != group.trajectories[j].completion


def _draw(n: int, count: int, generator: Generator | None) -> list[int]:
    if generator is None:
        return list(range(count))
    import torch

    return torch.randperm(n, generator=generator)[:count].tolist()


def _pick(candidates: list[int], generator: Generator | None) -> int:
    return candidates[_draw(len(candidates), 1, generator)[0]]
