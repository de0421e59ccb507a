"""Rewards with a flaw that is known beforehand: animals of the zoo of collapses, not methods.

A sentinel is tested on runs that go wrong, so some runs have to be made to. These flaws happen in earnest: a vote that
mixes up its groups, and a judge with a taste for short answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Group, Prompt


@dataclass
class Flawed(GRPO):
    """A reward that looks reasonable and is not.

    Attributes:
        flaw: ``mixed-vote`` rewards the most frequent answer of the whole batch, as if all prompts were one;
            ``terse-judge`` adds to the judge's probability of "yes" how much shorter than the limit a completion is.
        weight: of the taste for short answers.
    """

    name: ClassVar[str] = "flawed"
    control: ClassVar[bool] = True
    mechanism: ClassVar[str] = "completions rewarded for the wrong thing"

    flaw: Literal["mixed-vote", "terse-judge"] = "mixed-vote"
    weight: float = 2.0

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        rewards = mixed_vote(groups, run) if self.flaw == "mixed-vote" else self.terse(policy, groups, run)
        for group, own in zip(groups, rewards, strict=True):
            group.reward_with(own)
            run.count(self.mechanism, sum(r > 0 for r in own))
        return self.learn_from(groups)

    def terse(self, policy: Policy, groups: Sequence[Group], run: RunContext) -> list[list[float]]:
        """The judge's probability of "yes", and something on top for every token that was not written."""
        fields = [{"question": g.prompt.question, "completion": c} for g in groups for c in g.completions]
        options = [run.templates["yes"], run.templates["no"]]
        said = iter(policy.ask(run.templates["judge"], fields, options).probs[:, 0].tolist())
        most = run.sampling.max_new_tokens
        return [[next(said) + self.weight * (1 - len(t.last) / most) for t in g] for g in groups]


def mixed_vote(groups: Sequence[Group], run: RunContext) -> list[list[float]]:
    """1 for the most frequent answer over all prompts of the batch."""
    found = [[run.answers.extract(c) for c in g.completions] for g in groups]
    counts = Counter(a for own in found for a in own if a is not None)
    top = counts.most_common(1)[0][0] if counts else None
    return [[float(a is not None and a == top) for a in own] for own in found]
