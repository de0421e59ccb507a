"""SCoRe: a model learns to correct itself in a second attempt, by its own attempts alone.

Kumar et al. 2024, "Training Language Models to Self-Correct via Reinforcement Learning", arXiv 2409.12917.
Believes that plain reinforcement of two attempts teaches a good first answer and no correction, and that it takes
two things to prevent this. Stage I learns the second attempt only, by its own correctness r2, while a strong KL term
holds the first to the base's distribution (eq. 3). Stage II learns both; the second attempt earns r2 + alpha (r2 - r1),
the first r1 (eq. 4, section 5.2). Needs prompts with answers in training; nothing but the fixed instruction at test
time. Known to break when the bonus reaches the first attempt (failing first then pays), and to show little beyond two
turns. No code was released; alpha, beta1 and beta2 are those given for MATH.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.credit.turns import turn_experience
from selfreward.losses import KL, LossTerm
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO, Advantage, Loss
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.turns import Turn, play, segment_of
from selfreward.signals.shaping import progress_bonus
from selfreward.types import Experience, Group, Labels, Prompt, Trajectory

FIX = (
    "The solution above may contain a mistake. Look for one; if you find it, correct it. Then write the whole "
    "solution again, with its final answer."
)


@dataclass
class SCoRe(GRPO):
    """Two attempts; the second is paid for progress.

    Attributes:
        alpha: weight of the progress bonus in Stage II; 0 is plain two-turn reinforcement.
        stage_one: share of the steps that belong to Stage I; 0 leaves it out.
        kl: beta1, on both attempts; 0 leaves them free, but for ``beta2``.
        beta2: the KL weight of the first attempt in Stage I, whatever ``kl`` is.
        advantage: rewards are centred in their group and not divided by its spread, which would undo alpha.
    """

    name: ClassVar[str] = "score"
    system_id: ClassVar[str | None] = "020"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "second attempts unlike the first in correctness"
    base: ClassVar[str] = "embedded:fix"

    alpha: float = 10.0
    stage_one: float = 0.5
    kl: float = 0.01
    beta2: float = 0.1
    advantage: Advantage = "centred"
    loss: Loss = "reinforce"

    def objective(self, run_limit: int) -> list[LossTerm]:
        # The one KL term has beta1 as its coefficient; without beta1 it has beta2. Rows weigh the attempts within it.
        terms = super().objective(run_limit)
        if self.beta2 and not self.kl:
            terms.append(KL(coefficient=self.beta2, normalise=self.normalise, max_tokens=run_limit))
        return terms

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        first_stage = run.step <= self.stage_one * run.steps
        unit = self.kl or self.beta2 or 1.0
        both = (self.beta2 if first_stage else self.kl) / unit, self.kl / unit
        groups = two_attempts(policy, prompts, self.group_size, run, kl_weights=both)
        for group in groups:
            for trajectory in group:
                first, second = segment_of(trajectory, "attempt"), segment_of(trajectory, "fix")
                assert first is not None and second is not None
                r1, r2 = float(first.reward or 0), float(second.reward or 0)
                trajectory.reward = r2
                second.reward = r2 if first_stage else float(progress_bonus([r1], [r2], self.alpha))
                run.count(self.mechanism, r1 != r2)
        found = turn_experience(groups, self.credit, scale={"attempt": 0.0} if first_stage else None)
        return Experience(found.rows, groups=groups, stats=accuracies(groups))


def two_attempts(
    policy: Policy, prompts: Sequence[Prompt], n: int, run: RunContext, kl_weights: tuple[float, float] = (1.0, 1.0)
) -> list[Group]:
    """``n`` attempts with a second attempt each; both segments carry their correctness as reward."""
    gold = {p.id: str(p.answer) for p in prompts}

    def right(t: Trajectory) -> float:
        return run.answers.correct(t.completion, gold[t.prompt.id])

    first, second = kl_weights
    turns = [
        Turn("attempt", score=right, kl_weight=first),
        Turn("fix", lead=run.templates.get("fix", FIX), score=right, kl_weight=second),
    ]
    return play(policy, prompts, turns, run.sampling, n)


def accuracies(groups: Sequence[Group]) -> dict[str, float]:
    """Training accuracy of both attempts."""
    first = [float(s.reward or 0) for g in groups for t in g if (s := segment_of(t, "attempt"))]
    second = [t.reward for g in groups for t in g]
    return {"train/acc@t1": sum(first) / len(first), "train/acc@t2": sum(second) / len(second)}
