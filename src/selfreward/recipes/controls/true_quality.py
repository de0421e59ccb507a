"""True quality: translations are paid for their similarity to the reference.

The ceiling for rewards that never see the reference. Needs references ("outcome").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals.text_metrics import chrf, edit_similarity
from selfreward.types import Experience, Labels, Prompt


@dataclass
class TrueQuality(GRPO):
    """Similarity to the reference.

    Attributes:
        similarity: ``chrf`` (Popović 2015), or ``edit``, one minus the normalised edit distance."""

    name: ClassVar[str] = "true-quality"
    labels: ClassVar[Labels] = "outcome"
    control: ClassVar[bool] = True
    mechanism: ClassVar[str] = "translations with a reference"
    base: ClassVar[str] = "embedded:trans"

    similarity: Literal["chrf", "edit"] = "chrf"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            reference = group.prompt.answer
            if reference is None:
                continue
            found = [run.answers.extract(c) for c in group.completions]
            if self.similarity == "edit":
                group.reward_with([edit_similarity(h, reference) for h in found])
            else:
                group.reward_with(chrf(found, [reference] * len(found)))
            run.count(self.mechanism, len(group))
        return self.learn_from(groups)
