"""The learners that most recipes share: a clipped policy gradient, and GRPO's advantages on top of it.

A recipe that says only what a completion is worth subclasses :class:`GRPO`, rewards its groups and ends with
``return self.learn_from(groups)``. One with advantages of its own (a running baseline, a critic) subclasses
:class:`PolicyGradientRecipe` and has no option ``advantage``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from selfreward.credit.advantages import group_normalised, leave_one_out
from selfreward.credit.rows import advantage_experience
from selfreward.losses import KL, EntropyBonus, LossTerm, PolicyGradient
from selfreward.recipes.base import Recipe
from selfreward.types import Experience, Group

if TYPE_CHECKING:
    import torch

Advantage = Literal["group", "centred", "leave_one_out"]
Loss = Literal["clip", "reinforce", "cispo", "gspo"]
Normalisation = Literal["grpo", "dr_grpo", "dapo"]


@dataclass
class PolicyGradientRecipe(Recipe):
    """Base of recipes that learn by a policy gradient on the advantages in their rows.

    Attributes:
        group_size: completions per prompt.
        loss: the surrogate, see :func:`selfreward.losses.policy_gradient`.
        normalise: how tokens are weighed, see :func:`selfreward.losses.token_weights`.
        clip_low, clip_high: the importance ratio is clipped to ``1 - clip_low .. 1 + clip_high``.
        kl: coefficient of the KL to the start model; 0 leaves it out.
        entropy_bonus: coefficient of the entropy of the next-token distributions; 0 leaves it out.
    """

    group_size: int = 8
    loss: Loss = "clip"
    normalise: Normalisation = "dapo"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    entropy_bonus: float = 0.0

    def kl_in_reward(self) -> bool:
        """Whether the recipe charges ``kl`` in its rewards (as PPO does), so that the objective has no KL term."""
        return False

    def objective(self, run_limit: int) -> list[LossTerm]:
        """The surrogate, the KL to the start model and the entropy bonus; see :meth:`Recipe.objective`."""
        terms: list[LossTerm] = [
            PolicyGradient(
                variant=self.loss,
                clip_low=self.clip_low,
                clip_high=self.clip_high,
                normalise=self.normalise,
                max_tokens=run_limit,
            )
        ]
        if self.kl and not self.kl_in_reward():
            terms.append(KL(coefficient=self.kl, normalise=self.normalise, max_tokens=run_limit))
        if self.entropy_bonus:
            terms.append(EntropyBonus(coefficient=self.entropy_bonus))
        return terms


@dataclass
class GRPO(PolicyGradientRecipe):
    """Group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300).

    Attributes:
        advantage: a reward minus its group's mean, divided by the group's standard deviation (``group``) or not
            (``centred``, Dr. GRPO, arXiv 2503.20783), or minus the mean of the others (``leave_one_out``, RLOO,
            arXiv 2402.14740).
    """

    advantage: Advantage = "group"

    def learn_from(self, groups: Sequence[Group], roles: Sequence[str] | None = None) -> Experience:
        """Rewards of whole groups to group-relative advantages (GRPO, eq. 3).

        Args:
            roles: learn only these roles' segments; None learns every segment that the policy wrote.
        """
        return advantage_experience(groups, self.credit, roles=roles)

    def credit(self, rewards_G: torch.Tensor) -> torch.Tensor:
        """Advantages ``[G]`` of one group's rewards ``[G]``."""
        if self.advantage == "leave_one_out":
            return leave_one_out(rewards_G)
        return group_normalised(rewards_G, scale="group" if self.advantage == "group" else "none")
