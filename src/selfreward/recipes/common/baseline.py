"""What recipes share whose baseline is the whole batch, or else the group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.credit.rows import reinforce_experience
from selfreward.errors import ConfigError
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Group


@dataclass
class BatchBaseline(GRPO):
    """REINFORCE++ (Hu et al. 2025, arXiv 2501.03262), with GRPO as the alternative.

    Attributes:
        baseline: ``batch`` is REINFORCE++ (KL inside the reward, returns normalised over the batch), ``group``
            is GRPO, with the advantages that ``advantage`` names.
    """

    baseline: Literal["batch", "group"] = "batch"
    group_size: int = 16
    kl: float = 1e-4

    def __post_init__(self) -> None:
        if self.baseline == "batch" and self.advantage != "group":
            raise ConfigError(f"{self.name}: advantage={self.advantage} belongs to baseline=group.")

    def kl_in_reward(self) -> bool:
        return self.baseline == "batch"

    def learn_in_batch(self, groups: Sequence[Group], run: RunContext) -> Experience:
        """Rewards of the groups to advantages under the chosen baseline."""
        if self.baseline == "group":
            return self.learn_from(groups)
        return reinforce_experience(groups, run.reference, self.kl, run.temperature)
