"""Gold: the answers themselves as the reward (reinforcement learning from verifiable rewards).

The ceiling of every reward that is made without answers. Needs them ("outcome").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals import rules
from selfreward.types import Experience, Labels, Prompt


@dataclass
class Gold(GRPO):
    """1 for a correct answer. The ceiling: no self-reward is expected to beat it."""

    name: ClassVar[str] = "gold"
    labels: ClassVar[Labels] = "outcome"
    control: ClassVar[bool] = True
    mechanism: ClassVar[str] = "groups with a reference answer"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            answer = group.prompt.answer
            if answer is not None:
                group.reward_with(rules.gold(group.completions, answer, run.answers))
            run.count(self.mechanism, answer is not None)
        return self.learn_from(groups)
