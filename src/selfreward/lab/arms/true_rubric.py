"""The ceiling of rubric self-reward: every criterion is checked by the rule behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals.rubric import rubric_of
from selfreward.types import Experience, Labels, Prompt


@dataclass
class TrueRubric(GRPO):
    """The rubric score by the task's own rules (task ``rub``)."""

    name: ClassVar[str] = "true-rubric"
    labels: ClassVar[Labels] = "outcome"
    fields: ClassVar[tuple[str, ...]] = ("rubric",)
    control: ClassVar[bool] = True
    base: ClassVar[str] = "embedded:rub"
    mechanism: ClassVar[str] = "checked criteria"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        from selfreward.lab.tasks.writing.rub import true_score

        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            rubric = rubric_of(group.prompt.fields.get("rubric"), f"Prompt {group.prompt.id!r}")
            group.reward_with([true_score(rubric, c) for c in group.completions])
            run.count(self.mechanism, len(group) * len(rubric))
        return self.learn_from(groups)
