"""A response forced under two opposite requests, "make it better" and "make it worse": the credit of its tokens.

See :mod:`selfreward.signals.contrast` for the formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.errors import RecipeError
from selfreward.signals.contrast import contrast_credit

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.types import Trajectory


def contrast_credits(
    model: Policy,
    trajectories: Sequence[Trajectory],
    better: str,
    worse: str,
    *,
    ending: bool = True,
) -> list[Tensor]:
    """:func:`contrast_credit` of every trajectory's last segment, two forwards each.

    Args:
        better, worse: templates with ``{question}`` (the prompt's text without a final ``=``) and ``{response}``.
        ending: False gives the end-of-sequence token no credit; both requests end alike.
    """
    read: list[list[Tensor]] = []
    for template in (better, worse):
        sequences, starts = [], []
        for trajectory in trajectories:
            head = torch.tensor(model.encode_text(filled(template, trajectory)), dtype=torch.long)
            sequences.append(torch.cat([head, trajectory.last.tokens]))
            starts.append(len(head))
        read.append([s["logprob"] for s in model.score(sequences, starts, role="contrast")])
    credits = [contrast_credit(b, w) for b, w in zip(*read, strict=True)]
    if not ending:
        for trajectory, credit in zip(trajectories, credits, strict=True):
            if trajectory.last.finished and len(credit):
                credit[-1] = 0.0
    return credits


def filled(template: str, trajectory: Trajectory) -> str:
    """The template about one trajectory.

    Raises:
        RecipeError: if it names another field.
    """
    question = trajectory.prompt.question.removesuffix("=").rstrip()
    try:
        return template.format(question=question, response=trajectory.completion)
    except KeyError as error:
        raise RecipeError(
            f"A rewriting template has {{question}} and {{response}}, but this one asks for {error}."
        ) from None
