"""Derived tasks: rollouts become new prompts whose answer is known for free.

A solution whose outcome was checked is a verification problem with a known verdict; a failed one is a retry or
an improvement problem; a right one with a part hidden is a gap to fill. The answer of a derived prompt comes from
the rollout, not from the user's data, so a recipe may read it. Every derived prompt has an id of its own, and so
its group a key and a baseline of its own: rewards for verifying are never compared with rewards for solving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from selfreward.errors import RecipeError
from selfreward.types import Group, Prompt, Trajectory


def pick_evenly(counts: Sequence[int], n: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """``n`` pairs (group, member), evenly over the groups and at random inside each; fewer if there are fewer.

    Groups are visited in turn, in random order; nothing is picked twice. Example: counts ``[2, 1]`` and
    ``n=2`` pick one member of each group.
    """
    if n < 0 or any(c < 0 for c in counts):
        raise RecipeError(f"Cannot pick {n} of groups of sizes {list(counts)}.")
    orders = [torch.randperm(c, generator=generator).tolist() for c in counts]
    visit = torch.randperm(len(counts), generator=generator).tolist()
    picked: list[tuple[int, int]] = []
    for k in range(max(counts, default=0)):
        picked += [(g, orders[g][k]) for g in visit if k < counts[g]]
        if len(picked) >= n:
            break
    return picked[:n]


def derive(
    groups: Sequence[Group],
    make: Callable[[Trajectory], tuple[str, str] | None],
    n: int,
    generator: torch.Generator,
    kind: str,
) -> list[Prompt]:
    """Up to ``n`` derived prompts, spread evenly over the groups.

    Args:
        make: the text of the new prompt and its answer, or None for a trajectory that gives no task (those are
            left out before the spread).
        kind: goes into the ids; ``fields["source"]`` is (group key, member).
    """
    tasks = [[(i, made) for i, t in enumerate(g) if (made := make(t)) is not None] for g in groups]
    found = []
    for g, k in pick_evenly([len(own) for own in tasks], n, generator):
        i, (text, gold) = tasks[g][k]
        key = groups[g].key
        found.append(Prompt(f"{key}/{kind}-{i}", text, fields={"source": (key, i)}, reference=gold))
    return found
