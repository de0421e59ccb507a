"""The same model in another context: what it would say, or what it makes of what was said, if it knew more.

A privileged context holds what the question alone does not: a sibling's success, the error text of a failed
attempt, the gold answer. From it one either *samples* (``policy.sample`` on the new prompt: a self-made
demonstration) or *scores*: the tokens of a response stay what they were and only what stands before them
changes, so that the difference of log-probabilities is the credit that the model itself gives to each token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from selfreward.errors import RecipeError
from selfreward.policy import Policy
from selfreward.types import Group, Prompt, Trajectory

Hint = Callable[[Group, int], "str | None"]
"""The privileged text of one member of a group, or None where there is nothing to tell."""


def recontext(prompt: Prompt, template: str, fields: Mapping[str, str], kind: str = "hint") -> Prompt:
    """The prompt with ``template`` in the place of its question; ``{question}`` and each field are filled in.

    Chat prompts keep their other messages. The id is a new one, so that draws and baselines are its own.

    Raises:
        RecipeError: when the template names a field that is not given.
    """
    try:
        text = template.format(**{"question": prompt.question, **fields})
    except (KeyError, IndexError) as error:
        raise RecipeError(f"The template {template!r} names a field {error} that is not given.") from None
    name = f"{prompt.id}/{kind}"
    if prompt.messages is None:
        return replace(prompt, id=name, text=text)
    last = max(i for i, m in enumerate(prompt.messages) if m["role"] == "user")
    messages = [{**m, "content": text} if i == last else m for i, m in enumerate(prompt.messages)]
    return replace(prompt, id=name, messages=tuple(messages))


def sibling_success(group: Group, threshold: float = 0.5) -> list[Trajectory | None]:
    """For each member the next *other* member (cyclically) with at least ``threshold`` reward; None without one.

    Example: rewards ``[1, 0, 1]`` give members 2, 2 and 0; ``[1, 0]`` give None and 0: a success is never shown
    to itself.
    """
    good = [r >= threshold for r in group.rewards]
    n = len(good)
    found: list[Trajectory | None] = []
    for i in range(n):
        after = next((j % n for j in range(i + 1, i + n) if good[j % n]), None)
        found.append(None if after is None else group.trajectories[after])
    return found


def rescored(
    policy: Policy,
    trajectories: Sequence[Trajectory],
    prompts: Sequence[Prompt],
    *,
    temperature: float = 1.0,
    role: str = "teacher",
    **asked: Any,
) -> list[dict[str, Tensor]]:
    """What ``policy`` makes of the last segment of each trajectory after another prompt; ``[T]`` of that segment.

    Args:
        prompts: one per trajectory: the context that takes the place of everything before the segment.
        asked: ``stats``, ``top_k`` or ``candidates``, as for :meth:`Policy.score`.
    """
    heads = [policy.encode(p) for p in prompts]
    sequences = [
        torch.cat([torch.tensor(h, dtype=torch.long), t.last.tokens]) for h, t in zip(heads, trajectories, strict=True)
    ]
    return policy.score(sequences, [len(h) for h in heads], temperature=temperature, role=role, **asked)
