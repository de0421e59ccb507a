"""LaSeR: a verifier's reward, read back off one reserved token after the end of a solution.

Believes that the reward of a solution is a log-ratio of one token's probability to a constant, so that a
model can carry its own verifier at the price of one next-token prediction: r_s = beta (log p(z | x, y, eos)
- c_ref). Beside GRPO on the verifier's reward r_v, a class-balanced squared error teaches r_s = r_v; later a
share tau of the advantage comes from r_s itself. Needs gold answers, and a token that no text uses. Known to
break without the verifier: on its own score alone the policy drifts. (Yang et al. 2025, arXiv 2510.14943,
eq. 8-13; code RUCBM/LaSeR.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from selfreward.credit.advantages import mix_advantages
from selfreward.credit.rows import row_of
from selfreward.losses import LossTerm
from selfreward.losses.last_token import REWARD, TARGET, WEIGHT, LastToken
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals.last_token import check_beta, class_weights, default_beta, last_token_score
from selfreward.signals.rules import gold
from selfreward.signals.scorers.last_token import (
    ReservedToken,
    last_token_logprobs,
    measure_c_ref,
    reserved_token,
    taught_row,
)
from selfreward.signals.vote import vote, vote_rewards
from selfreward.types import Experience, Group, Labels, Prompt, Row, Trajectory

# Steps before each part of the method begins, as published, and the most that a short run waits.
PUBLISHED_WARMUP, SHORTEST = 200, 6


@dataclass
class LaSeR(GRPO):
    """GRPO, a regression of the last-token score on the reward, and later the score in the advantage.

    Attributes:
        token: the reserved token by name; "" takes the first special token without a use.
        beta: scale of the score; None is 2 / |c_ref|, close to the published 0.1 at c_ref = -23.
        alpha: weight of the regression.
        tau: share of the advantage that comes from the score; 0 leaves it out.
        std_cut: in groups whose scores vary no more than this, the verifier decides alone.
        reasoning_warmup: steps of plain GRPO; None is the published 200, in short runs a sixth of the run.
        score_warmup: steps of GRPO with the regression before mixing begins; None likewise.
        balanced: whether right and wrong solutions weigh the same in the regression.
        kind: "mse", or the ablation "bce" on the token's own probability.
        rewards: "gold", or "vote" for the majority of the group (an extension that needs no labels).
        shuffle: permute the regression's targets over the batch (a control).
        self_only: after the warm-ups no verifier at all: advantages from the score, no regression (an ablation).
    """

    name: ClassVar[str] = "laser"
    system_id: ClassVar[str] = "031"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "solutions whose last-token score was trained or mixed in"

    token: str = ""
    beta: float | None = None
    alpha: float = 0.1
    tau: float = 0.1
    std_cut: float = 0.1
    reasoning_warmup: int | None = None
    score_warmup: int | None = None
    balanced: bool = True
    kind: Literal["mse", "bce"] = "mse"
    rewards: Literal["gold", "vote"] = "gold"
    shuffle: bool = False
    self_only: bool = False

    _c_ref: float | None = field(default=None, init=False, repr=False)
    _std: float = field(default=0.0, init=False, repr=False)
    _scale: float = field(default=0.0, init=False, repr=False)

    def needs(self) -> Labels:
        return "outcome" if self.rewards == "gold" else "none"

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [*super().objective(run_limit), LastToken(self.alpha, self.kind)]

    def phase(self, step: int, steps: int) -> tuple[bool, bool]:
        """(regression on?, mixing on?) at ``step``, counted from 1."""
        share = min(PUBLISHED_WARMUP, max(SHORTEST, steps // 6))
        first = share if self.reasoning_warmup is None else self.reasoning_warmup
        second = share if self.score_warmup is None else self.score_warmup
        return step > first, step > first + second

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        token = reserved_token(policy, self.token)
        temperature = run.temperature
        if self._c_ref is None:
            self._c_ref, self._std = measure_c_ref(run.reference, groups, token, temperature)
            self._scale = self.beta or default_beta(self._c_ref)
            if self.kind == "mse":
                check_beta(self._c_ref, self._scale)
        for group in groups:
            group.reward_with(self._verdicts(group, run))
        regress, mix = self.phase(run.step, run.steps)
        logprobs = last_token_logprobs(policy, groups, token, temperature)
        targets = self._targets(groups, run)
        rows: list[Row] = []
        at = 0
        for group, own in zip(groups, logprobs, strict=True):
            scores = self._scores(own)
            for trajectory, score in zip(group, scores.tolist(), strict=True):
                trajectory.meta["last_token"] = round(score, 4)
            advantages = self._advantages(torch.tensor(group.rewards), scores, mix)
            for trajectory, advantage in zip(group, advantages.tolist(), strict=True):
                taught = regress and trajectory.finished and not (mix and self.self_only)
                rows.append(self._row(trajectory, advantage, token, targets[at] if taught else None))
                at += 1
                run.count(self.mechanism, taught or mix)
        truth = torch.tensor([r for g in groups for r in g.rewards])
        found = self._scores([v for row in logprobs for v in row])
        stats = {
            "laser/c_ref": self._c_ref,
            "laser/c_ref_std": self._std,
            "laser/beta": self._scale,
            "laser/score": float(found.mean()),
            "laser/error": float((found - truth).square().mean()),
            "laser/regress": float(regress),
            "laser/mix": float(mix),
            "laser/sampled": float(sum(int((t.last.tokens == token.id).sum()) for g in groups for t in g)),
        }
        if self.self_only and mix:
            for group, own in zip(groups, logprobs, strict=True):
                group.reward_with(self._scores(own).clamp(0.0, 1.0))
        return Experience(rows, groups=groups, stats=stats)

    def _verdicts(self, group: Group, run: RunContext) -> list[float]:
        """r_v: 1 for a right answer; by the group's majority where the recipe is fed by a vote."""
        if self.rewards == "vote":
            classes = run.classes(group)
            return vote_rewards(classes, vote(classes))
        answer = group.prompt.answer
        return [0.0] * len(group) if answer is None else gold(group.completions, answer, run.answers)

    def _scores(self, logprobs: Sequence[float | None]) -> torch.Tensor:
        """r_s; 0 for a response that was cut off, which has no end to read it after. The bce score is p itself."""
        assert self._c_ref is not None
        known = torch.tensor([self._c_ref if v is None else v for v in logprobs])
        return known.exp() if self.kind == "bce" else last_token_score(known, self._c_ref, self._scale)

    def _advantages(self, verifier: torch.Tensor, scores: torch.Tensor, mix: bool) -> torch.Tensor:
        if mix and self.self_only:
            return self.credit(scores.clamp(0.0, 1.0))
        if mix and self.tau:
            return mix_advantages(verifier, scores, self.tau, self.std_cut)
        return self.credit(verifier)

    def _targets(self, groups: Sequence[Group], run: RunContext) -> list[tuple[float, float]]:
        """(reward, weight) of every trajectory for the regression; truncated ones have no part in the classes."""
        finished = [t.finished for g in groups for t in g]
        rewards = torch.tensor([r for g in groups for r in g.rewards])
        own = rewards[torch.tensor(finished)]
        if self.shuffle:
            own = own[torch.randperm(len(own), generator=run.generator("shuffle"))]
        weights = iter(class_weights(own, self.balanced).tolist())
        values = iter(own.tolist())
        return [(next(values), next(weights)) if f else (0.0, 0.0) for f in finished]

    def _row(
        self, trajectory: Trajectory, advantage: float, token: ReservedToken, taught: tuple[float, float] | None
    ) -> Row:
        row = row_of(trajectory, advantage)
        if taught is None:
            return row
        reward, weight = taught
        assert self._c_ref is not None
        scale = self._scale**2 if self.kind == "mse" else 1.0
        target = self._c_ref + reward / self._scale
        return taught_row(row, trajectory, token, {WEIGHT: weight * scale, TARGET: target, REWARD: reward})

    def state_dict(self) -> dict[str, Any]:
        return {"c_ref": self._c_ref, "std": self._std, "scale": self._scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._c_ref, self._std, self._scale = state["c_ref"], float(state["std"]), float(state["scale"])
