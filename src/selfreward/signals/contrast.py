"""Credit of single tokens from two opposite instructions, without a reward model.

T-REG (Zhou et al. 2024, arXiv 2412.02685): a model that is asked to make a response better finds its good tokens
likelier than when it is asked to make it worse. The response is forced under both requests; nothing is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.errors import RecipeError

if TYPE_CHECKING:
    from selfreward.policy import Policy
    from selfreward.types import Trajectory


def contrast_credit(better_T: Tensor, worse_T: Tensor) -> Tensor:
    """``sigmoid(better_t - worse_t) - 1/2`` of every token, float ``[T]`` in (-1/2, 1/2).

    Args:
        better_T, worse_T: log-probabilities of the response's tokens when asked for a better and for a worse one.

    Example: a token of probability .9 under "better" and .1 under "worse" gets
    ``sigmoid(log 9) - 1/2 = .9 - .5 = .4``, the other way round -.4.
    """
    if better_T.shape != worse_T.shape:
        raise ValueError(f"The two readings differ in length: {tuple(better_T.shape)} and {tuple(worse_T.shape)}.")
    return torch.sigmoid(better_T - worse_T) - 0.5


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
