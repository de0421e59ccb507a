"""FLR: what a user would say next tells how good the answer was.

Zhang et al. 2024, "Aligning Language Models Using Follow-up Likelihood as Reward Signal", arXiv 2409.13948 (AAAI
2025). Believes that a language model expects thanks after good answers and complaints after bad ones. Needs prompts
and a fixed bank of positive and negative follow-ups; no label, no judge prompt, no reward model. For each prompt n
answers of the base policy are sampled, the one with the highest FLR (mean likelihood of the positive follow-ups minus
that of the negative ones) is preferred to the one with the lowest, and DPO (or KTO) learns from these pairs. Known
to break by politeness, which is thanked for whether or not it is right, and where the scorer has no idea of users.
Whether the paper asks for a smallest gap is not published: ``min_gap`` is 0. The tuning of the scorer on feedback is
left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from selfreward.credit.pairs import IndexPair, top_bottom
from selfreward.credit.rows import pair_experience, row_of
from selfreward.losses import KL, NLL, LossTerm, Preference
from selfreward.losses.preference_term import KTO
from selfreward.policy.policy import Policy
from selfreward.recipes.base import Recipe
from selfreward.rollouts.run import RunContext
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.scorers.followup import PLAIN_TEMPLATE, FollowupScorer, Score, chosen_bank
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class FLR(Recipe):
    """DPO or KTO on the best and the worst answer by follow-up likelihood.

    Attributes:
        group_size: n, answers per prompt.
        scorer: ``frozen`` at step 0 (the paper), ``current`` weights, or a model folder, hub id or ``embedded:NAME``.
        behaviour: whose answers are paired: those of the ``base`` (the paper: mined once) or of the ``current`` policy.
        learn: ``dpo`` or ``kto``.
        beta: of DPO and KTO.
        nll: weight of a likelihood term on the chosen answers; ``kl`` of a pull to the start model.
        min_gap: smallest difference in score between the two.
        aspects: aspects of the bank, separated by commas.
        followups: follow-ups per aspect on each side; 0 takes all.
        score: ``likelihood`` is the formula; ``raw_logit`` what the released script computes instead: mean raw logit
            of all follow-up tokens at one position.
        bank: ``swapped`` takes complaints for thanks (control, must lower the accuracy).
        rank: what answers are ranked by: ``followups`` (the method), the answer's own ``likelihood`` per token under
            the scorer (comparison), or ``gold`` (ceiling; needs reference answers).
    """

    name: ClassVar[str] = "flr"
    system_id: ClassVar[str | None] = "142"
    base: ClassVar[str] = "embedded:chat"
    mechanism: ClassVar[str] = "mined pairs"

    group_size: int = 8
    scorer: str = "frozen"
    behaviour: Literal["base", "current"] = "base"
    learn: Literal["dpo", "kto"] = "dpo"
    beta: float = 0.1
    nll: float = 0.0
    kl: float = 0.0
    min_gap: float = 0.0
    aspects: str = "all"
    followups: int = 0
    score: Score = "likelihood"
    bank: Literal["own", "swapped"] = "own"
    rank: Literal["followups", "likelihood", "gold"] = "followups"
    _models: dict[str, Policy] = field(default_factory=dict, repr=False, init=False)

    def needs(self) -> Labels:
        return "outcome" if self.rank == "gold" else "none"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        writer = run.reference if self.behaviour == "base" else policy
        groups = writer.sample(prompts, self.group_size, run.sampling, seed=stream_seed(run.seed, run.step, "answers"))
        scores = self.scores(self._weights(policy, run), groups, run)
        pairs = []
        for group, own in zip(groups, scores, strict=True):
            group.reward_with(own)
            pairs.append(top_bottom(group, own.tolist(), min_gap=self.min_gap))
        run.count(self.mechanism, sum(map(len, pairs)))
        return (
            pair_experience(groups, pairs, nll=self.nll) if self.learn == "dpo" else unpaired(groups, pairs, self.nll)
        )

    def scores(self, scorer: Policy, groups: Sequence[Group], run: RunContext) -> list[Tensor]:
        """One score per completion of each group."""
        if self.rank == "gold":
            answers = [str(g.prompt.answer) for g in groups]
            return [
                torch.tensor([float(run.answers.correct(c, a)) for c in g.completions])
                for g, a in zip(groups, answers, strict=True)
            ]
        if self.rank == "likelihood":
            starts = [len(t.tokens) - len(t.last) for g in groups for t in g]
            scored = iter(scorer.score([t.tokens for g in groups for t in g], starts, role="scorer"))
            return [torch.stack([next(scored)["logprob"].mean() for _ in g]) for g in groups]
        own = json.loads(run.templates.get("followups", "{}"))
        bank = chosen_bank(own, self.aspects, self.followups, self.bank == "swapped")
        return FollowupScorer(scorer, bank, run.templates.get("followup", PLAIN_TEMPLATE), self.score)(groups)

    def objective(self, run_limit: int) -> list[LossTerm]:
        terms: list[LossTerm] = [Preference(beta=self.beta) if self.learn == "dpo" else KTO(beta=self.beta)]
        if self.nll:
            terms.append(NLL(coefficient=1.0, normalise="grpo"))
        if self.kl:
            terms.append(KL(coefficient=self.kl))
        return terms

    def _weights(self, policy: Policy, run: RunContext) -> Policy:
        if self.scorer in ("current", "frozen"):
            return policy if self.scorer == "current" else run.reference
        if self.scorer not in self._models:
            from selfreward.policy.loading import load_policy

            self._models[self.scorer] = load_policy(self.scorer, device=str(policy.device))
            self._models[self.scorer].counts = policy.counts  # its work is this run's cost
        return self._models[self.scorer]


def unpaired(groups: Sequence[Group], pairs: Sequence[Sequence[IndexPair]], nll: float) -> Experience:
    """The two sides of every pair as desirable (advantage 1) and undesirable (-1) rows, for KTO."""
    rows = []
    for group, found in zip(groups, pairs, strict=True):
        for pair in found:
            rows.append(row_of(group.trajectories[pair.chosen], 1.0, nll=nll))
            rows.append(row_of(group.trajectories[pair.rejected], -1.0))
    return Experience(rows, groups=list(groups))
