"""DRO: reasoning is rewarded by how well it explains a reference outcome, at the tokens that depend on it.

Xu et al. 2025, "Direct Reasoning Optimization: LLMs Can Reward And Refine Their Own Reasoning for Open-Ended Tasks",
arXiv 2506.13351 v1. Believes that few tokens of a long outcome reflect the reasoning, and that they give themselves
away: their likelihood varies most between the traces of a group. Needs one *reference outcome* per prompt (labels
"outcome"), which may be long and need not be checkable; no verifier, no judge. Each sampled trace is followed by
the reference in place of its own outcome; R3 weighs the log-likelihood of the reference's tokens by their spread over
the traces. GRPO learns from R3 and a length term on the sampled outcome. Known to break where the scorer, being the
policy, raises its own certainty; where outcomes drift in length, as R3 never looks at them; and where a trace quotes
the reference. Not published and chosen here: the shape of the weights (proportional to the spread) and the weight of
the length term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from selfreward.credit.rows import row_of
from selfreward.errors import RecipeError
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.auxiliary import AuxiliaryModels
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals import reference as r3
from selfreward.signals.scorers.reference import MASKED, THINK_END, ReferenceScorer, Reflected
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class DirectReasoningOptimization(GRPO):
    """Reward = likelihood of the reference outcome after the trace, weighted by token, and a length term.

    Attributes:
        reward: ``r3``; ``aggregate`` is the plain mean log-likelihood of the reference (comparison); ``overlap`` the
            bigram F1 of sampled outcome and reference, which never looks at the reasoning (comparison).
        shape: of the token weights, see :func:`selfreward.signals.reference.spread_weights`.
        top_share: of the tokens that count as reflective, for ``shape="top"`` and for ``propagate``.
        masked: subtract the log-likelihood with the reasoning masked. Constant inside a group: it changes no
            advantage, only the level of the logged reward.
        propagate: discount what the reference itself gave away, see :func:`selfreward.signals.reference.propagated`.
        gamma: how fast that is forgotten.
        permute: shuffle the weights over the tokens of each reference (control).
        length_weight: of the length term; length_beta: its slope.
        scorer: ``current`` weights, ``frozen`` at step 0, or ``lagged`` by up to ``lag`` steps.
        filter_every: steps between two filterings of the prompts seen since the last one; 0 is off. Dropped prompts
            are not sampled until the next.
        hard_share, hard_rank: filter (a): drop where in no trace the mean rank of this worst share of the
            reference's tokens is below this rank.
        drop_share: filter (b): drop this share with the least spread.
        keep_dropped: share of the dropped prompts that stays all the same.
    """

    name: ClassVar[str] = "dro-r3"
    system_id: ClassVar[str | None] = "018"
    labels: ClassVar[Labels] = "outcome"
    base: ClassVar[str] = "embedded:report"
    mechanism: ClassVar[str] = "scored reasoning traces"

    group_size: int = 16
    kl: float = 0.001
    reward: Literal["r3", "aggregate", "overlap"] = "r3"
    shape: r3.Shape = "proportional"
    top_share: float = 0.1
    masked: bool = True
    propagate: bool = False
    gamma: float = 0.1
    permute: bool = False
    length_weight: float = 0.1
    length_beta: float = 1.0
    scorer: Literal["current", "frozen", "lagged"] = "current"
    lag: int = 10
    filter_every: int = 0
    hard_share: float = 0.1
    hard_rank: float = 100.0
    drop_share: float = 0.3
    keep_dropped: float = 0.1
    _beside: AuxiliaryModels = field(default_factory=AuxiliaryModels, repr=False, init=False)  # "lagged"
    _refreshed: int = field(default=0, repr=False, init=False)
    _seen: dict[str, tuple[float, bool]] = field(default_factory=dict, repr=False, init=False)
    _dropped: list[str] = field(default_factory=list, repr=False, init=False)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        wanted = [p for p in prompts if p.id not in set(self._dropped)] or list(prompts[:1])
        groups = policy.sample(wanted, self.group_size, run.sampling)
        marker, masked = run.templates.get("think-end", THINK_END), run.templates.get("masked", MASKED)
        scorer = ReferenceScorer(self._weights(policy, run), marker, masked)
        rows = []
        for group in groups:
            whole = [i for i, c in enumerate(group.completions) if scorer.split(c)]
            values = self.rewards(scorer, group, whole, run)
            group.reward_with([values[whole.index(i)] if i in whole else 0.0 for i in range(len(group))])
            run.count(self.mechanism, len(whole) if self.reward != "overlap" else 0)
            # An unfinished trace has no outcome: it is left out of the baseline and of the loss.
            for i, a in zip(whole, self.credit(torch.tensor(values)) if len(whole) > 1 else [], strict=False):
                rows.append(row_of(group.trajectories[i], float(a)))
        experience = Experience(rows, groups=groups, stats={"prompts/dropped": float(len(prompts) - len(wanted))})
        if self.filter_every and run.step % self.filter_every == 0:
            experience.stats |= self._filter(run)
        return experience

    def rewards(self, scorer: ReferenceScorer, group: Group, whole: Sequence[int], run: RunContext) -> list[float]:
        """The total reward of the completions ``whole`` of one group."""
        answer = group.prompt.answer
        if not answer:
            raise RecipeError(f"Prompt {group.prompt.id!r} has no answer; dro-r3 needs a reference outcome for each.")
        parts = [p for p in (scorer.split(group.completions[i]) for i in whole) if p]
        if not parts:
            return []
        reference = scorer.tokens(answer)
        outcomes = [scorer.tokens(outcome) for _, outcome in parts]
        length = r3.outcome_length_reward([len(o) for o in outcomes], len(reference), self.length_beta)
        if self.reward == "overlap":
            main = torch.tensor([r3.overlap(o, reference) for o in outcomes])
        else:
            main = self.reflection(
                scorer(group.prompt, [t for t, _ in parts], answer, bool(self.filter_every)), group, run
            )
        return (main + self.length_weight * length).tolist()

    def reflection(self, found: Reflected, group: Group, run: RunContext) -> Tensor:
        """R3 (or the aggregate) of a group's traces, float ``[N]``."""
        logprob, masked, ranks = found
        spread = r3.token_spread(logprob)
        weights = r3.spread_weights(spread, "uniform" if self.reward == "aggregate" else self.shape, self.top_share)
        if self.permute:
            weights = weights[torch.randperm(len(weights), generator=run.generator("weights", group.key))]
        group.meta["sigma_max"] = float(spread.max())
        if ranks is not None:
            self._seen[group.prompt.id] = (float(spread.max()), r3.too_hard(ranks, self.hard_share, self.hard_rank))
        if self.propagate:
            reflective = r3.spread_weights(spread, "top", self.top_share) > 0
            logprob = r3.propagated(logprob, reflective, self.gamma)
            masked = r3.propagated(masked[None], reflective, self.gamma)[0]
        return r3.reasoning_reflection(logprob, weights, masked if self.masked else None)

    def _filter(self, run: RunContext) -> dict[str, float]:
        """Decide about the prompts seen since the last time; those that were out come back for another look."""
        spread = {p: s for p, (s, _) in self._seen.items()}
        kept, counts = r3.worth_learning(spread, {p: h for p, (_, h) in self._seen.items()}, self.drop_share)
        out = [p for p in spread if p not in set(kept)]
        order = torch.randperm(len(out), generator=run.generator("keep")).tolist()
        self._dropped = [out[i] for i in order[round(self.keep_dropped * len(out)) :]]
        self._seen = {}
        return {f"filter/{name}": float(n) for name, n in counts.items()}

    # ---- scorer weights and state --------------------------------------------------------------

    def _weights(self, policy: Policy, run: RunContext) -> Policy:
        if self.scorer != "lagged":
            return policy if self.scorer == "current" else run.reference
        if "lagged" not in self._beside or run.step - self._refreshed >= self.lag:
            self._beside.put("lagged", policy.snapshot())
            self._refreshed = run.step
        return self._beside.get("lagged", policy.snapshot)

    def state_dict(self) -> dict[str, Any]:
        seen = {p: [s, h] for p, (s, h) in self._seen.items()}
        own = {"refreshed": self._refreshed, "seen": seen, "dropped": list(self._dropped)}
        return {**own, **self._beside.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._beside.load_state_dict(state, ("lagged",))
        self._refreshed, self._dropped = int(state["refreshed"]), list(state["dropped"])
        self._seen = {p: (float(s), bool(h)) for p, (s, h) in state["seen"].items()}
