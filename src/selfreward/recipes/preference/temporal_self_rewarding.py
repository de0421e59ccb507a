"""Temporal self-rewarding: reject what the model wrote in the past, choose what it would write in the future.

Wang et al. 2025, "Temporal Self-Rewarding Language Models: Decoupling Chosen-Rejected via Past-Future", arXiv
2508.06026. Believes that self-rewarding dies out because the chosen and the rejected answer come from one improving
model and grow alike, so that DPO's gradient vanishes. Needs what self-rewarding-lm needs; M_0 is kept, and each
iteration trains one temporary future model. In iteration i, M_i judges all:

1. anchored rejection: K answers of M_i and K of M_0; chosen is M_i's best; rejected M_0's worst if it is worse than
   M_i's worst, else that; D_1 holds the pairs whose chosen answer is graded higher; M_f = DPO(M_i, D_1);
2. future-guided chosen: K answers of M_f to the same prompts; where the best is better than M_i's best it is chosen
   instead; the rejected answer stays; M_{i+1} = DPO(M_i, D_2), from M_i again, and M_f is thrown away.

Half of an iteration's steps are phase 1; phase 2 revisits their prompts in order (the trainer's prompts of those steps
are left alone). ``past`` and ``future`` switch the two halves off one by one; without both it is self-rewarding-lm. The
optimiser keeps its moments when the weights go back to M_i. Known to break where the past is so bad that the pair is
learnt at once and teaches nothing, and with a judge whose scale moves from iteration to iteration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from selfreward.credit.pairs import IndexPair, across, cross_pool, likeness, share_from
from selfreward.credit.replay import Replay
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.lineage import phase_of
from selfreward.recipes.common.own_pairs import OwnGrades
from selfreward.rollouts.run import RunContext
from selfreward.signals.scorers.self_grades import Grades
from selfreward.types import Experience, Group, Prompt

Judged = tuple[list[Group], Grades, list[list[IndexPair]]]  # merged groups, their grades, both ends of each
CAPACITY = 1_000_000  # prompts of one phase; the store is emptied with every iteration


@dataclass
class TemporalSelfRewarding(OwnGrades):
    """Iterated DPO on pairs across generations.

    Attributes:
        group_size: K, answers per prompt and model.
        past, future: anchored rejection, and future-guided choice.
        iterations, beta, votes, scores, judge, top, judge_tokens: see :mod:`selfreward.recipes.common.own_pairs`.
    """

    name: ClassVar[str] = "temporal-self-rewarding"
    system_id: ClassVar[str | None] = "100"
    mechanism: ClassVar[str] = "pairs across generations"
    base: ClassVar[str] = "embedded:con"

    group_size: int = 7
    iterations: int = 2
    past: bool = True
    future: bool = True
    _ends: Replay[Group] = field(default_factory=lambda: Replay[Group](CAPACITY), repr=False, init=False)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        phase, turn = self.enter_phase(policy, run)
        model = self._lineage.get("start", run.reference)
        if phase == 0:
            groups, grades, ends = self.reject_the_past(model, prompts, run, turn)
        else:
            groups, grades, ends = self.choose_the_future(model, run, turn)
        pairs = [
            [p for p in found if (own[p.chosen] or 0.0) > (own[p.rejected] or 0.0)]
            for found, own in zip(ends, grades, strict=True)
        ]
        # In the first iteration M_i is M_0 itself.
        alike = ("now",) if self._lineage.round else ("now", "past")
        run.count(self.mechanism, sum(map(len, generations_apart(groups, pairs, alike))))
        experience = self.prefer(model, groups, grades, pairs, run)
        experience.stats |= {
            "phase": float(phase),
            "pairs/cosine": likeness(policy, experience),
            "pairs/from_past": share_from(groups, pairs, "past"),
            "pairs/from_future": share_from(groups, pairs, "future"),
        }
        return experience

    def enter_phase(self, policy: Policy, run: RunContext) -> tuple[int, int]:
        """The step's phase and its number within it; at the start of phase 2 the policy becomes M_f, and M_i again."""
        round_, phase, turn = phase_of(run.step, run.steps, self.iterations, 2 if self.future else 1)
        if self._lineage.enter(round_, policy):
            self._lineage.forget("future")
            self._ends = Replay[Group](CAPACITY)
        if phase and "future" not in self._lineage:
            self._lineage.keep("future", policy)
            self._lineage.restart(policy, run.reference)
        return phase, turn

    def reject_the_past(self, model: Policy, prompts: Sequence[Prompt], run: RunContext, turn: int) -> Judged:
        """Phase 1; the two ends of every prompt, valid pair or not, are kept with their grades for phase 2."""
        pools = {"now": self.draw(model, prompts, run, view="now")}
        if self.past:
            pools["past"] = self.draw(run.reference, prompts, run, view="past")
        groups = across(pools)
        grades = self.grade(model, groups, run)
        ends = best_across(groups, grades, ("now",), tuple(pools))
        if self.future:
            for group, own, pairs in zip(groups, grades, ends, strict=True):
                for at in (pair[:2] for pair in pairs):
                    both = [group.trajectories[i] for i in at]
                    origins = [t.meta["pool"] for t in both]
                    meta = {"turn": turn, "grades": [own[i] for i in at], "pools": origins}
                    self._ends.add([Group(group.key, group.prompt, both, meta)], run.step)
        return groups, grades, ends

    def choose_the_future(self, model: Policy, run: RunContext, turn: int) -> Judged:
        """Phase 2 on the prompts of the same step of phase 1, in turn again where phase 1 was shorter."""
        turns = max((g.meta["turn"] for g in self._ends), default=1)
        kept = [g for g in self._ends if g.meta["turn"] == (turn - 1) % turns + 1]
        drawn = self.draw(self._lineage.get("future", run.reference), [g.prompt for g in kept], run, view="future")
        chosen, rejected = ([g.only([i == end for i in range(2)]) for g in kept] for end in range(2))
        groups = across({"now": chosen, "rejected": rejected, "future": drawn})
        judged = self.grade(model, drawn, run)
        grades = [[*g.meta["grades"], *own] for g, own in zip(kept, judged, strict=True)]
        ends = best_across(groups, grades, ("now", "future"), ("rejected",))
        for group in kept:  # "rejected" was its place in the choice; the record wants to know who wrote it
            group.trajectories[1].meta["pool"] = group.meta["pools"][1]
        return groups, grades, ends

    def state_dict(self) -> dict[str, Any]:
        return {"lineage": self._lineage.state_dict(), "ends": self._ends.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._lineage.load_state_dict(state["lineage"])
        self._ends.load_state_dict(state["ends"])


def best_across(
    groups: Sequence[Group], grades: Grades, chosen: Sequence[str], rejected: Sequence[str]
) -> list[list[IndexPair]]:
    """Best of some pools over the worst of others in every group, ties and inversions included."""
    both = zip(groups, grades, strict=True)
    return [cross_pool(g, own, chosen=chosen, rejected=rejected, min_gap=-math.inf) for g, own in both]


def generations_apart(
    groups: Sequence[Group], pairs: Sequence[Sequence[IndexPair]], alike: Sequence[str] = ("now",)
) -> list[list[IndexPair]]:
    """The pairs whose answers are of two generations: of two pools (``meta["pool"]``) that are not both ``alike``."""
    own = [[alike[0] if t.meta.get("pool") in alike else t.meta.get("pool") for t in group] for group in groups]
    return [[p for p in found if at[p.chosen] != at[p.rejected]] for at, found in zip(own, pairs, strict=True)]
