"""SSRL: the model is its own search engine (Fan et al. 2025, arXiv 2508.10874).

Believes that much of what a search would find is in the weights already, and that asking for it in blocks
(think, search, information, answer) brings it out. GRPO on whole generations; the reward is the outcome and
the form, by steps; tokens of the information block carry no loss, so that the model learns to ask and to
read, not to recite. Needs questions with answers ("outcome"), no search engine. Afterwards a real retriever
can write the information in its place (:func:`selfreward.rollouts.self_search.sample_with`). Known to break where the
model puts the answer into the information block without reading it: shuffle what is found, and see.

``reward="released"`` is the rule of the public implementation, which grades the form; ``reward="outcome"``
and ``"format"`` leave one half out, and ``mask=False`` learns the information as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.self_search import formed, information_mask
from selfreward.signals.search import reward_of
from selfreward.types import Experience, Labels, Prompt


@dataclass
class SSRL(GRPO):
    """Stepped reward of outcome and form; the model's own information is masked.

    Attributes:
        weight: what the form is worth, the paper's lambda: .1 as in the public implementation. A second-hand account
            of the paper has .2, which could not be checked.
        mask: whether information tokens are kept out of every loss.
    """

    name: ClassVar[str] = "ssrl"
    system_id: ClassVar[str] = "004"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "information tokens written by the model"
    base: ClassVar[str] = "embedded:facts"

    group_size: int = 5
    kl: float = 0.001
    reward: Literal["stepped", "released", "outcome", "format"] = "stepped"
    weight: float = 0.1
    mask: bool = True

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            right = [run.answers.correct(c, str(group.prompt.answer)) for c in group.completions]
            rewards = [reward_of(c, r, self.reward, self.weight) for c, r in zip(group.completions, right, strict=True)]
            group.reward_with(rewards)
        experience = self.learn_from(groups)
        trajectories = [t for g in groups for t in g]
        for trajectory, row in zip(trajectories, experience.rows, strict=True):
            written = information_mask(policy, trajectory.last.tokens)
            run.count(self.mechanism, int((written == 0).sum()))
            if self.mask:
                keep = torch.cat([torch.ones(len(row) - len(written)), written])
                row.mask, row.advantage, row.kl = row.mask * keep, row.advantage * keep, row.kl * keep
        experience.stats["formed"] = sum(formed(t.completion) for t in trajectories) / len(trajectories)
        return experience
