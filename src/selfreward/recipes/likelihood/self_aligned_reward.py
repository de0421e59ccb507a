"""Self-aligned reward: an answer should be likely *because of* its question.

Believes that padding is text that would fit any question, so that comparing the answer's likelihood
with and without the question finds it, without a target length. Needs gold answers (the reward is
correctness plus alpha times SAR) and one more forward per completion. Known to break: copying the
question into the answer raises SAR (``sar/overlap`` watches), very short answers have few tokens to
average over, and in a group without a right answer SAR alone sets the gradient (``gated`` stops that).
Han et al. 2025, arXiv 2509.05489, section 3: r = correct + alpha * max((P_a - P_qa) / P_a, -1), GRPO
without the division by the standard deviation, normalised by a constant length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from selfreward.credit.advantages import constant_terms
from selfreward.policy.policy import Policy
from selfreward.recipes.common.correctness import CorrectnessRecipe, lengths
from selfreward.recipes.grpo import GRPO, Advantage, Normalisation
from selfreward.rollouts.run import RunContext
from selfreward.signals.efficiency import question_overlap, relative_length_reward, self_aligned_reward
from selfreward.signals.rules import somebody_elses
from selfreward.signals.scorers.efficiency import mean_logprobs, question_free, sampled_logprobs
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class SelfAlignedReward(CorrectnessRecipe, GRPO):
    """Correctness plus ``alpha`` times the self-aligned reward.

    Attributes:
        alpha, alpha_end: weight of the term; with ``alpha_end`` it moves there linearly.
        correct_weight: weight of correctness; 0 is SAR alone, without labels.
        term: ``relative`` is the paper's; ``difference``, ``log_difference`` and ``confidence`` are the
            released code's switches; ``length`` is O1-Pruner's relative length in its place.
        question: whose question the answer is scored under. ``other`` takes that of the next group of
            the batch: the control that keeps everything but the alignment.
        gated: pay the term to right answers only.
        empty: text of the question-free context; by default the bare chat skeleton, or the
            begin-of-text token.
    """

    name: ClassVar[str] = "self-aligned-reward"
    system_id: ClassVar[str | None] = "105"
    mechanism: ClassVar[str] = "completions scored without their question"
    base: ClassVar[str] = "embedded:eff"

    advantage: Advantage = "centred"
    normalise: Normalisation = "dr_grpo"
    kl: float = 0.001
    alpha: float = 0.2
    alpha_end: float | None = None
    correct_weight: float = 1.0
    term: Literal["relative", "difference", "log_difference", "confidence", "length"] = "relative"
    question: Literal["own", "other"] = "own"
    gated: bool = False
    empty: str = ""

    def needs(self) -> Labels:
        return "none" if self.correct_weight == 0 and not self.gated else super().needs()

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        terms = self.terms(policy, groups, run)
        for group, term in zip(groups, terms, strict=True):
            correct = torch.zeros(len(group))
            if self.needs() != "none" or self.correct_weight:
                correct = torch.tensor(self.verdicts(group, run))
            paid = term * correct if self.gated else term
            group.reward_with(self.correct_weight * correct + self.weight(run) * paid)
            for trajectory, value in zip(group, term.tolist(), strict=True):
                trajectory.meta["sar"] = round(value, 4)
        experience = self.learn_from(groups)
        overlap = [question_overlap(t.segments[0].tokens.tolist(), t.last.tokens.tolist()) for g in groups for t in g]
        experience.stats |= {
            "sar/mean": float(torch.cat(terms).mean()),
            "sar/constant": constant_terms([{"sar": t} for t in terms]).get("sar", 1.0),
            "sar/overlap": sum(overlap) / len(overlap),
        }
        return experience

    def weight(self, run: RunContext) -> float:
        """Alpha at this step."""
        if self.alpha_end is None or run.steps < 2:
            return self.alpha
        return self.alpha + (self.alpha_end - self.alpha) * (run.step - 1) / (run.steps - 1)

    def terms(self, policy: Policy, groups: Sequence[Group], run: RunContext) -> list[torch.Tensor]:
        """The term of every completion, ``[G]`` per group."""
        if self.term == "length":
            run.count(self.mechanism, sum(map(len, groups)))
            return [relative_length_reward(lengths(g)) for g in groups]
        free, temperature = question_free(policy, self.empty), run.temperature
        alone = mean_logprobs(policy, groups, [free] * len(groups), temperature)
        if self.question == "own":
            given = sampled_logprobs(groups)
        else:
            others = somebody_elses([g.prompt.id for g in groups], f"self-aligned-reward: question={self.question!r}")
            heads = [groups[i].trajectories[0].segments[0].tokens for i in others]
            given = mean_logprobs(policy, groups, heads, temperature)
        run.count(self.mechanism, sum(map(len, groups)))
        return [self_aligned_reward(a, b, self.term) for a, b in zip(given, alone, strict=True)]
