"""Minimum Bayes risk: a translation is good if it is like the group's other translations.

The mean similarity to the rest of the group (Kumar and Byrne 2004) is a soft vote, for answers of which no two are
quite the same. Needs nothing but sentences. Known to break where most candidates share an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.policy.policy import Policy
from selfreward.recipes.common.translation import FIELDS
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals.text_metrics import chrf
from selfreward.types import Experience, Prompt


@dataclass
class MinimumBayesRisk(GRPO):
    """Mean chrF to the other candidates of the group."""

    name: ClassVar[str] = "mbr"
    fields: ClassVar[tuple[str, ...]] = FIELDS
    mechanism: ClassVar[str] = "compared translations"
    base: ClassVar[str] = "embedded:trans"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            found = [run.answers.extract(c) for c in group.completions]
            known = [h for h in found if h]
            cells = iter(chrf([a for a in known for _ in known], [b for _ in known for b in known]))
            means = iter([(sum(next(cells) for _ in known) - 1) / max(1, len(known) - 1) for _ in known])
            group.reward_with([next(means) if h else 0.0 for h in found])
            run.count(self.mechanism, len(known))
        return self.learn_from(groups)
