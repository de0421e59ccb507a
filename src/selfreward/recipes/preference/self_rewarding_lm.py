"""Self-rewarding language models: the model grades its own answers, and prefers the best to the worst.

Yuan et al. 2024, "Self-Rewarding Language Models", arXiv 2401.10020. Believes that one model can write and judge, and
that preference training lifts both. Needs a model that was tuned on instructions and on graded answers (M_1), a judge
format, and prompts without labels. In iteration t, for each prompt:

1. draw N answers from M_t;
2. let M_t judge each one three times, a justification before the score, and average what could be parsed;
3. prefer the best to the worst; an all-round tie is dropped;
4. DPO from M_t with M_t as its reference gives M_{t+1}.

Known to break where the judge is near chance, where answers become alike (scores tie, pairs get scarce), and through
length (each iteration of the paper writes longer). The paper's prompts are written by the model from a seed; here they
come from the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from selfreward.credit.demonstrations import demonstration_rows
from selfreward.credit.pairs import best_over_worst
from selfreward.losses import NLL, LossTerm
from selfreward.policy.policy import Policy
from selfreward.recipes.common.own_pairs import OwnGrades
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Labels, Prompt


@dataclass
class SelfRewardingLM(OwnGrades):
    """Iterated DPO on pairs that the model's own judgements order.

    Attributes:
        group_size: N, answers per prompt.
        learn: ``dpo``; ``chosen`` imitates the best-graded answers alone; ``seed`` imitates the seed's demonstrations
            (more supervised tuning).
        iterations, beta, votes, scores, judge, top, judge_tokens: see :mod:`selfreward.recipes.common.own_pairs`.
    """

    name: ClassVar[str] = "self-rewarding-lm"
    system_id: ClassVar[str | None] = "094"
    mechanism: ClassVar[str] = "pairs ordered by own judgements"
    base: ClassVar[str] = "embedded:con"

    group_size: int = 4
    learn: Literal["dpo", "chosen", "seed"] = "dpo"

    def needs(self) -> Labels:
        return "seed" if self.learn == "seed" else super().needs()

    def objective(self, run_limit: int) -> list[LossTerm]:
        return super().objective(run_limit) if self.learn == "dpo" else [NLL()]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        model = self.enter(policy, run)
        if self.learn == "seed":
            rows = demonstration_rows(policy, self._seed, len(prompts), run.generator("seed"))
            run.count(self.mechanism, len(rows))
            return Experience(rows)
        groups = self.draw(model, prompts, run)
        grades = self.grade(model, groups, run)
        pairs = best_over_worst(groups, grades)
        run.count(self.mechanism, sum(map(len, pairs)))
        experience = self.prefer(model, groups, grades, pairs, run, nll=1.0)
        if self.learn == "chosen":
            best = [experience.rows[pair.chosen] for pair in experience.pairs]
            experience = replace(experience, rows=best, pairs=[])
        return experience
