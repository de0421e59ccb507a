"""T-REG: preferences over whole answers, with the model's own word on which of their tokens are to blame.

Zhou et al. 2024, "T-REG: Preference Optimization with Token-Level Reward Regularization", arXiv 2412.02685 (ACL 2025).
Believes that DPO spreads its reward over the wrong tokens, and that a model which is asked to make an answer better,
and to make it worse, tells good tokens from bad ones. Needs ordered pairs and a reference that can rewrite both ways.

1. N answers per prompt from the reference; best over worst by ``scores``;
2. of every token of both answers ``c_t = sigmoid(log ref(y_t | better) - log ref(y_t | worse)) - 1/2``;
3. ``L = L_DPO + alpha w (L_reg(y+) + L_reg(y-))``, ``L_reg(y) = -beta sum_t c_t log pi(y_t)``, ``w`` = DPO's own
   weight of the pair, without gradient.

The paper orders its pairs by a separate reward model. Here that is the model's own judge (no labels) or the truth as a
stand-in (``scores="gold"``, needs labels). Known to break: a reference that cannot rewrite gives noise; ``L_reg`` grows
with length; a negative credit is unlikelihood and has no floor but the small alpha and w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch

from selfreward.errors import RecipeError
from selfreward.experience import pair_experience
from selfreward.lineage import Lineage, anchored, round_of
from selfreward.losses import NLL, LossTerm
from selfreward.losses.token_regular import RegularisedPreference
from selfreward.pairs import top_bottom
from selfreward.policy import Policy
from selfreward.recipes.base import Recipe, RunContext
from selfreward.sampling import stream_seed
from selfreward.seeds import split_seed
from selfreward.selfgrading import Grades, own_grades, pair_statistics, true_grades
from selfreward.signals.contrast import contrast_credits
from selfreward.tasks import Task
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class TReg(Recipe):
    """DPO whose token rewards are pulled towards those of two opposite requests.

    Attributes:
        group_size: N, answers per prompt.
        iterations: rounds with a reference of their own; the paper has one.
        beta, alpha: of the loss.
        weighting: ``sequence`` (the paper's w) or ``static`` (1).
        token_rewards: ``contrast`` (the paper); ``shuffled`` permutes an answer's credits over its tokens (the
            control); ``none`` is DPO.
        sft: weight of a likelihood term on the chosen answers (the paper's ablation).
        scores: ``judge`` or ``gold``.
        better, worse: names of the task's rewriting templates.
        votes, top, judge_tokens: as in self-rewarding-lm.
    """

    name: ClassVar[str] = "t-reg"
    system_id: ClassVar[str | None] = "117"
    mechanism: ClassVar[str] = "tokens with a credit of their own"
    base: ClassVar[str] = "embedded:con"

    group_size: int = 5
    iterations: int = 1
    beta: float = 0.1
    alpha: float = 0.25
    weighting: Literal["sequence", "static"] = "sequence"
    token_rewards: Literal["contrast", "shuffled", "none"] = "contrast"
    sft: float = 0.0
    scores: Literal["judge", "gold"] = "judge"
    better: str = "better"
    worse: str = "worse"
    judge: str = "judge"
    votes: int = 3
    top: int = 5
    judge_tokens: int = 16
    _lineage: Lineage = field(default_factory=Lineage, repr=False, init=False)

    def needs(self) -> Labels:
        return "outcome" if self.scores == "gold" else "none"

    def adapt(self, task: Task) -> Task:
        """Prompts with a demonstration are left out, as for the other recipes on pairs."""
        return replace(task, train=split_seed(task.train)[1])

    def objective(self, run_limit: int) -> list[LossTerm]:
        alpha = self.alpha if self.token_rewards != "none" else 0.0
        terms: list[LossTerm] = [
            RegularisedPreference(beta=self.beta, anchor="reference", alpha=alpha, weighting=self.weighting)
        ]
        return [*terms, NLL(coefficient=self.sft)] if self.sft else terms

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        self._lineage.enter(round_of(run.step, run.steps, self.iterations), policy)
        model = self._lineage.get("start", run.reference)
        seed = stream_seed(run.seed, "preference data", run.step)
        groups = model.sample(prompts, self.group_size, run.sampling, seed=seed)
        grades = self.grade(model, groups, run)
        pairs = [top_bottom(group, own) for group, own in zip(groups, grades, strict=True)]
        experience = anchored(pair_experience(groups, pairs, nll=1.0), model, run.sampling.temperature or 1.0)
        experience.stats |= pair_statistics(grades, pairs)
        if self.token_rewards == "none":
            run.count(self.mechanism, sum(map(len, pairs)))
        else:
            experience.stats["credit/size"] = self.blame(model, groups, pairs, experience, run)
        return experience

    def grade(self, model: Policy, groups: Sequence[Group], run: RunContext) -> Grades:
        if self.scores == "gold":
            grades = true_grades(groups, run)
        else:
            grades = own_grades(
                model, groups, run, template=self.judge, votes=self.votes, top=self.top, tokens=self.judge_tokens
            )
        for group, own in zip(groups, grades, strict=True):
            group.reward_with([0.0 if s is None else s for s in own])
        return grades

    def blame(
        self, model: Policy, groups: Sequence[Group], pairs: Sequence[Any], experience: Experience, run: RunContext
    ) -> float:
        """Write every row's token credits; returns their mean size."""
        missing = [name for name in (self.better, self.worse) if name not in run.templates]
        if missing:
            raise RecipeError(
                f"t-reg: the task has no rewriting template {missing[0]!r} (with {{question}}, {{response}})."
            )
        used = [g.trajectories[i] for g, own in zip(groups, pairs, strict=True) for p in own for i in p[:2]]
        credits = contrast_credits(model, used, run.templates[self.better], run.templates[self.worse])
        for i, (row, credit) in enumerate(zip(experience.rows, credits, strict=True)):
            if self.token_rewards == "shuffled":
                credit = credit[torch.randperm(len(credit), generator=run.generator("credit", i))]
            row.extra["credit"] = torch.zeros(len(row))
            row.extra["credit"][row.mask > 0] = credit
            run.count(self.mechanism, len(credit))
        return float(torch.cat(credits).abs().mean()) if credits else 0.0

    def state_dict(self) -> dict[str, Any]:
        return self._lineage.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._lineage.load_state_dict(state)
