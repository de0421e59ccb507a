"""Certainty as a reward: the surer the model was of its own tokens, the better.

Believes that a model is surer when it is right. Needs nothing but the sampler's own statistics.
Known to break: length, the unused tail of the vocabulary and degenerate text all raise it; it often
rises while the truth falls. Self-certainty is KL(uniform || p) averaged over tokens (Kang et al. 2025,
arXiv 2502.18581, eq. 5; as a reward: INTUITOR, Zhao et al. 2025, arXiv 2505.19590); negative entropy
is RENT's reward (Prabhudesai et al. 2025, arXiv 2505.22660).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Prompt


@dataclass
class Certainty(GRPO):
    """Mean over the completion's tokens of self-certainty, or of negative entropy."""

    name: ClassVar[str] = "certainty"
    mechanism: ClassVar[str] = "completions with a certainty"

    statistic: Literal["self_certainty", "entropy"] = "self_certainty"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        sign = -1.0 if self.statistic == "entropy" else 1.0
        for group in groups:
            group.reward_with([sign * float(t.last.stats[self.statistic].mean()) for t in group])
            run.count(self.mechanism, len(group))
        return self.learn_from(groups)
