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
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from selfreward.credit.pairs import IndexPair, best_over_worst
from selfreward.errors import RecipeError
from selfreward.losses import NLL, LossTerm
from selfreward.losses.token_regularised import RegularisedPreference
from selfreward.policy.policy import Policy
from selfreward.recipes.common.own_pairs import OwnGrades
from selfreward.rollouts.run import RunContext
from selfreward.signals.scorers.contrast import contrast_credits
from selfreward.types import Experience, Group, Prompt


@dataclass
class TReg(OwnGrades):
    """DPO whose token rewards are pulled towards those of two opposite requests.

    Attributes:
        group_size: N, answers per prompt.
        iterations: rounds with a reference of their own; the paper has one.
        alpha: of the loss.
        weighting: ``sequence`` (the paper's w) or ``static`` (1).
        token_rewards: ``contrast`` (the paper); ``shuffled`` permutes an answer's credits over its tokens (the
            control); ``none`` is DPO.
        sft: weight of a likelihood term on the chosen answers (the paper's ablation).
        better, worse: names of the task's rewriting templates.
        beta, votes, scores, judge, top, judge_tokens: see :mod:`selfreward.recipes.common.own_pairs`.
    """

    name: ClassVar[str] = "t-reg"
    system_id: ClassVar[str | None] = "117"
    mechanism: ClassVar[str] = "tokens with a credit of their own"
    base: ClassVar[str] = "embedded:con"

    group_size: int = 5
    iterations: int = 1
    alpha: float = 0.25
    weighting: Literal["sequence", "static"] = "sequence"
    token_rewards: Literal["contrast", "shuffled", "none"] = "contrast"
    sft: float = 0.0
    better: str = "better"
    worse: str = "worse"

    def objective(self, run_limit: int) -> list[LossTerm]:
        alpha = self.alpha if self.token_rewards != "none" else 0.0
        terms: list[LossTerm] = [
            RegularisedPreference(beta=self.beta, anchor="reference", alpha=alpha, weighting=self.weighting)
        ]
        return [*terms, NLL(coefficient=self.sft)] if self.sft else terms

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        model = self.enter(policy, run)
        groups = self.draw(model, prompts, run, stream="preference data")
        grades = self.grade(model, groups, run)
        pairs = best_over_worst(groups, grades)
        experience = self.prefer(model, groups, grades, pairs, run, nll=1.0)
        if self.token_rewards == "none":
            run.count(self.mechanism, sum(map(len, pairs)))
        else:
            experience.stats["credit/size"] = self.blame(model, groups, pairs, experience, run)
        return experience

    def blame(
        self,
        model: Policy,
        groups: Sequence[Group],
        pairs: Sequence[Sequence[IndexPair]],
        experience: Experience,
        run: RunContext,
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
