"""CREAM: preferences of the model's own implicit reward, trusted as far as two generations of it agree.

Wang et al. 2024, "CREAM: Consistency Regularized Self-Rewarding Language Models", arXiv 2410.12735. Believes that a
self-rewarding model trains itself on preferences that it is unsure of, and that a ranking which the previous generation
would have given differently is such a one. Needs a small seed of demonstrations and prompts without labels; no judge.

1. supervised tuning on the seed: theta_0 -> theta_1;
2. in iteration t, N answers per prompt from theta_t, ranked by r = log theta_t(y) - log theta_0(y), summed over tokens;
3. the same answers ranked by theta_{t-1}: log theta_{t-1} - log theta_0; for t = 1 the mean log-likelihood of theta_0;
4. C = (Kendall tau + 1) / 2, averaged over the prompts (``average``) or of each prompt (``dynamic``);
5. best over worst by theta_t's ranking; DPO with the label trusted to C, theta_t as reference: theta_{t+1}.

The released code agrees with this; where it drops prompts it pairs the remaining ones with other prompts' C, which is
not copied here. C is estimated over the prompts of a step before that step's update (theirs over an iteration's before
its training). Known to break where both generations share an error, and below C = 1/2 the label would turn round: such
a C counts as 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.credit.demonstrations import demonstration_rows
from selfreward.credit.pairs import best_over_worst, rank_agreement
from selfreward.errors import ConfigError
from selfreward.losses import NLL, LossTerm, Preference
from selfreward.policy.policy import Policy
from selfreward.recipes.common.own_pairs import OwnPairs
from selfreward.rollouts.run import RunContext
from selfreward.signals.scorers.implicit import implicit_rewards, response_logprobs
from selfreward.signals.scorers.self_grades import Grades, shuffled_grades, true_grades
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class CREAM(OwnPairs):
    """Iterated DPO on implicit rewards with labels as soft as two generations disagree.

    Attributes:
        group_size: N, answers per prompt.
        warm_up: steps of supervised tuning on the seed.
        iterations: the other steps are divided among them.
        beta: of DPO.
        confidence: ``average`` and ``dynamic`` (the paper); ``fixed`` trusts every label to ``fixed`` (1 is plain
            self-rewarding, less is label smoothing).
        scores: ``implicit`` (the paper); ``shuffled`` permutes them within each group (the control); ``gold`` reads the
            truth (ceilings; needs labels).
    """

    name: ClassVar[str] = "cream"
    system_id: ClassVar[str | None] = "066"
    labels: ClassVar[Labels] = "seed"
    mechanism: ClassVar[str] = "pairs with a confidence from two generations"
    base: ClassVar[str] = "embedded:con"

    group_size: int = 5
    warm_up: int = 12
    confidence: Literal["average", "dynamic", "fixed"] = "average"
    fixed: float = 1.0
    scores: Literal["implicit", "shuffled", "gold"] = "implicit"

    def __post_init__(self) -> None:
        if not 0.5 < self.fixed <= 1:
            raise ConfigError(f"cream: fixed={self.fixed} is a confidence in a label; it must be in (0.5, 1].")
        if self.warm_up < 1:
            raise ConfigError(f"cream: warm_up={self.warm_up}, but an untuned model has no implicit reward yet.")

    def needs(self) -> Labels:
        return "outcome" if self.scores == "gold" else "seed"

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [Preference(beta=self.beta, anchor="reference", confidence="confidence"), NLL()]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        model = self.enter(policy, run, self.warm_up)
        if run.step <= self.warm_up:
            rows = demonstration_rows(policy, self._seed, len(prompts), run.generator("seed"))
            for row in rows:  # every update brings the channels that the objective reads
                row.extra["reference"] = row.extra["confidence"] = row.mask
            return Experience(rows, stats={"round": 0.0})
        before = self._lineage.get("previous", run.reference)
        groups = self.draw(model, prompts, run)
        mine, theirs = self.rank(model, groups, run), self.rank(before, groups, run, base=before is run.reference)
        found = [rank_agreement(own, other) for own, other in zip(mine, theirs, strict=True)]
        pairs = best_over_worst(groups, mine)
        run.count(self.mechanism, sum(map(len, pairs)))
        experience = self.prefer(model, groups, mine, pairs, run)
        trusted = [c for c, own in zip(self.trust(found), pairs, strict=True) for _ in own]
        for pair, c in zip(experience.pairs, trusted, strict=True):
            for row in (experience.rows[pair.chosen], experience.rows[pair.rejected]):
                row.extra["confidence"] = c * row.mask
        for group, own in zip(groups, mine, strict=True):
            group.reward_with([s or 0.0 for s in own])
        known = [c for c in found if c is not None]
        experience.stats |= {
            "agreement/tau": 2 * sum(known) / max(1, len(known)) - 1,
            "confidence": sum(trusted) / max(1, len(trusted)),
        }
        return experience

    def rank(self, model: Policy, groups: Sequence[Group], run: RunContext, base: bool = False) -> Grades:
        """Implicit rewards under ``model``; of the base itself, which has none, the mean log-likelihood."""
        if base:
            return [[float(lp.mean()) for lp in own] for own in response_logprobs(model, groups)]
        if self.scores == "gold":
            return true_grades(groups, run)
        rewards: Grades = [list(own) for own in implicit_rewards(model, run.reference, groups)]
        return shuffled_grades(groups, rewards, run) if self.scores == "shuffled" else rewards

    def trust(self, found: Sequence[float | None]) -> list[float]:
        """How far each group's label is trusted, never less than one half; a group without a C gets the mean."""
        if self.confidence == "fixed":
            return [self.fixed] * len(found)
        known = [c for c in found if c is not None]
        mean = sum(known) / len(known) if known else 0.5
        wanted = [mean if c is None or self.confidence == "average" else c for c in found]
        return [max(0.5, c) for c in wanted]
