"""What a recipe is.

A recipe says who produces what, what it is worth, and what is learned from it. It sees prompts
without their answers, whole groups, and a policy; it knows nothing of batching, devices or files.
Its dataclass fields are its hyperparameters: each can be set with ``--set name=value``, and a recipe
has no field that it does not read. A recipe that learns from rewards as GRPO does subclasses
:class:`selfreward.recipes.grpo.GRPO`, which brings the objective and the advantages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from selfreward.errors import RecipeError
from selfreward.losses import LossTerm
from selfreward.types import Experience, Labels, Prompt

if TYPE_CHECKING:
    from selfreward.data.task import Task
    from selfreward.rollouts.run import RunContext


@dataclass
class Recipe:
    """The contract between a method and the trainer: :meth:`collect` and :meth:`objective`.

    Class attributes:
        name: the command-line name; by default that of the class with hyphens (``my-vote`` for ``MyVote``).
        system_id: id in the systems table, or None for a building block or control.
        labels: what the recipe needs beside prompts. "none" is enforced: the prompts that it is given
            contain no answer.
        fields: columns of the user's data that it reads.
        mechanism: the counter that proves the method's special part to be alive.
        control: whether it is a control arm and not a method.
        base: the embedded base that it is shown on when the user names neither model nor data.
    """

    name: ClassVar[str] = ""
    system_id: ClassVar[str | None] = None
    labels: ClassVar[Labels] = "none"
    fields: ClassVar[tuple[str, ...]] = ()
    mechanism: ClassVar[str] = ""
    control: ClassVar[bool] = False
    base: ClassVar[str] = "embedded:chain"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    def needs(self) -> Labels:
        """The labels that this instance reads; a hyperparameter may ask for more than the class does."""
        return type(self).labels

    def adapt(self, task: Task) -> Task:
        """The task as this recipe puts it to the model (its own prompt templates, say); by default as it is."""
        return task

    def collect(self, policy: Any, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        """Produce, score and credit trajectories for these prompts.

        Args:
            policy: of the kind that the recipe is for; the loop asks no more of it than
                :class:`~selfreward.policy.protocol.TrainablePolicy`.

        Raises:
            RecipeError: unless a subclass defines it.
        """
        raise RecipeError(f"Recipe {type(self).__name__} has no method collect(policy, prompts, run).")

    def objective(self, run_limit: int) -> list[LossTerm]:
        """The loss terms, whose sum is minimised on what :meth:`collect` gave.

        Args:
            run_limit: the largest number of new tokens, the constant length of ``dr_grpo``.

        Raises:
            RecipeError: unless a subclass defines it.
        """
        raise RecipeError(
            f"Recipe {type(self).__name__} has no method objective(run_limit). To learn from rewards, subclass "
            "selfreward.recipes.grpo.GRPO; to learn otherwise, return the terms (selfreward.losses)."
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the weights that the next step depends on (JSON-able values and tensors)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
