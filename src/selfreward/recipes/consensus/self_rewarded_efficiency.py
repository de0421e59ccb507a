"""Self-rewarded efficiency: the group's own shortest right answer is the yardstick of length.

Believes that among the right answers of one question the shortest usually suffices, so no target
length has to be set: easy questions get a short yardstick, hard ones a long one. Needs gold answers.
Known to break without the gate on correctness (short wrong answers win), and with division by the
standard deviation once all answers are right, which magnifies tiny differences of length.
Zhao et al. 2025, arXiv 2506.15647: wrong 0; right 1 + gamma (L_max - L) / (L_max - L_min) over the
right answers of the group. The form is the method card's reconstruction; the paper's text confirms
that concise right answers are paid on a scale set by the model's own samples.
The second half of the paper, steering without training, is :mod:`selfreward.policy.steering`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.errors import ConfigError
from selfreward.policy.policy import Policy
from selfreward.recipes.common.correctness import CorrectnessRecipe, lengths
from selfreward.recipes.grpo import GRPO, Advantage
from selfreward.rollouts.run import RunContext
from selfreward.signals.efficiency import efficiency_reward, target_length_reward
from selfreward.types import Experience, Prompt


@dataclass
class SelfRewardedEfficiency(CorrectnessRecipe, GRPO):
    """Correctness, and among the right answers more for the shorter.

    Attributes:
        gamma: most that brevity adds; a right answer earns 1 at least and a wrong one 0.
        warmup: steps over which gamma rises from 0, so that accuracy settles first.
        yardstick: ``own`` is the group's right answers; ``target`` is ``target`` tokens for every
            question, the baseline.
        gated: False pays the shortest of all answers, right or wrong: the ablation.
    """

    name: ClassVar[str] = "self-rewarded-efficiency"
    system_id: ClassVar[str | None] = "082"
    mechanism: ClassVar[str] = "groups whose right answers differ in length"
    base: ClassVar[str] = "embedded:eff"

    advantage: Advantage = "centred"
    gamma: float = 0.5
    warmup: int = 0
    yardstick: Literal["own", "target"] = "own"
    target: float = 0.0
    gated: bool = True

    def __post_init__(self) -> None:
        if self.gamma < 0 or self.warmup < 0:
            raise ConfigError(f"gamma is {self.gamma} and warmup is {self.warmup}; neither may be negative.")
        if self.yardstick == "target" and self.target <= 0:
            raise ConfigError("yardstick=target needs target=TOKENS above 0.")

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        gamma = self.gamma * min(1.0, run.step / self.warmup) if self.warmup else self.gamma
        for group in groups:
            correct, tokens = self.verdicts(group, run), lengths(group)
            if self.yardstick == "target":
                group.reward_with(target_length_reward(correct, tokens, self.target, gamma))
            else:
                group.reward_with(efficiency_reward(correct, tokens, gamma, self.gated))
            right = {n for n, ok in zip(tokens, correct, strict=True) if ok}
            run.count(self.mechanism, len(right) > 1)
        return self.learn_from(groups)
