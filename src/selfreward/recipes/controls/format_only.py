"""Format only: how much of a gain is form. Needs nothing but the task's own check of the form."""

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
class FormatOnly(GRPO):
    """1 for a well-formed completion, whatever it says."""

    name: ClassVar[str] = "format-only"
    control: ClassVar[bool] = True
    mechanism: ClassVar[str] = "well-formed completions"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            rewards = rules.format_only(group.completions, run.well_formed)
            group.reward_with(rewards)
            run.count(self.mechanism, int(sum(rewards)))
        return self.learn_from(groups)
