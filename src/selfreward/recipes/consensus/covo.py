"""CoVo: a response is worth what its intermediate states say about its answer.

Zhang et al. 2025, "Consistent Paths Lead to Truth: Self-Rewarding Reinforcement Learning for LLM
Reasoning", arXiv 2506.08745. Believes that on the way to a right answer the states of a response keep
pointing to it (high consistency), while the way to a wrong one wavers (high volatility). Needs prompts
with an extractable answer, responses that split into steps, and the policy's own likelihoods; no label.
1. Sample G responses, cluster their answers. 2. Cut each response into states and score every answer of
the group after every state. 3. Con and Vol per response, one score per answer class. 4. Every member
earns its class's score; one-class groups earn nothing. 5. REINFORCE++.
Known to break where answers after a state say nothing (very short responses, a policy that cannot
answer early). R_V punishes only the spread of volatility, not its level; R_L does.

The released code (sastpg/CoVo) differs: every class with R_V >= 0.5 (R_L >= 0.05) earns 1 and the
others 0 (``reward=vector_threshold``). The paper also adds a curiosity bonus, the surprise of the
response's own steps; the released code computes it and leaves it out of the rewards that it trains on,
so it is off here, too (``curiosity=on``). Where errors are what surprises, it pays for errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.policy.policy import Policy
from selfreward.recipes.common.baseline import BatchBaseline
from selfreward.rollouts.run import RunContext
from selfreward.signals import path_consistency as paths
from selfreward.signals.scorers.path_consistency import Path, probe
from selfreward.types import Experience, Prompt

THRESHOLDS = {"vector": 0.5, "linear": 0.05}


@dataclass
class CoVo(BatchBaseline):
    """Class scores from path consistency and volatility.

    Attributes:
        reward: R_V (the paper), R_L, mean Con, or the released code's thresholds on the first two.
        curiosity: add the surprise of the response's own steps (see :func:`paths.curiosity`).
        curiosity_weight: its weight.
        most_states: states per response; more steps are merged.
        final_state: count the state after the last step, too, which has stated the answer (released code).
        baseline: see :class:`BatchBaseline`.
        permuted: exchange the columns of the distances within each group, a control that must fail.
    """

    name: ClassVar[str] = "covo"
    system_id: ClassVar[str | None] = "088"
    base: ClassVar[str] = "embedded:chain-paths"
    mechanism: ClassVar[str] = "states probed"

    reward: Literal["vector", "linear", "consistency", "vector_threshold", "linear_threshold"] = "vector"
    curiosity: Literal["on", "off"] = "off"
    curiosity_weight: float = 1.0
    most_states: int = 15
    final_state: bool = False
    permuted: bool = False

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        permute = (lambda group: run.generator("columns", group.key)) if self.permuted else None
        measured = probe(policy, groups, run, self.most_states, self.final_state, permute)
        kept = []
        for group, found in zip(groups, measured, strict=True):
            group.reward_with(self.rewards(found, run.classes(group)))
            run.count(self.mechanism, sum(len(f.distances) for f in found if f is not None))
            # A group without any reward is dropped; it would shift the batch's mean.
            if sum(group.rewards) / len(group) >= 1e-3:
                kept.append(group)
        experience = self.learn_in_batch(kept, run)
        experience.groups = groups
        seen = [f for found in measured for f in found if f is not None]
        for name in ("consistency", "volatility", "curiosity"):
            experience.stats[f"covo/{name}"] = sum(getattr(f, name) for f in seen) / max(1, len(seen))
        experience.stats["covo/dropped"] = float(len(groups) - len(kept))
        return experience

    def rewards(self, found: Sequence[Path | None], classes: Sequence[int | None]) -> list[float]:
        """Rewards of one group from its measured paths; 0 where nothing was measured."""
        kind, _, threshold = self.reward.partition("_")
        con = [f.consistency if f else 0.0 for f in found]
        vol = [f.volatility if f else 0.0 for f in found]
        scores = paths.class_scores(classes, con, vol, kind)
        if threshold:
            scores = {c: float(s >= THRESHOLDS[kind]) for c, s in scores.items()}
        bonus = self.curiosity_weight if self.curiosity == "on" else 0.0
        return [
            0.0 if f is None or c is None else scores[c] + bonus * f.curiosity
            for f, c in zip(found, classes, strict=True)
        ]
