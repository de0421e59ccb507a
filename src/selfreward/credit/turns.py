"""Credit turn by turn: each segment is compared with those of the same role and place in its group.

Turns of one trajectory have rewards of their own (attempt, fix), and a baseline over different turns would mix what is
easy with what is hard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from selfreward.credit.advantages import group_normalised
from selfreward.credit.rows import row_of
from selfreward.types import Experience, Group


def turn_advantages(
    group: Group, credit: Callable[[Tensor], Tensor] = group_normalised, *, scale: Mapping[str, float] | None = None
) -> list[list[float]]:
    """Advantage of every trainable segment, in order, per trajectory.

    Segments are compared with those of the same role and place (first fix, second fix) in the group, each by its
    own reward (the trajectory's, where it has none); a turn that one trajectory alone took has no baseline and
    gets 0. ``scale`` multiplies the advantages of a role; 0 keeps its tokens in the KL term alone.

    Example: attempts worth 1, 0 and fixes worth 1, 1 give ``[[.5, 0], [-.5, 0]]`` when rewards are centred.
    """
    places: dict[tuple[str, int], list[tuple[int, int]]] = {}
    learned = [[s for s in t.segments if s.trainable] for t in group]
    for i, segments in enumerate(learned):
        count = Counter[str]()
        for j, segment in enumerate(segments):
            places.setdefault((segment.role, count[segment.role]), []).append((i, j))
            count[segment.role] += 1
    result = [[0.0] * len(segments) for segments in learned]
    for (role, _), members in places.items():
        rewards = []
        for i, j in members:
            own = learned[i][j].reward
            rewards.append(group.trajectories[i].reward if own is None else own)
        values = credit(torch.tensor(rewards)) * (scale or {}).get(role, 1.0)
        for (i, j), value in zip(members, values.tolist(), strict=True):
            result[i][j] = value
    return result


def turn_experience(
    groups: Sequence[Group],
    credit: Callable[[Tensor], Tensor] = group_normalised,
    *,
    roles: Sequence[str] | None = None,
    scale: Mapping[str, float] | None = None,
) -> Experience:
    """Rows with turn-level credit (:func:`turn_advantages`); of ``roles`` only, where they are given."""
    rows = []
    for group in groups:
        for trajectory, advantages in zip(group, turn_advantages(group, credit, scale=scale), strict=True):
            trainable = [s for s in trajectory.segments if s.trainable]
            kept = [a for a, s in zip(advantages, trainable, strict=True) if roles is None or s.role in roles]
            rows.append(row_of(trajectory, kept, roles=roles))
    return Experience(rows, groups=list(groups))
