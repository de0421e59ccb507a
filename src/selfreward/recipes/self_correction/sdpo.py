"""SDPO: a model that has seen what would have helped teaches itself, token by token, what it should have said.

Huebotter et al. 2026, "Reinforcement Learning via Self-Distillation", arXiv 2601.20802. Believes that feedback holds
more than a scalar: put a sibling's success (or the error text of the attempt) before the question, read the *same*
response again, and the change of every next-token distribution is dense credit. Needs a success signal, and feedback
text if there is some; no teacher, no reward model. Responses without context to learn from are masked out. Known to
diverge when the teacher is the live policy itself, and to need in-context ability: a model that a hint does not help
has nothing to teach. The released script sets ``ema_update_rate``, which its configuration lacks; here it is ``ema``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from selfreward.credit.distillation import distillation_channels, rewritten
from selfreward.credit.rows import advantage_experience
from selfreward.errors import ConfigError
from selfreward.losses import NLL, Distillation, LossTerm
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.auxiliary import AuxiliaryModels
from selfreward.policy.snapshots.frozen import EMATeacher
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.recontext import success_or_error
from selfreward.rollouts.run import RunContext
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.rules import gold, somebody_elses
from selfreward.types import Experience, Group, Labels, Prompt

SOLUTION = "{question}\n\nA correct solution, for orientation:\n\n{solution}\n\nNow solve the original question."
FEEDBACK = "{question}\n\nFeedback on an earlier attempt:\n\n{feedback}\n\nNow solve the original question."


@dataclass
class SDPO(GRPO):
    """Self-distillation from a privileged context.

    Attributes:
        alpha, top_k: divergence (0: KL(T||S), 1: KL(S||T)) and the student's candidates, see :class:`Distillation`.
        form: whole distributions, or the sampled token alone.
        teacher: ``ema``; ``trust`` (logits between reference and policy, ``trust`` towards the policy); ``frozen``
            (the reference); ``live`` (the policy itself: unregularised, diverges).
        ema: how far the EMA teacher goes towards the policy in a step.
        feedback: where no sibling succeeded, show what the task says of the failure, or else the failed answer.
        mix: share of the GRPO objective, to which ``advantage``, ``loss`` and the clips belong; the distillation has
            the rest.
        imitate: instead of scoring, the teacher samples, and its text is learned by likelihood (baseline).
        shuffled: hints and feedback are those of another prompt (control).
    """

    name: ClassVar[str] = "sdpo"
    system_id: ClassVar[str | None] = "028"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "responses read again in a privileged context"
    base: ClassVar[str] = "embedded:chain-hint"

    alpha: float = 0.5
    top_k: int = 100
    form: Literal["logits", "token"] = "logits"
    teacher: Literal["ema", "trust", "frozen", "live"] = "ema"
    ema: float = 0.05
    trust: float = 0.5
    feedback: bool = True
    mix: float = 0.0
    imitate: bool = False
    shuffled: bool = False
    _beside: AuxiliaryModels = field(default_factory=AuxiliaryModels, repr=False, init=False)

    def __post_init__(self) -> None:
        if self.imitate and self.mix:
            raise ConfigError(f"sdpo: mix={self.mix} has no part in imitate=true; set one of the two.")
        if not self.mix and (self.advantage, self.loss, self.clip_low, self.clip_high) != ("group", "clip", 0.2, 0.2):
            raise ConfigError("sdpo: advantage, loss, clip_low and clip_high are GRPO's; give it a share, mix above 0.")

    def objective(self, run_limit: int) -> list[LossTerm]:
        if self.imitate:
            return [NLL()]
        terms: list[LossTerm] = [Distillation(coefficient=1 - self.mix, alpha=self.alpha, form=self.form)]
        return terms + [t for t in super().objective(run_limit) if self.mix or t.name != "policy_gradient"]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        teacher = self.teacher_of(policy, run)
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group, prompt in zip(groups, prompts, strict=True):
            group.reward_with(gold(group.completions, str(prompt.answer), run.answers))
        trajectories = [t for g in groups for t in g]
        contexts = [c for own in self.contexts(groups, run) for c in own]
        told = {i: c for i, c in enumerate(contexts) if c is not None}
        run.count(self.mechanism, len(told))
        read = [trajectories[i] for i in told], list(told.values())
        if self.imitate:
            rows = rewritten(teacher, *read, run.sampling, seed=stream_seed(run.seed, run.step, "imitate"))
        else:
            rows = advantage_experience(groups, lambda rewards_G: self.mix * self.credit(rewards_G)).rows
            trust, heat = self.trust * (self.teacher == "trust"), run.temperature
            channels = distillation_channels(policy, teacher, *read, top_k=self.top_k, temperature=heat, trust=trust)
            for i, own in zip(told, channels, strict=True):
                rows[i].extra = own
        if self.teacher == "ema":
            self.follower(policy).follow(policy, self.ema)
        return Experience(rows, groups=groups, stats={"told": len(told) / max(1, len(trajectories))})

    def contexts(self, groups: Sequence[Group], run: RunContext) -> list[list[Prompt | None]]:
        """Per response the prompt that the teacher reads: a sibling's success, else feedback, else nothing."""
        solution = run.templates.get("hint", SOLUTION)
        feedback = run.templates.get("feedback", FEEDBACK) if self.feedback else ""
        ids = [g.prompt.id for g in groups]
        sources = [groups[i] for i in somebody_elses(ids, "sdpo: shuffled=True")] if self.shuffled else groups
        return [success_or_error(g, run.answers, solution, feedback, s) for g, s in zip(groups, sources, strict=True)]

    def teacher_of(self, policy: Policy, run: RunContext) -> Policy:
        if self.teacher == "ema":
            return self.follower(policy).policy
        return policy if self.teacher == "live" else run.reference

    def follower(self, policy: Policy) -> EMATeacher:
        return self._beside.get("teacher", lambda: EMATeacher(policy))

    def state_dict(self) -> dict[str, Any]:
        return self._beside.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._beside.load_state_dict(state)
