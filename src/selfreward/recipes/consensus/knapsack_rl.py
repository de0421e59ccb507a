"""Knapsack RL (2025, arXiv 2509.25849): more rollouts where they are worth more, at the same total.

    p_i = success rate of prompt i at its last visit, smoothed; a prompt never seen gets the uniform share
    N = argmax sum_i V(N_i, p_i)  with sum_i N_i = batch x group size, low <= N_i <= high
        V(N, p) = [1 - p^N - (1 - p)^N] p (1 - p)^2
    sample N_i rollouts of prompt i, reward right answers, normalise within each group (GRPO)
    remember the new success rates

Needs gold answers. ``source="vote"`` takes success rate and reward from the majority instead: an extension
without labels, not the paper's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO, Normalisation
from selfreward.rollouts.allocation import Rule, allocate
from selfreward.rollouts.prompt_history import RunningStats, smoothed_rate
from selfreward.rollouts.run import RunContext
from selfreward.signals import rules
from selfreward.signals.vote import vote, vote_rewards
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class KnapsackRL(GRPO):
    """GRPO whose group sizes solve a knapsack.

    Attributes:
        group_size: mean rollouts per prompt; the budget of a step is this times its prompts.
        low, high: fewest and most rollouts of one prompt.
        rule: how the budget is divided; all but ``knapsack`` are what it is compared with.
        equal_prompts: every prompt weighs the same in the loss, however large its group.
        clip_advantage: largest absolute advantage; one success among N has about sqrt(N). 0 is off.
    """

    name: ClassVar[str] = "knapsack-rl"
    system_id: ClassVar[str | None] = "025"
    base: ClassVar[str] = "embedded:chain-steep"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "prompts with more or fewer rollouts than the mean"

    normalise: Normalisation = "grpo"
    low: int = 2
    high: int = 128
    rule: Rule = "knapsack"
    equal_prompts: bool = True
    clip_advantage: float = 0.0
    source: Literal["gold", "vote"] = "gold"

    past: RunningStats = field(default_factory=lambda: RunningStats(momentum=0.0), init=False, repr=False)
    solved: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def needs(self) -> Labels:
        return "none" if self.source == "vote" else "outcome"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        sizes = self.budgets(prompts, run)
        run.count(self.mechanism, sum(n != self.group_size for n in sizes))
        groups = policy.sample(prompts, sizes, run.sampling)
        for group in groups:
            group.reward_with(self._rewards(group, run))
            self.past.update(group.prompt.id, successes=sum(group.rewards), rollouts=len(group))
            if any(group.rewards):
                self.solved.setdefault(group.prompt.id, run.step)
            group.meta["rollouts"] = len(group)
        experience = self.learn_from(groups)
        self._weigh(experience, groups)
        effective = [0 < sum(g.rewards) < len(g) for g in groups]
        experience.stats = {
            "effective": sum(effective) / len(groups),
            "rollouts/total": float(sum(sizes)),
            "rollouts/most": float(max(sizes)),
            "prompts/ever_solved": float(len(self.solved)),
        }
        return experience

    def budgets(self, prompts: Sequence[Prompt], run: RunContext) -> list[int]:
        """Rollouts of every prompt; their sum is ``group_size`` times the prompts."""
        sizes = [self.group_size] * len(prompts)
        seen = [i for i, p in enumerate(prompts) if p.id in self.past]
        if seen and self.rule != "uniform":
            rates = [self._rate(prompts[i]) for i in seen]
            budget = self.group_size * len(seen)
            low, high = min(self.low, self.group_size), max(self.high, self.group_size)
            found = allocate(self.rule, rates, budget, low, high, run.generator("allocation"))
            for i, n in zip(seen, found, strict=True):
                sizes[i] = n
        return sizes

    def _rate(self, prompt: Prompt) -> float:
        return smoothed_rate(self.past.get(prompt.id, "successes"), self.past.get(prompt.id, "rollouts"))

    def _rewards(self, group: Group, run: RunContext) -> list[float]:
        if self.source == "vote":
            classes = run.classes(group)
            return [float(r) for r in vote_rewards(classes, vote(classes))]
        answer = group.prompt.answer
        return [0.0] * len(group) if answer is None else rules.gold(group.completions, answer, run.answers)

    def _weigh(self, experience: Experience, groups: Sequence[Group]) -> None:
        rows = iter(experience.rows)
        mean = len(experience.rows) / len(groups)
        for group in groups:
            for _ in group:
                row = next(rows)
                if self.clip_advantage:
                    row.advantage = row.advantage.clamp(-self.clip_advantage, self.clip_advantage)
                if self.equal_prompts:
                    row.advantage = row.advantage * (mean / len(group))

    def state_dict(self) -> dict[str, Any]:
        return {"past": self.past.state_dict(), "solved": dict(self.solved)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.past.load_state_dict(state["past"])
        self.solved = dict(state["solved"])
