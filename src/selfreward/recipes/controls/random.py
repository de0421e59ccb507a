"""Random rewards: what an optimiser does with noise.

Gains under a coin are spurious, and known to happen (Shao et al. 2025, arXiv 2506.10947).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals import rules
from selfreward.types import Experience, Prompt


@dataclass
class Random(GRPO):
    """A fair coin per completion. The floor: what the optimiser does with noise."""

    name: ClassVar[str] = "random"
    control: ClassVar[bool] = True
    mechanism: ClassVar[str] = "coins tossed"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            group.reward_with(rules.random_reward(len(group), run.generator("coin", group.key)))
            run.count(self.mechanism, len(group))
        return self.learn_from(groups)
