"""RISE: the model is rewarded for solving and, in the same update, for verifying its own fresh solutions.

Liu et al. 2025, "Trust, But Verify: A Self-Verification Approach to Reinforcement Learning with Verifiable Rewards",
arXiv 2505.13445. Believes that outcome reward alone leaves a model unable to judge what it wrote. Solutions get +1
(right), -0.5 (wrong) or -1 (no answer); some of them become verification problems whose gold answer is that very
score, and critiques are paid by the same ladder. Both sets are learned together. Needs prompts with answers; no
separate verifier. Known to be weak where one verdict is nearly always true, and to cost as many tokens for a
verification as for a further solution.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from selfreward.credit.ppo import ppo_experience
from selfreward.errors import ConfigError
from selfreward.policy.critic import Critic
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.auxiliary import AuxiliaryModels
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.derived_tasks import derive
from selfreward.rollouts.run import RunContext
from selfreward.signals.graded_outcome import RIGHT, UNREAD, WRONG, ladder, rating
from selfreward.types import Experience, Group, Labels, Prompt, Trajectory

VERIFY = """Below are a question and a response to it. Decide which score the response deserves:
{right}: its final answer is in \\boxed{{}} and correct;
{wrong}: its final answer is in \\boxed{{}} but not correct;
{unread}: it gives no final answer in \\boxed{{}}.

<question>
{question}
</question>
<response>
{completion}
</response>

Analyse the response briefly, then give the score in \\boxed{{}}."""
BOXED = r"\\boxed\{\s*([^{}]*?)\s*\}"


@dataclass
class RISE(GRPO):
    """Solve, verify what was solved, learn from both.

    Attributes:
        verify: verification problems per step; 0 is plain reinforcement of solving.
        offline: verify solutions that the frozen base wrote, instead of those just sampled (ablation).
        estimator: ``ppo``, one critic for both kinds of trajectories, as published; or ``group``: GRPO, where
            derived problems have baselines of their own.
        critic_lr, decay: of the critic, and lambda of GAE.
    """

    name: ClassVar[str] = "rise"
    system_id: ClassVar[str | None] = "046"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "critiques of own solutions"
    base: ClassVar[str] = "embedded:steps-verify"

    kl: float = 0.01
    verify: int = 128
    offline: bool = False
    estimator: Literal["ppo", "group"] = "ppo"
    critic_lr: float = 9e-6
    decay: float = 1.0
    _beside: AuxiliaryModels = field(default_factory=AuxiliaryModels, repr=False, init=False)

    def __post_init__(self) -> None:
        if self.estimator == "ppo" and self.advantage != "group":
            raise ConfigError(f"rise: advantage={self.advantage} belongs to estimator=group; PPO has its critic.")

    def kl_in_reward(self) -> bool:
        return self.estimator == "ppo"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        solved = self.graded(policy.sample(prompts, self.group_size, run.sampling), prompts, run)
        checked: list[Group] = []
        if self.verify:
            material = solved
            if self.offline:
                run.reference.seed(run.seed, "offline", run.step)
                material = self.graded(run.reference.sample(prompts, self.group_size, run.sampling), prompts, run)
            checked = self.critiques(policy, material, run)
        groups = solved + checked
        run.count(self.mechanism, sum(map(len, checked)))
        if self.estimator == "group":
            found = self.learn_from(groups)
        else:
            critic = self._beside.get("critic", lambda: Critic(policy, lr=self.critic_lr))
            how = {"kl": self.kl, "decay": self.decay, "temperature": run.temperature}
            found = ppo_experience(groups, critic, run.reference, **how)
        right = [float(t.reward == RIGHT) for g in checked for t in g]
        found.stats |= {"train/verification": sum(right) / len(right)} if right else {}
        return found

    def graded(self, groups: list[Group], prompts: Sequence[Prompt], run: RunContext) -> list[Group]:
        """The groups with the ladder's rewards by the reference answers."""
        for group, prompt in zip(groups, prompts, strict=True):
            answers = [run.answers.extract(c) for c in group.completions]
            right = [run.answers.correct(c, str(prompt.answer)) for c in group.completions]
            group.reward_with(ladder([a is not None for a in answers], right))
        return groups

    def critiques(self, policy: Policy, material: Sequence[Group], run: RunContext) -> list[Group]:
        """Verification problems from scored solutions, with K critiques each."""
        words = run.templates.get("ratings", f"{RIGHT:g} {WRONG:g} {UNREAD:g}").split()
        word = dict(zip((RIGHT, WRONG, UNREAD), words, strict=True))
        marks = dict(zip(("right", "wrong", "unread"), words, strict=True))
        template = run.templates.get("verify", VERIFY)
        pattern = re.compile(run.templates.get("rating", BOXED))

        def make(t: Trajectory) -> tuple[str, str]:
            return template.format(question=t.prompt.question, completion=t.completion, **marks), word[t.reward]

        tasks = derive(material, make, self.verify, run.generator("verify"), "verify")
        groups = policy.sample(tasks, self.group_size, run.sampling, role="verifier")
        for group, task in zip(groups, tasks, strict=True):
            said = [rating(c, pattern, words) for c in group.completions]
            group.reward_with(ladder([s is not None for s in said], [s == task.answer for s in said]))
        return groups

    def state_dict(self) -> dict[str, Any]:
        return self._beside.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._beside.load_state_dict(state)
