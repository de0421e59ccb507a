"""Distil data and rewards: a teacher's answers train the student, and a reward model that the student then climbs.

Zhang et al. 2025, "Distill Not Only Data but Also Rewards: Can Smaller Language Models Surpass Larger Ones?",
arXiv 2502.19557. Believes that a teacher's samples hold more than text to imitate: their vote says which of
the *student's own* answers are right. Needs unlabelled prompts and a black-box teacher (a model folder; its
weights and probabilities are not read). 1. The teacher answers each prompt several times; the majority is the
pseudo-label. 2. The student is trained on the responses that agree. 3. The student answers the same prompts;
its responses and the teacher's, labelled by agreement, train a reward model. 4. PPO of the student against it,
with a KL penalty to the student of step 2. Known to break where the teacher's consensus is wrong, and by
over-optimising the reward model. The released material is thin; what it leaves open is an option here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from selfreward.credit.rows import advantage_experience, row_of
from selfreward.errors import RecipeError
from selfreward.losses import NLL, LossTerm
from selfreward.policy.policy import Policy
from selfreward.policy.reward_model import RewardModel
from selfreward.recipes.common.reward_model import RewardModelRecipe
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.turns import retold
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.rules import gold
from selfreward.signals.vote import vote
from selfreward.types import Experience, Group, Labels, Prompt, Row


@dataclass
class DistillRewards(RewardModelRecipe):
    """Supervised warm-up on the teacher's consensus, then PPO against a reward model of it.

    Attributes:
        teacher: who answers first.
        teacher_samples, student_samples: responses per prompt.
        warmup: steps of supervised training; their prompts are those of the reward model.
        sft: train on all responses that agree with the vote, or on ``one`` teacher sample, right or wrong.
        reward: ``model`` (the method); ``vote``, agreement with the teacher's vote directly, by GRPO;
            ``gold``, the reference, by GRPO (ceiling); ``none`` goes on with supervised training.
        model_data: what the reward model reads: responses of ``both``, or of the ``teacher`` alone.
        corrupt: ``permuted`` shuffles the reward model's labels (control).
        rounds: how often in all the reward model is taught, at even distances after the warm-up.
        updates, model_lr: of the reward model.
        group_size: the student's completions per prompt after the warm-up.
        normalise, clip_low, clip_high: of the surrogate of PPO and GRPO.
        kl, critic_lr, decay: of PPO, see :class:`RewardModelRecipe`.
    """

    name: ClassVar[str] = "distill-rewards"
    system_id: ClassVar[str | None] = "104"
    mechanism: ClassVar[str] = "responses learned from"
    base: ClassVar[str] = "embedded:chain-student"

    teacher: str = "embedded:chain"
    teacher_samples: int = 10
    student_samples: int = 30
    warmup: int = 15
    sft: Literal["vote", "one"] = "vote"
    reward: Literal["model", "vote", "gold", "none"] = "model"
    model_data: Literal["both", "teacher"] = "both"
    corrupt: Literal["none", "permuted"] = "none"
    rounds: int = 1
    updates: int = 200
    model_lr: float = 1e-3
    _teacher: Policy | None = field(default=None, repr=False, init=False)
    _heard: list[dict[str, Any]] = field(default_factory=list, repr=False, init=False)

    def needs(self) -> Labels:
        return "outcome" if self.reward == "gold" else "none"

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [self.surrogate(), NLL()]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        if run.step <= self.warmup or self.reward == "none":
            return self.imitate(policy, prompts, run)
        warm = self._beside.get("warm", policy.snapshot)
        if self.reward != "model":
            return self.direct(policy, prompts, run)
        stats = self.teach(policy, warm, run) if self.due(run) else {}
        model = self._beside.get("model", blank=lambda: RewardModel(warm))

        def right(sequences: Sequence[Tensor]) -> Tensor:
            return model.score(sequences).sigmoid()  # the probability that a response is right

        found = self.climb(policy, prompts, run, right, warm)
        found.stats |= stats
        return found

    # ---- the teacher ------------------------------------------------------------------------------

    def hear(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> tuple[list[Group], list[str | None]]:
        """The teacher's responses, and the majority answer of each prompt (None without one)."""
        if self._teacher is None:
            from selfreward.policy.loading import load_policy

            self._teacher = load_policy(self.teacher, device=str(policy.device)).snapshot()
            self._teacher.counts = policy.counts
        seed = stream_seed(run.seed, run.step, "teacher")
        drawn = self._teacher.sample(prompts, self.teacher_samples, run.sampling, role="teacher", seed=seed)
        groups = [retold(policy, group, "teacher") for group in drawn]
        labels: list[str | None] = []
        for group in groups:
            classes = run.classes(group)
            winner = vote(classes).label
            labels.append(
                None if winner is None else run.answers.extract(group.completions[classes.index(winner)])  # first of it
            )
        return groups, labels

    def imitate(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        """Supervised training on the teacher's responses."""
        groups, labels = self.hear(policy, prompts, run)
        rows: list[Row] = []
        for group, label in zip(groups, labels, strict=True):
            agree = answers_match(group.completions, label, run)
            group.reward_with(agree)
            chosen = range(1) if self.sft == "one" else [i for i, a in enumerate(agree) if a]
            rows += [row_of(group.trajectories[i], nll=1.0) for i in chosen if group.trajectories[i].finished]
            if self.reward == "model" and run.step <= self.warmup:
                self._heard.append(
                    {
                        "prompt": group.trajectories[0].segments[0].tokens,
                        "label": label,
                        "texts": [t.tokens for t in group],
                        "agree": agree,
                    }
                )
        run.count(self.mechanism, len(rows))
        return Experience(rows, groups=groups)

    # ---- the reward -------------------------------------------------------------------------------

    def due(self, run: RunContext) -> bool:
        """Whether the reward model is taught before this step."""
        every = max(1, (run.steps - self.warmup) // max(1, self.rounds))
        since = run.step - self.warmup - 1
        return "model" not in self._beside or (since % every == 0 and since // every < self.rounds)

    def teach(self, policy: Policy, warm: Policy, run: RunContext) -> dict[str, float]:
        """Label the student's responses to the warm-up's prompts, and fit the reward model on everything."""
        known = [h for h in self._heard if h["label"] is not None]
        if not known:
            raise RecipeError("The teacher answered no prompt of the warm-up; there is nothing to learn from.")
        texts: list[Tensor] = [t for h in known for t in h["texts"]]
        labels: list[float] = [a for h in known for a in h["agree"]]
        own: list[float] = []
        if self.model_data == "both":
            drawn = policy.sample_ids(
                [h["prompt"].tolist() for h in known], self.student_samples, run.sampling, role="student"
            )
            for heard, responses in zip(known, drawn, strict=True):
                written = [policy.decode(c.tokens[:-1] if c.finished else c.tokens) for c in responses]
                texts += [torch.cat([heard["prompt"], c.tokens]) for c in responses]
                own += answers_match(written, heard["label"], run)
        labels += own
        if self.corrupt == "permuted":
            order = torch.randperm(len(labels), generator=run.generator("permute")).tolist()
            labels = [labels[i] for i in order]
        found = self._beside.put("model", RewardModel(warm)).fit_labels(
            texts, labels, updates=self.updates, lr=self.model_lr, seed=run.seed
        )
        share = sum(own) / len(own) if own else float("nan")
        stats = {"reward_model/loss": found["loss"], "reward_model/texts": float(len(texts))}
        return stats | ({"reward_model/student_agreement": share} if own else {})

    def direct(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        """GRPO on agreement with the teacher's vote, or on the reference."""
        groups = policy.sample(prompts, self.group_size, run.sampling)
        heard = self.hear(policy, prompts, run)[1] if self.reward == "vote" else [p.answer for p in prompts]
        for group, label in zip(groups, heard, strict=True):
            group.reward_with(answers_match(group.completions, label, run))
            run.count(self.mechanism, len(group))
        return advantage_experience(groups)

    # ---- state ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"heard": self._heard, **self._beside.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._heard = list(state["heard"])
        self._beside.load_state_dict(state, ("warm", "model", "critic"))


def answers_match(completions: Sequence[str], label: str | None, run: RunContext) -> list[float]:
    """1 for each completion whose answer equals ``label``; all 0 without a label, and 0 without an answer."""
    return [0.0] * len(completions) if label is None else gold(completions, label, run.answers)
