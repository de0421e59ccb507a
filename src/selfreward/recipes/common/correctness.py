"""Recipes whose reward starts from "is the answer right?".

In the papers the reference answer decides. With the group's own vote in its place the same recipe needs no labels;
that is an extension of this library, and no paper's result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.errors import RecipeError
from selfreward.recipes.base import Recipe
from selfreward.rollouts.run import RunContext
from selfreward.signals import rules
from selfreward.signals.vote import vote, vote_rewards
from selfreward.types import Group, Labels


@dataclass
class CorrectnessRecipe(Recipe):
    """Base of recipes that add to correctness.

    Attributes:
        correctness: ``gold`` compares with the reference answer; ``vote`` with the group's most
            frequent answer (an extension, without labels).
    """

    labels: ClassVar[Labels] = "outcome"

    correctness: Literal["gold", "vote"] = "gold"

    def needs(self) -> Labels:
        return "none" if self.correctness == "vote" else type(self).labels

    def verdicts(self, group: Group, run: RunContext) -> list[float]:
        """1 for a right answer, 0 for a wrong one.

        Raises:
            RecipeError: where the prompt has no reference answer.
        """
        if self.correctness == "vote":
            classes = run.classes(group)
            return vote_rewards(classes, vote(classes))
        reference = group.prompt.answer
        if reference is None:
            raise RecipeError(
                f"Recipe {self.name!r} needs the answer of every prompt, but prompt {group.prompt.id!r} has none. "
                "Give the data an answer column, or set correctness=vote."
            )
        return rules.gold(group.completions, reference, run.answers)


def lengths(group: Group) -> list[float]:
    """Generated tokens of every completion, with the end token."""
    return [float(len(t.last)) for t in group]
