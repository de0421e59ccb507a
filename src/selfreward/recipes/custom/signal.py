"""Any named signal as the reward of a plain GRPO learner.

What ``selfreward audit`` scores a completion with before training is here what it is paid: the same
code gives the same values. For signals that have no method of their own, and for asking whether the
audit was right. Known to break wherever the audit says so; that is what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.policy.policy import Policy
from selfreward.recipes.common.translation import FIELDS
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.rewording import TWIN
from selfreward.rollouts.run import RunContext
from selfreward.signals.named import parse_signal, score_groups
from selfreward.signals.registry import signal
from selfreward.types import Experience, Labels, Prompt


@dataclass
class NamedSignal(GRPO):
    """Reward = the signal's value; a completion without one earns the least of its group.

    Attributes:
        signal: a name of ``selfreward.signals.registry.SIGNALS``, with options as in ``borda:by=gap;power=2``.
    """

    name: ClassVar[str] = "signal"
    fields: ClassVar[tuple[str, ...]] = (TWIN, *FIELDS)
    mechanism: ClassVar[str] = "groups whose values differ"

    signal: str = "cluster_share"

    def needs(self) -> Labels:
        return "outcome" if signal(parse_signal(self.signal)[0]).needs == "reference" else "none"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group, values in zip(groups, score_groups(self.signal, run.scoring(policy), groups), strict=True):
            least = min((v for v in values if v is not None), default=0.0)
            group.reward_with([least if v is None else v for v in values])
            run.count(self.mechanism, len(set(group.rewards)) > 1)
        return self.learn_from(groups)
