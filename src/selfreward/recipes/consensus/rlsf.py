"""RLSF: a model prefers those of its own answers that it is sure of.

Van Niekerk et al. 2025, "Post-Training LLMs via Reinforcement Learning from Self-Feedback", arXiv 2507.21931.
Believes that among several greedy traces of one question, which differ in their first token only, the one
with the surer *answer* is the better reasoned. Needs questions with an answer that can be found in the
text (or a ``lead_in`` that makes the model state one); no label, judge or sampling. Confidence c is the
mean top-1 minus top-2 probability over the answer's tokens; c1 > c2 with c1 >= ``floor`` makes a pair; the
pairs of the *frozen* start teach the policy by DPO, or a reward model with margin exp(c1 - c2) that PPO
then climbs. Known to break where a wrong shortcut is as certain as reasoning; repeated rounds
(``source=current``) saturate the confidence that they feed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from selfreward.credit.pairs import IndexPair, Margin, confidence_pairs, random_pairs, vote_pairs
from selfreward.credit.rows import pair_experience, row_of
from selfreward.errors import ConfigError, RecipeError
from selfreward.losses import NLL, LossTerm, Preference
from selfreward.policy.policy import Policy
from selfreward.policy.reward_model import RewardModel
from selfreward.recipes.common.reward_model import RewardModelRecipe
from selfreward.rollouts.cot_decoding import branch
from selfreward.rollouts.run import RunContext
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.scorers.answer_span import answer_confidences
from selfreward.types import Experience, Group, Prompt


@dataclass
class RLSF(RewardModelRecipe):
    """DPO, or a reward model and PPO, on pairs ranked by the certainty of their answers.

    Attributes:
        k: traces per question, one for each of the likeliest first tokens.
        floor: least confidence of a preferred trace.
        learn: ``dpo``; ``ppo`` on a reward model that the pairs of the first ``reward_steps`` steps have
            taught (the policy stands still meanwhile); ``sft`` on the surest trace alone (baseline).
        pairs: ``confidence``; ``random``, as many pairs in random order (control); ``vote``, sampled
            answers that many samples share over those that few do (baseline, see ``scpo``).
        source: whose traces: the frozen start's (the paper), or the policy's own, round after round.
        margin: of the reward model's pairs.
        lead_in: text after which the answer is stated; empty where the trace holds it already.
        reward_updates, reward_lr: of the reward model.
        group_size: samples per question in PPO, and in the pairs by ``vote``.
        normalise, clip_low, clip_high, kl, critic_lr, decay: of PPO, see :class:`RewardModelRecipe`.
    """

    name: ClassVar[str] = "rlsf"
    system_id: ClassVar[str | None] = "166"
    mechanism: ClassVar[str] = "preferred traces"
    base: ClassVar[str] = "embedded:chain-sure"

    k: int = 10
    floor: float = 0.9
    learn: Literal["dpo", "ppo", "sft"] = "dpo"
    pairs: Literal["confidence", "random", "vote"] = "confidence"
    source: Literal["reference", "current"] = "reference"
    margin: Margin = "exp"
    lead_in: str = ""
    beta: float = 0.1
    reward_steps: int = 10
    reward_updates: int = 150
    reward_lr: float = 1e-3
    _taught: list[tuple[torch.Tensor, torch.Tensor, float]] = field(default_factory=list, repr=False, init=False)

    def __post_init__(self) -> None:
        if self.learn != "ppo" and (self.normalise, self.clip_low, self.clip_high) != ("dapo", 0.2, 0.2):
            raise ConfigError("rlsf: normalise, clip_low and clip_high are PPO's; they belong to learn=ppo.")

    def objective(self, run_limit: int) -> list[LossTerm]:
        if self.learn == "dpo":
            return [Preference(beta=self.beta)]
        if self.learn == "sft":
            return [NLL()]
        return [self.surrogate()]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        if self.learn == "ppo" and run.step > self.reward_steps:
            model = self._beside.get("model", blank=lambda: RewardModel(run.reference))
            return self.climb(policy, prompts, run, model.score, run.reference)
        groups, confidences, pairs = self.rank(policy if self.source == "current" else run.reference, prompts, run)
        known = [c for own in confidences for c in own if c is not None]
        stats = {"confidence/mean": sum(known) / max(1, len(known)), "pairs": float(sum(map(len, pairs)))}
        if self.learn == "sft":
            rows = []
            for group, own in zip(groups, confidences, strict=True):
                best = max((c, -i) for i, c in enumerate([c if c is not None else -1.0 for c in own]))
                if best[0] >= self.floor:
                    rows.append(row_of(group.trajectories[-best[1]], nll=1.0))
            run.count(self.mechanism, len(rows))
            return Experience(rows, groups=groups, stats=stats)
        run.count(self.mechanism, sum(map(len, pairs)))
        if self.learn == "dpo":
            plain = [[IndexPair(p.chosen, p.rejected, p.weight) for p in own] for own in pairs]
            found = pair_experience(groups, plain)
            found.stats = stats
            return found
        for group, preferred in zip(groups, pairs, strict=True):
            tokens = [t.tokens for t in group]
            self._taught += [(tokens[p.chosen], tokens[p.rejected], p.margin) for p in preferred]
        if run.step == self.reward_steps:
            stats |= self.teach(run)
        return Experience([], groups=groups, stats=stats)

    def rank(
        self, source: Policy, prompts: Sequence[Prompt], run: RunContext
    ) -> tuple[list[Group], list[list[float | None]], list[list[IndexPair]]]:
        """Traces, the confidence of each (None in a vote), and the pairs."""
        if self.pairs == "vote":
            seed = stream_seed(run.seed, run.step, "vote")
            groups = source.sample(prompts, self.group_size, run.sampling, seed=seed)
            votes = [vote_pairs(g, run.classes(g), generator=run.generator("pick", g.key)) for g in groups]
            return groups, [[None] * len(g) for g in groups], votes
        groups = branch(source, prompts, self.k, run.sampling)
        confidences = answer_confidences(source, groups, run.answers, lead_in=self.lead_in)
        pairs = [confidence_pairs(own, floor=self.floor, margin=self.margin) for own in confidences]
        for group, own in zip(groups, confidences, strict=True):
            group.reward_with([c or 0.0 for c in own])
        if self.pairs == "random":
            pairs = [
                [p._replace(margin=m.margin) for p, m in zip(random_pairs(g, run.generator("r", g.key), len(own)), own)]
                for g, own in zip(groups, pairs, strict=True)
            ]
        return groups, confidences, pairs

    def teach(self, run: RunContext) -> dict[str, float]:
        """Fit the reward model on all pairs so far."""
        if not self._taught:
            raise RecipeError(
                f"In {self.reward_steps} steps no trace reached a confidence of floor={self.floor}, so there is no "
                "pair to teach a reward model. Lower floor, or raise k or reward_steps."
            )
        chosen, rejected, margins = zip(*self._taught, strict=True)
        model = self._beside.put("model", RewardModel(run.reference))
        found = model.fit_pairs(
            chosen, rejected, margins, updates=self.reward_updates, lr=self.reward_lr, seed=run.seed
        )
        self._taught = []
        return {f"reward_model/{k}": v for k, v in found.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"taught": [list(t) for t in self._taught], **self._beside.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._taught = [(chosen, rejected, float(margin)) for chosen, rejected, margin in state["taught"]]
        self._beside.load_state_dict(state, ("model", "critic"))
