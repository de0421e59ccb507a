"""SDPO: a model that has seen what would have helped teaches itself, token by token, what it should have said.

Huebotter et al. 2026, "Reinforcement Learning via Self-Distillation", arXiv 2601.20802. Believes that feedback holds
more than a scalar: put a sibling's success (or the error text of the attempt) before the question, read the *same*
response again, and the change of every next-token distribution is dense credit. Needs a success signal, and feedback
text if there is some; no teacher, no reward model. Teacher: a slowly following copy (EMA), or logits between reference
and policy (trust region). Responses without context to learn from are masked out. Known to diverge when the teacher is
the live policy itself, and to need in-context ability: a model that a hint does not help has nothing to teach.
The released launch script sets ``ema_update_rate``, which the released configuration calls ``teacher_update_rate``;
here the rate is ``ema`` and does what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from selfreward.copies import frozen_copy, move_towards, weights_of
from selfreward.experience import row_of
from selfreward.losses import NLL, Distillation, LossTerm, interpolated
from selfreward.losses.distillation import SAMPLED, TEACHER, TOKENS, WEIGHT
from selfreward.policy import Policy
from selfreward.recipes.base import Recipe, RunContext
from selfreward.recontext import recontext, rescored, sibling_success
from selfreward.sampling import stream_seed
from selfreward.signals.rubric import strip_thinking
from selfreward.signals.rules import gold
from selfreward.types import Experience, Group, Labels, Prompt, Row, Trajectory

SOLUTION = "{question}\n\nA correct solution, for orientation:\n\n{solution}\n\nNow solve the original question."
FEEDBACK = "{question}\n\nFeedback on an earlier attempt:\n\n{feedback}\n\nNow solve the original question."


@dataclass
class SDPO(Recipe):
    """Self-distillation from a privileged context.

    Attributes:
        alpha, top_k: divergence (0: KL(T||S), 1: KL(S||T)) and the student's candidates, see :class:`Distillation`.
        form: whole distributions, or the sampled token alone.
        teacher: ``ema``; ``trust`` (logits between reference and policy, ``trust`` towards the policy); ``frozen``
            (the reference); ``live`` (the policy itself: unregularised, diverges).
        ema: how far the EMA teacher goes towards the policy in a step.
        feedback: where no sibling succeeded, use the task's template ``feedback`` with the failed answer.
        mix: share of the GRPO objective; the distillation has the rest.
        imitate: instead of scoring, the teacher samples, and its text is learned by likelihood (baseline).
        shuffled: hints are those of another prompt (control).
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
    _teacher: Policy | None = field(default=None, repr=False, init=False)
    _saved: dict[str, Tensor] | None = field(default=None, repr=False, init=False)

    def objective(self, run_limit: int) -> list[LossTerm]:
        if self.imitate:
            return [NLL()]
        terms: list[LossTerm] = [Distillation(coefficient=1 - self.mix, alpha=self.alpha, form=self.form)]
        return terms + [t for t in super().objective(run_limit) if self.mix or t.name != "policy_gradient"]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        teacher = self.wake(policy, run)
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group, prompt in zip(groups, prompts, strict=True):
            group.reward_with(gold(group.completions, str(prompt.answer), run.answers))
        contexts = self.contexts(groups, run)
        told = [(t, c) for g, own in zip(groups, contexts, strict=True) for t, c in zip(g, own, strict=True) if c]
        run.count(self.mechanism, len(told))
        if self.imitate:
            rows = self.imitated(teacher, told, run)
        else:
            channels = dict(zip([id(t) for t, _ in told], self.channels(policy, teacher, told, run), strict=True))
            rows = []
            for group in groups:
                credit = self.mix * self.credit(torch.tensor(group.rewards))
                for trajectory, value in zip(group, credit.tolist(), strict=True):
                    row = row_of(trajectory, value)
                    row.extra = channels.get(id(trajectory), {})
                    rows.append(row)
        if self.teacher == "ema" and self._teacher is not None:
            move_towards(self._teacher, policy, self.ema)
        return Experience(rows, groups=groups, stats={"told": len(told) / max(1, sum(map(len, groups)))})

    def contexts(self, groups: Sequence[Group], run: RunContext) -> list[list[Prompt | None]]:
        """Per response the prompt that the teacher reads: a sibling's success, else feedback, else nothing."""
        solution = run.templates.get("hint", SOLUTION)
        feedback = run.templates.get("feedback", FEEDBACK)
        found: list[list[Prompt | None]] = []
        for k, group in enumerate(groups):
            source = groups[(k + 1) % len(groups)] if self.shuffled else group
            own: list[Prompt | None] = []
            for trajectory, shown in zip(group, sibling_success(source), strict=True):
                answer = run.answers.extract(trajectory.completion)
                if shown is not None:
                    text = {"solution": strip_thinking(shown.completion)}
                    own.append(recontext(group.prompt, solution, text))
                elif self.feedback and not trajectory.reward and answer is not None:
                    # The failed text itself stays out: shown, it costs entropy and accuracy.
                    words = {"feedback": f"The answer {answer} is wrong.", "answer": answer}
                    own.append(recontext(group.prompt, feedback, words))
                else:
                    own.append(None)
            found.append(own)
        return found

    def channels(
        self, policy: Policy, teacher: Policy, told: Sequence[tuple[Trajectory, Prompt]], run: RunContext
    ) -> list[dict[str, Tensor]]:
        """What :class:`Distillation` reads, per response: the student's candidates, and the teacher's view of them."""
        trajectories, prompts = [t for t, _ in told], [c for _, c in told]
        temperature = run.sampling.temperature or 1.0
        starts = [len(t.tokens) - len(t.last) for t in trajectories]
        k = min(self.top_k, int(policy.model.get_output_embeddings().weight.shape[0]))
        mine = policy.score([t.tokens for t in trajectories], starts, top_k=k, temperature=temperature, role="student")
        ids = [s["top_tokens"] for s in mine]
        read = rescored(teacher, trajectories, prompts, candidates=ids, temperature=temperature)
        views = [(r["candidates"], r["logprob"]) for r in read]
        if self.teacher == "trust":
            live = rescored(policy, trajectories, prompts, candidates=ids, temperature=temperature)
            views = [
                (
                    interpolated(a["candidates"], b["candidates"], self.trust),
                    torch.lerp(a["logprob"], b["logprob"], self.trust),
                )
                for a, b in zip(read, live, strict=True)
            ]
        found = []
        for start, trajectory, tokens, (candidates, sampled) in zip(starts, trajectories, ids, views, strict=True):
            head = torch.zeros(start)
            found.append(
                {
                    WEIGHT: torch.cat([head, torch.ones(len(trajectory.last))]),
                    TOKENS: torch.cat([torch.zeros(start, k).long(), tokens]),
                    TEACHER: torch.cat([torch.zeros(start, k), candidates]),
                    SAMPLED: torch.cat([head, sampled]),
                }
            )
        return found

    def imitated(self, teacher: Policy, told: Sequence[tuple[Trajectory, Prompt]], run: RunContext) -> list[Row]:
        """Likelihood of what the teacher writes in its context, after the question alone."""
        drawn = teacher.sample(
            [c for _, c in told], 1, run.sampling, role="teacher", seed=stream_seed(run.seed, run.step, "imitate")
        )
        rows = []
        for (trajectory, _), group in zip(told, drawn, strict=True):
            segments = [trajectory.segments[0], group.trajectories[0].last]
            rows.append(row_of(Trajectory(trajectory.prompt, segments), nll=1.0))
        return rows

    def wake(self, policy: Policy, run: RunContext) -> Policy:
        """The teacher of this step."""
        if self.teacher == "live":
            return policy
        if self.teacher != "ema":
            return run.reference
        if self._teacher is None:
            self._teacher = policy.snapshot() if self._saved is None else frozen_copy(policy, self._saved)
            self._saved = None
        return self._teacher

    def state_dict(self) -> dict[str, Any]:
        if self._teacher is None:
            return {} if self._saved is None else {"teacher": self._saved}
        return {"teacher": weights_of(self._teacher)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._saved = state.get("teacher")
