"""Pair-SFT, a baseline of SCoRe's paper (arXiv 2409.12917): imitates right second attempts behind wrong first ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.credit.rows import row_of
from selfreward.losses import NLL, LossTerm
from selfreward.policy.policy import Policy
from selfreward.recipes.base import Recipe
from selfreward.recipes.self_correction.score import accuracies, two_attempts
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.turns import segment_of
from selfreward.types import Experience, Labels, Prompt, Row


@dataclass
class PairSFT(Recipe):
    """Likelihood of the corrections that the policy happens to make.

    Attributes:
        group_size: pairs of attempts per prompt.
    """

    name: ClassVar[str] = "pair-sft"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "corrections imitated"
    base: ClassVar[str] = "embedded:fix"

    group_size: int = 8

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [NLL()]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = two_attempts(policy, prompts, self.group_size, run)
        rows: list[Row] = []
        for trajectory in (t for g in groups for t in g):
            first, second = segment_of(trajectory, "attempt"), segment_of(trajectory, "fix")
            if first is not None and second is not None and not first.reward and second.reward:
                rows.append(row_of(trajectory, roles=["fix"], nll=1.0))
        run.count(self.mechanism, len(rows))
        return Experience(rows, groups=groups, stats=accuracies(groups))
