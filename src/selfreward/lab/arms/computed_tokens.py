"""The ceiling of DRO: the reward looks where the task says that the reasoning shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Labels, Prompt


@dataclass
class ComputedTokens(GRPO):
    """Share of the tokens that had to be computed, and are right in the sampled outcome (embedded task ``report``)."""

    name: ClassVar[str] = "computed-tokens"
    labels: ClassVar[Labels] = "outcome"
    control: ClassVar[bool] = True
    base: ClassVar[str] = "embedded:report"
    mechanism: ClassVar[str] = "checked outcomes"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        from selfreward.lab.tasks.writing.report import computed_share

        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            group.reward_with([computed_share(c, str(group.prompt.answer)) for c in group.completions])
            run.count(self.mechanism, len(group))
        return self.learn_from(groups)
