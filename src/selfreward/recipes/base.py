"""What a recipe is.

A recipe says who produces what, what it is worth, and what is learned from it. It sees prompts
without their answers, whole groups, and a policy; it knows nothing of batching, devices or files.
Its dataclass fields are its hyperparameters: each can be set with ``--set name=value``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from selfreward.credit.advantages import group_normalised, leave_one_out
from selfreward.credit.rows import advantage_experience
from selfreward.errors import RecipeError
from selfreward.losses import KL, EntropyBonus, LossTerm, PolicyGradient
from selfreward.types import Experience, Group, Labels, Prompt

if TYPE_CHECKING:
    import torch

    from selfreward.data.task import Task
    from selfreward.rollouts.run import RunContext


# The options that belong to the shared learner below: `credit` reads the first, `objective` the others.
LEARNER = ("advantage", "loss", "normalise", "clip_low", "clip_high", "kl", "entropy_bonus")


def all_but(*read: str, because: str) -> dict[str, str]:
    """The options of the shared learner without those ``read``, each with the reason; for :meth:`Recipe.unread`."""
    return {name: because for name in LEARNER if name not in read}


@dataclass
class Recipe:
    """Base of all recipes; also the GRPO learner that most of them share.

    Class attributes:
        name: the command-line name.
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

    group_size: int = 8
    advantage: Literal["group", "centred", "leave_one_out"] = "group"
    loss: Literal["clip", "reinforce", "cispo", "gspo"] = "clip"
    normalise: Literal["grpo", "dr_grpo", "dapo"] = "dapo"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    entropy_bonus: float = 0.0

    def needs(self) -> Labels:
        """The labels that this instance reads; a hyperparameter may ask for more than the class does."""
        return type(self).labels

    def unread(self) -> dict[str, str]:
        """Inherited options that this instance never reads, each with the reason; who sets one is told so.

        Those of the shared learner mean nothing to a recipe with a credit or an objective of its own, see
        :func:`all_but`.
        """
        return {}

    def adapt(self, task: Task) -> Task:
        """The task as this recipe puts it to the model (its own prompt templates, say); by default as it is."""
        return task

    def collect(self, policy: Any, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        """Produce, score and credit trajectories for these prompts.

        Args:
            policy: of the kind that the recipe is for; the loop asks no more of it than
                :class:`~selfreward.policy.protocol.TrainablePolicy`.
        """
        raise RecipeError(f"Recipe {type(self).__name__} has no method collect(policy, prompts, run).")

    def objective(self, run_limit: int) -> list[LossTerm]:
        """The loss terms; ``run_limit`` is the largest number of new tokens (for ``dr_grpo``)."""
        terms: list[LossTerm] = [
            PolicyGradient(
                variant=self.loss,
                clip_low=self.clip_low,
                clip_high=self.clip_high,
                normalise=self.normalise,
                max_tokens=run_limit,
            )
        ]
        if self.kl:
            terms.append(KL(coefficient=self.kl, normalise=self.normalise, max_tokens=run_limit))
        if self.entropy_bonus:
            terms.append(EntropyBonus(coefficient=self.entropy_bonus))
        return terms

    def learn_from(self, groups: Sequence[Group], roles: Sequence[str] | None = None) -> Experience:
        """Rewards of whole groups to group-relative advantages (GRPO, Shao et al. 2024, eq. 3)."""
        return advantage_experience(groups, self.credit, roles=roles)

    def credit(self, rewards_G: torch.Tensor) -> torch.Tensor:
        """Advantages ``[G]`` of one group's rewards ``[G]``."""
        if self.advantage == "leave_one_out":
            return leave_one_out(rewards_G)
        return group_normalised(rewards_G, scale="group" if self.advantage == "group" else "none")

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the weights that the next step depends on (JSON-able values and tensors)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
