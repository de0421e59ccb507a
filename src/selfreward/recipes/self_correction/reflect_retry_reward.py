"""Reflect, retry, reward: only the words between a failure and a successful retry are rewarded.

Bensal et al. 2025, "Reflect, Retry, Reward: Self-Improving LLMs via Reinforcement Learning", arXiv 2505.24726.
Believes that a model can learn to say what went wrong in a way that helps it the next time, on whatever task, if
nothing but the tokens of that reflection get the credit of the retry. Needs a checker for answers. Failures are made
once, by the base: each prompt that it fails in a few tries is kept with a failed attempt; then GRPO over G
reflections per failure, reward 1 where the retry passes. Known to break where no reflection ever helps, and to be
pointless where a retry succeeds without one. No code was released.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from selfreward.credit.turns import turn_experience
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.turns import Turn, play, segment_of
from selfreward.signals.rules import somebody_elses
from selfreward.types import Experience, Group, Labels, Prompt, Trajectory

REFLECT = (
    "This answer was wrong. Say briefly what went wrong, and write a short plan that would help you to get such a "
    "question right the next time. Do not solve it yet."
)
RETRY = "Now try again.\n\n{question}"


@dataclass
class ReflectRetryReward(GRPO):
    """GRPO over reflections on the base's failures.

    Attributes:
        tries: attempts of the base per prompt; the first failed one is kept.
        learn: whose tokens get the advantage; ``both`` adds the retry's (ablation).
        shuffled: every retry reads a reflection on another prompt, so that the reward says nothing about the
            reflection that it is credited to (control).
    """

    name: ClassVar[str] = "reflect-retry-reward"
    system_id: ClassVar[str | None] = "150"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "reflections that their retries set apart"
    base: ClassVar[str] = "embedded:fix"

    kl: float = 0.001
    tries: int = 4
    learn: Literal["reflection", "both"] = "reflection"
    shuffled: bool = False

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        gold = {p.id: str(p.answer) for p in prompts}

        def passes(t: Trajectory) -> bool:
            return run.answers.correct(t.completion, gold[t.prompt.id])

        failures = self.failures(prompts, run, passes)
        reflect = Turn("reflection", run.templates.get("reflect", REFLECT))
        retry = Turn("retry", run.templates.get("retry", RETRY), score=passes)
        if self.shuffled:
            groups = self.swapped(policy, failures, reflect, retry, run)
        else:
            groups = play(policy, failures, [reflect, retry], run.sampling, self.group_size)
        # Where all retries agree, no reflection on this failure is any better than another.
        run.count(self.mechanism, sum(len(g) for g in groups if len(set(g.rewards)) > 1))
        roles = ["reflection"] if self.learn == "reflection" else ["reflection", "retry"]
        found = turn_experience(groups, self.credit, roles=roles)
        passed = [t.reward for g in groups for t in g]
        stats = {"failures": float(len(failures)), "train/retry": sum(passed) / max(1, len(passed))}
        return Experience(found.rows, groups=groups, stats=stats)

    def failures(
        self, prompts: Sequence[Prompt], run: RunContext, passes: Callable[[Trajectory], bool]
    ) -> list[Trajectory]:
        """One failed attempt of the base per prompt that has one: the same ones whenever a prompt comes back."""
        run.reference.seed(run.seed, "failures")
        attempt = Turn("attempt", trainable=False, score=passes)
        groups = play(run.reference, prompts, [attempt], run.sampling, self.tries)
        return [next(t for t in g if not t.reward) for g in groups if not all(t.reward for t in g)]

    def swapped(
        self, policy: Policy, failures: Sequence[Trajectory], reflect: Turn, retry: Turn, run: RunContext
    ) -> list[Group]:
        """Groups whose retries read the reflections on the next failure, but are credited to their own.

        None where all failures of the step are on one prompt: there is nothing to swap, and nothing is learned.
        """
        owners = [f.prompt.id for f in failures]
        if len(set(owners)) < 2:
            return []
        own = play(policy, failures, [reflect], run.sampling, self.group_size)
        said = [[t.completion for t in g] for g in own]
        flat = iter([text for i in somebody_elses(owners) for text in said[i]])
        told = replace(reflect, say=lambda t: next(flat))
        read = play(policy, [f for f in failures for _ in range(self.group_size)], [told, retry], run.sampling, 1)
        rewards = iter([segment_of(g.trajectories[0], "retry").reward for g in read])  # type: ignore[union-attr]
        for group in own:
            group.reward_with([next(rewards) or 0.0 for _ in group])
        return own
