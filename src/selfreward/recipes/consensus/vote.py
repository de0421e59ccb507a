"""Majority vote: the answer that most samples agree on is taken for the truth.

Believes that errors scatter while right answers coincide. Needs prompts with an extractable answer
and no label. Known to break where the most frequent answer is wrong on most prompts: training then
makes it unanimous. The bare reward that TTRL (Zuo et al. 2025, arXiv 2504.16084), MM-UPT (Wei et
al. 2025, arXiv 2505.22453) and SeRL (arXiv 2505.20347) share:
r_i = 1[answer_i = most frequent answer of the group].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals.vote import vote, vote_rewards
from selfreward.types import Experience, Prompt


@dataclass
class Vote(GRPO):
    """Reward the members of the largest answer class of each group.

    Attributes:
        missing: completions without an answer leave the vote ("drop"), form a class of their own
            ("own"), or stay in the denominator of the share only ("zero"). None is ever rewarded.
        ties: which of several largest classes wins; "abstain" gives the group no reward.
        quorum: smallest vote share of the winner; below it the group gives no reward.
    """

    name: ClassVar[str] = "vote"
    mechanism: ClassVar[str] = "groups with an elected answer"

    missing: Literal["drop", "own", "zero"] = "drop"
    ties: Literal["first", "random", "abstain"] = "first"
    quorum: float = 0.0

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            classes = run.classes(group)
            election = vote(
                classes,
                missing=self.missing,
                ties=self.ties,
                quorum=self.quorum,
                generator=run.generator("ties", group.key),
            )
            group.reward_with(vote_rewards(classes, election))
            group.meta["vote"] = {"label": election.label, "share": election.share, "margin": election.margin}
            run.count(self.mechanism, election.label is not None)
        return self.learn_from(groups)
