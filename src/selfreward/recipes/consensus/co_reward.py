"""Co-Reward: two wordings of a question label each other.

Zhang et al. 2025, "Co-Reward: Self-supervised RL for LLM Reasoning via Contrastive Agreement", arXiv
2508.00410. Believes that a wrong answer that wins the vote on one wording rarely wins on another, so
a label from the other wording is harder to satisfy by a shared mistake. Needs, per prompt, a rewrite
with the same answer (data column ``twin`` or ``rewrite``; ``selfreward rewrite`` makes them) and no
label. v = majority answer to the question, v' = majority answer to the rewrite, missing answers left
out; r_i = 1[a_i = v'], r'_i = 1[a'_i = v]; GRPO inside each of the two groups. Known to break where the
rewrite keeps the shortcut, changes the answer, or where both views settle on one constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.errors import ConfigError
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.rewording import TWIN_FIELDS, twin_prompt
from selfreward.rollouts.run import RunContext
from selfreward.signals import rules
from selfreward.signals.vote import cluster_views, vote, vote_rewards
from selfreward.types import Experience, Group, Labels, Prompt

Pairing = Literal["swap", "own", "union", "mismatched", "gold"]


@dataclass
class CoReward(GRPO):
    """Reward each view's answers by the other view's vote.

    Attributes:
        group_size: samples per prompt, half of them for each view: the budget of a vote with the same
            number. 16 is the paper's 8 per view.
        pairing: whose vote labels a view. ``swap``: the other view's (the paper). For comparison:
            ``own`` (two views and no swap: what data augmentation alone gives), ``union`` (one vote of
            all answers), ``mismatched`` (the other view of another prompt, which must fail), ``gold``
            (the reference answer, needs labels).
        ties: which of several largest classes labels; the paper takes the first seen.
    """

    name: ClassVar[str] = "co-reward"
    system_id: ClassVar[str | None] = "003"
    fields: ClassVar[tuple[str, ...]] = TWIN_FIELDS
    mechanism: ClassVar[str] = "groups labelled by another view"
    base: ClassVar[str] = "embedded:view"

    group_size: int = 16
    kl: float = 0.005
    pairing: Pairing = "swap"
    ties: Literal["first", "random", "abstain"] = "first"

    def __post_init__(self) -> None:
        if self.group_size < 4:
            raise ConfigError(
                f"co-reward: group_size is {self.group_size}; it is split between two views, and a group of one "
                "has nobody to be compared with. Use 4 or more."
            )

    def needs(self) -> Labels:
        return "outcome" if self.pairing == "gold" else "none"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        twins = [twin_prompt(p) for p in prompts]
        half = self.group_size // 2
        first = policy.sample(prompts, self.group_size - half, run.sampling)
        second = policy.sample(twins, half, run.sampling, view="twin")
        strangers = list(range(len(prompts)))
        if self.pairing == "mismatched":
            strangers = rules.somebody_elses([p.id for p in prompts], "co-reward: pairing='mismatched'")
        for mine, other in ((first, second), (second, first)):
            for i, group in enumerate(mine):
                if self.pairing == "gold":
                    answer = group.prompt.answer
                    group.reward_with(rules.gold(group.completions, answer, run.answers) if answer else [0.0] * half)
                    continue
                electors = {
                    "swap": [other[i]],
                    "own": [group],
                    "union": [first[i], second[i]],
                    "mismatched": [other[strangers[i]]],
                }[self.pairing]
                self.label(group, electors, run)
        experience = self.learn_from([*first, *second])
        if self.pairing != "gold":
            labels = [(a.meta["pseudo_label"], b.meta["pseudo_label"]) for a, b in zip(first, second, strict=True)]
            experience.stats["views/same_label"] = sum(a is not None and a == b for a, b in labels) / len(labels)
        return experience

    def label(self, group: Group, electors: Sequence[Group], run: RunContext) -> None:
        """Reward ``group`` for the answer that the groups ``electors`` elect together."""
        mine = [run.answers.extract(c) for c in group.completions]
        theirs = [run.answers.extract(c) for e in electors for c in e.completions]
        classes, ballots = cluster_views(mine, theirs, run.answers)
        election = vote(ballots, ties=self.ties, generator=run.generator("ties", group.key))
        group.reward_with(vote_rewards(classes, election))
        chosen = None if election.label is None else theirs[ballots.index(election.label)]
        group.meta |= {"pseudo_label": chosen, "vote": {"share": election.share, "margin": election.margin}}
        run.count(self.mechanism, chosen is not None and any(e is not group for e in electors))
