"""What recipes share that climb a reward model with PPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from selfreward.credit.ppo import climb
from selfreward.losses import PolicyGradient
from selfreward.policy.critic import Critic
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.auxiliary import AuxiliaryModels
from selfreward.recipes.base import Recipe
from selfreward.recipes.grpo import Normalisation
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Prompt


@dataclass
class RewardModelRecipe(Recipe):
    """Base of recipes that teach a reward model and then climb it with PPO (Schulman et al. 2017, arXiv 1707.06347).

    Attributes:
        group_size: completions per prompt in PPO.
        normalise, clip_low, clip_high: of PPO's surrogate, see :class:`selfreward.recipes.grpo.PolicyGradientRecipe`.
        kl: penalty inside PPO's reward for every token's distance to the anchor.
        critic_lr, decay: of the critic, and lambda of GAE.
    """

    group_size: int = 8
    normalise: Normalisation = "dapo"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    critic_lr: float = 1e-3
    decay: float = 0.95
    _beside: AuxiliaryModels = field(default_factory=AuxiliaryModels, repr=False, init=False)

    def surrogate(self) -> PolicyGradient:
        """PPO's clipped objective; its KL is in the reward."""
        return PolicyGradient(clip_low=self.clip_low, clip_high=self.clip_high, normalise=self.normalise)

    def climb(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        run: RunContext,
        score: Callable[[Sequence[Tensor]], Tensor],
        anchor: Policy,
    ) -> Experience:
        """One step of PPO.

        Args:
            score: the reward ``[N]`` of N token sequences.
            anchor: the KL is to this policy, and the critic starts from its weights.
        """
        critic = self._beside.get("critic", lambda: Critic(anchor, lr=self.critic_lr))
        how = {"kl": self.kl, "decay": self.decay}
        found = climb(policy, prompts, self.group_size, run.sampling, score, critic, anchor, **how)
        run.count(self.mechanism, sum(map(len, found.groups)))
        return found
