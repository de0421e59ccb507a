"""Greedy pseudo-label: the model's own greedy answer is taken for the truth.

Believes that the most likely completion is the best one. Needs an extractable answer, no label. Known to
break where the mode is not where the mass of right answers is: one confident habit then overrules
what most samples say. The self-training label before voting was found to be better (compare
self-consistency, Wang et al. 2023, arXiv 2203.11171).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from selfreward.policy import Policy
from selfreward.recipes.base import Recipe, RunContext
from selfreward.types import Experience, Prompt


@dataclass
class GreedyLabel(Recipe):
    """1 for the answer that the policy gives at temperature 0."""

    name: ClassVar[str] = "greedy-label"
    mechanism: ClassVar[str] = "prompts with a greedy answer"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        best = policy.sample(prompts, 1, replace(run.sampling, temperature=0.0), role="greedy")
        for group, greedy in zip(groups, best, strict=True):
            label = run.answers.extract(greedy.completions[0])
            if label is not None:
                found = [run.answers.extract(c) for c in group.completions]
                group.reward_with([float(a is not None and run.answers.equivalent(a, label)) for a in found])
            run.count(self.mechanism, label is not None)
        return self.learn_from(groups)
