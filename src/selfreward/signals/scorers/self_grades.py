"""A model grades groups of its own answers by the task's judge format, and how well such grades order the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfreward.errors import RecipeError, nearest
from selfreward.signals.rules import graded
from selfreward.signals.scorers.judge import JudgeTemplate, PolicyJudge
from selfreward.statistics import pairwise_accuracy
from selfreward.types import Group

if TYPE_CHECKING:
    from torch import Generator

    from selfreward.policy.policy import Policy
    from selfreward.rollouts.run import RunContext

Grades = list[list[float | None]]


def own_grades(
    model: Policy,
    groups: Sequence[Group],
    run: RunContext,
    *,
    template: str = "judge",
    votes: int = 3,
    top: int = 5,
    tokens: int = 16,
    temperature: float = 1.0,
) -> Grades:
    """``[groups][trajectories]``: mean of ``votes`` sampled judgements on the scale 0 to ``top``, None if none could be
    read. Equal answers to one prompt are judged once.

    Args:
        template: name of the task's judge template, which has ``{question}`` (the prompt without a final ``=``) and
            ``{response}``.

    Raises:
        RecipeError: where the task brings no such template.
    """
    if template not in run.templates:
        raise RecipeError(f"The task has no judge template {template!r}.{nearest(template, run.templates)}")
    style = JudgeTemplate(
        run.templates[template], tuple(map(str, range(top + 1))), candidate="response", guard=("|", "answer")
    )
    judge = PolicyJudge(model, style, "mean", samples=votes, temperature=temperature, max_new_tokens=tokens)
    model.seed(run.seed, "grades", run.step, *sorted({g.key for g in groups})[:1])
    found = judge([[{"question": asked(g), "response": c} for c in g.completions] for g in groups])
    return [[None if s is None else s * top for s in own] for own in found]


def asked(group: Group) -> str:
    """The question as a template quotes it."""
    return group.prompt.question.removesuffix("=").rstrip()


def true_grades(groups: Sequence[Group], run: RunContext) -> Grades:
    """The truth, for ceilings and tests; needs prompts that are not locked."""
    return [list(graded(g.completions, str(g.prompt.answer), run.answers)) for g in groups]


def permuted(own: Sequence[float | None], generator: Generator) -> list[float | None]:
    """The same grades on other answers of the group."""
    import torch

    return [own[i] for i in torch.randperm(len(own), generator=generator).tolist()]


def shuffled_grades(groups: Sequence[Group], grades: Grades, run: RunContext) -> Grades:
    """The control: grades :func:`permuted` within each group, by the group's own draw of this step."""
    both = zip(groups, grades, strict=True)
    return [permuted(own, run.generator("shuffled", group.key)) for group, own in both]


def order_accuracy(grades: Grades, truths: Grades) -> float:
    """Share of the answer pairs of different truth that the grades put in the right order, ties one half."""
    found = []
    for own, truth in zip(grades, truths, strict=True):
        both = [(s, t) for s, t in zip(own, truth, strict=True) if s is not None and t is not None]
        accuracy = pairwise_accuracy([s for s, _ in both], [t for _, t in both]) if len(both) > 1 else float("nan")
        if accuracy == accuracy:  # not NaN
            found.append(accuracy)
    return sum(found) / len(found) if found else float("nan")
