"""From scored groups to the rows that losses consume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.credit.advantages import group_normalised, return_to_go, whiten
from selfreward.types import Experience, Group, Pair, Row, Trajectory

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

# A behaviour log-probability that nobody knows yet; the trainer scores such rows before learning.
UNKNOWN = float("nan")


def row_of(
    trajectory: Trajectory,
    advantage: float | Sequence[float] | Tensor = 0.0,
    *,
    roles: Sequence[str] | None = None,
    nll: float = 0.0,
) -> Row:
    """One row with the segments of ``trajectory`` in order.

    Args:
        advantage: one number for all learned tokens, or one per *learned segment* (turn-level credit),
            or a float tensor ``[number of learned tokens]`` (token-level credit).
        roles: learn only these roles' segments; None learns every trainable segment.
        nll: likelihood weight of each learned token.
    """
    learned = [s.trainable and (roles is None or s.role in roles) for s in trajectory.segments]
    mask, behaviour, kl = [], [], []
    for segment, wanted in zip(trajectory.segments, learned, strict=True):
        n = len(segment)
        mask.append(torch.full((n,), float(wanted)))
        kl.append(torch.full((n,), segment.kl_weight if wanted else 0.0))
        known = segment.logprobs if segment.logprobs is not None else torch.full((n,), UNKNOWN)
        behaviour.append(known.float() if wanted else torch.zeros(n))
    mask_T = torch.cat(mask)
    advantage_T = torch.zeros(len(mask_T))
    if isinstance(advantage, Tensor) and advantage.ndim == 1:
        advantage_T[mask_T > 0] = advantage.float()
    elif isinstance(advantage, Sequence):
        per_token = [
            torch.full((len(s),), float(a))
            for s, a in zip([s for s, w in zip(trajectory.segments, learned) if w], advantage, strict=True)
        ]
        advantage_T[mask_T > 0] = torch.cat(per_token) if per_token else advantage_T[:0]
    else:
        advantage_T = mask_T * float(advantage)
    return Row(trajectory.tokens, mask_T, advantage_T, torch.cat(behaviour), nll * mask_T, torch.cat(kl))


def advantage_experience(
    groups: Sequence[Group],
    credit: Callable[[Tensor], Tensor] = group_normalised,
    *,
    roles: Sequence[str] | None = None,
) -> Experience:
    """Rows of every trajectory, with ``credit(rewards [G]) -> advantages [G]`` applied within each group."""
    rows = []
    for group in groups:
        advantages = credit(torch.tensor(group.rewards))
        rows += [row_of(t, float(a), roles=roles) for t, a in zip(group, advantages, strict=True)]
    return Experience(rows, groups=list(groups))


def reinforce_experience(
    groups: Sequence[Group], reference: Policy | None = None, kl: float = 0.0, temperature: float = 1.0
) -> Experience:
    """Rows as in REINFORCE++ (arXiv 2501.03262): no group baseline, the batch is the yardstick.

    Every token's return is the reward minus ``kl`` times the sum of log(policy / reference) from that token
    on; returns are then whitened over all tokens of the batch. The last segment that the policy wrote is
    learned. Because groups share no baseline here, a prompt on which everything is rewarded still gets
    positive advantages.
    """
    trajectories = [t for group in groups for t in group]
    starts = [len(t.tokens) - len(t.last) for t in trajectories]
    penalties = [torch.zeros(len(t.last)) for t in trajectories]
    if kl and reference is not None and trajectories:
        anchors = reference.score([t.tokens for t in trajectories], starts, temperature=temperature, role="reference")
        for i, (trajectory, anchor) in enumerate(zip(trajectories, anchors, strict=True)):
            assert trajectory.last.logprobs is not None, "REINFORCE++ needs the sampler's log-probabilities"
            penalties[i] = kl * (trajectory.last.logprobs - anchor["logprob"])
    returns = [t.reward - return_to_go(p) for t, p in zip(trajectories, penalties, strict=True)]
    if not returns:
        return Experience([], groups=list(groups))
    # The spread is taken in double precision: equal returns must not differ by rounding.
    advantages = whiten(torch.cat(returns).double()).float().split([len(r) for r in returns])
    rows = []
    for trajectory, advantage in zip(trajectories, advantages, strict=True):
        learned = [s is trajectory.last for s in trajectory.segments]
        whole = [
            torch.zeros(len(s)) if not mine else advantage
            for s, mine in zip(trajectory.segments, learned, strict=True)
            if s.trainable
        ]
        rows.append(row_of(trajectory, torch.cat(whole)))
    return Experience(rows, groups=list(groups))


def pair_experience(
    groups: Sequence[Group], pairs: Sequence[Sequence[tuple[int, int, float, float]]], *, nll: float = 0.0
) -> Experience:
    """Rows of the trajectories that appear in a pair.

    Args:
        pairs: per group, ``(chosen, rejected, weight, margin)`` with indices into the group.
        nll: likelihood weight per chosen token, times the pair's weight (the NLL term of iterative DPO).
    """
    rows: list[Row] = []
    result: list[Pair] = []
    for group, found in zip(groups, pairs, strict=True):
        at: dict[int, int] = {}
        for chosen, rejected, weight, margin in found:
            for i in (chosen, rejected):
                if i not in at:
                    at[i] = len(rows)
                    rows.append(row_of(group.trajectories[i]))
            rows[at[chosen]].nll += nll * weight * rows[at[chosen]].mask
            result.append(Pair(at[chosen], at[rejected], weight, margin))
    return Experience(rows, result, list(groups))
