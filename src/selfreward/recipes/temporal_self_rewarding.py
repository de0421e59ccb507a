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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch.nn.functional import cosine_similarity

from selfreward.experience import pair_experience
from selfreward.lineage import Lineage, anchored, round_of
from selfreward.losses import LossTerm, Preference
from selfreward.pairs import IndexPair, cross_pool, merged
from selfreward.policy import Policy
from selfreward.recipes.base import Recipe, RunContext
from selfreward.replay import Replay
from selfreward.sampling import stream_seed
from selfreward.seeds import split_seed
from selfreward.selfgrading import Grades, own_grades, pair_statistics, shuffled
from selfreward.tasks import Task
from selfreward.types import Experience, Group, Prompt

CAPACITY = 1_000_000  # prompts of one phase; the store is emptied with every iteration


@dataclass
class TemporalSelfRewarding(Recipe):
    """Iterated DPO on pairs across generations.

    Attributes:
        group_size: K, answers per prompt and model.
        iterations: the steps of the run are divided among them.
        past, future: anchored rejection, and future-guided choice.
        votes: judgements per answer, averaged.
        beta: of DPO.
        scores: ``judge``, or ``shuffled`` within each group (the control).
        judge, top, judge_tokens: as in self-rewarding-lm.
    """

    name: ClassVar[str] = "temporal-self-rewarding"
    system_id: ClassVar[str | None] = "100"
    mechanism: ClassVar[str] = "pairs across generations"
    base: ClassVar[str] = "embedded:con"

    group_size: int = 7
    iterations: int = 2
    past: bool = True
    future: bool = True
    votes: int = 3
    beta: float = 0.1
    scores: Literal["judge", "shuffled"] = "judge"
    judge: str = "judge"
    top: int = 5
    judge_tokens: int = 16
    _lineage: Lineage = field(default_factory=Lineage, repr=False, init=False)
    _ends: Replay[Group] = field(default_factory=lambda: Replay[Group](CAPACITY), repr=False, init=False)

    def adapt(self, task: Task) -> Task:
        """Prompts with a demonstration are left out, as for the other recipes on pairs."""
        return replace(task, train=split_seed(task.train)[1])

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [Preference(beta=self.beta, anchor="reference")]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        phase, turn = self.enter(policy, run)
        model = self._lineage.get("start", run.reference)

        def draw(source: Policy, pool: str, prompts: Sequence[Prompt]) -> list[Group]:
            seed = stream_seed(run.seed, self.name, run.step, pool)
            return source.sample(prompts, self.group_size, run.sampling, view=pool, seed=seed)

        if phase == 0:
            pools = {"now": draw(model, "now", prompts)}
            if self.past:
                pools["past"] = draw(run.reference, "past", prompts)
            groups = across(pools)
            grades = self.grade(model, groups, run)
            ends = choose(groups, grades, ("now",), tuple(pools))
            self._ends.add(self.remembered(groups, ends, grades, turn), run.step)
        else:
            kept = [g for g in self._ends if g.meta["turn"] == turn]
            later = self._lineage.get("future", run.reference)
            drawn = draw(later, "future", [g.prompt for g in kept])
            pools = {"now": [one(g, 0) for g in kept], "rejected": [one(g, 1) for g in kept], "future": drawn}
            graded = self.grade(model, drawn, run)
            grades = [[*g.meta["grades"], *own] for g, own in zip(kept, graded, strict=True)]
            groups = across(pools)
            ends = choose(groups, grades, ("now", "future"), ("rejected",))
        pairs = [[p for p in found if p.margin > 0] for found in ends]
        run.count(self.mechanism, sum(map(len, pairs)))
        plain = [[p._replace(margin=0.0) for p in found] for found in pairs]
        experience = anchored(pair_experience(groups, plain), model, run.sampling.temperature or 1.0)
        experience.stats |= pair_statistics(grades, pairs) | {
            "round": float(self._lineage.round),
            "phase": float(phase),
            "pairs/cosine": likeness(policy, experience),
            "pairs/from_past": share_from(groups, pairs, "past"),
            "pairs/from_future": share_from(groups, pairs, "future"),
        }
        return experience

    def enter(self, policy: Policy, run: RunContext) -> tuple[int, int]:
        """The step's phase and its number within it; at the start of phase 2 the policy becomes M_f, and M_i again."""
        phases = 2 if self.future else 1
        half = [round_of(step, run.steps, self.iterations * phases) for step in range(1, run.step + 1)]
        if self._lineage.enter(half[-1] // phases, policy):
            self._lineage.forget("future")
            self._ends = Replay[Group](CAPACITY)
        phase = half[-1] % phases
        if phase and "future" not in self._lineage:
            self._lineage.keep("future", policy)
            self._lineage.restart(policy, run.reference)
        return phase, half.count(half[-1])

    def grade(self, model: Policy, groups: Sequence[Group], run: RunContext) -> Grades:
        """One grade per answer by M_i, None where no judgement could be read; kept as rewards for the record."""
        grades = own_grades(
            model, groups, run, template=self.judge, votes=self.votes, top=self.top, tokens=self.judge_tokens
        )
        if self.scores == "shuffled":
            both = zip(groups, grades, strict=True)
            grades = [shuffled(own, run.generator("shuffled", group.key)) for group, own in both]
        for group, own in zip(groups, grades, strict=True):
            group.reward_with([0.0 if s is None else s for s in own])
        return grades

    def remembered(
        self, groups: Sequence[Group], ends: Sequence[list[IndexPair]], grades: Grades, turn: int
    ) -> list[Group]:
        """For phase 2: the chosen and the rejected candidate of every prompt, with their grades."""
        found = []
        if self.future:
            for group, own, pairs in zip(groups, grades, ends, strict=True):
                for pair in pairs:
                    both = [group.trajectories[i] for i in pair[:2]]
                    meta = {"turn": turn, "grades": [own[i] for i in pair[:2]]}
                    found.append(Group(group.key, group.prompt, both, meta))
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"lineage": self._lineage.state_dict(), "ends": self._ends.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._lineage.load_state_dict(state["lineage"])
        self._ends.load_state_dict(state["ends"])


def across(pools: Mapping[str, Sequence[Group]]) -> list[Group]:
    """One merged group per prompt from pools in the order of the prompts."""
    return [merged(dict(zip(pools, own, strict=True))) for own in zip(*pools.values(), strict=True)]


def one(group: Group, index: int) -> Group:
    return Group(group.key, group.prompt, [group.trajectories[index]])


def choose(
    groups: Sequence[Group], grades: Grades, chosen: Sequence[str], rejected: Sequence[str]
) -> list[list[IndexPair]]:
    """Best over worst across pools, ties and inversions included; the margin is the gap of the grades."""
    both = zip(groups, grades, strict=True)
    return [
        cross_pool(g, own, chosen=chosen, rejected=rejected, min_gap=-math.inf, margin_scale=1.0) for g, own in both
    ]


def share_from(groups: Sequence[Group], pairs: Sequence[Sequence[IndexPair]], pool: str) -> float:
    """Share of the pairs with a side from this pool."""
    found = [
        any(group.trajectories[i].meta.get("pool") == pool for i in pair[:2])
        for group, own in zip(groups, pairs, strict=True)
        for pair in own
    ]
    return sum(found) / max(1, len(found))


def likeness(policy: Policy, experience: Experience) -> float:
    """Mean cosine of the policy's last hidden states at the ends of the chosen and the rejected answer."""
    rows, pairs = experience.rows, experience.pairs
    if not pairs:
        return 0.0
    read = policy.score([r.tokens for r in rows], [0] * len(rows), hidden_at=[-1] * len(rows), role="probe")
    ends = torch.stack([r["hidden"] for r in read])
    return float(cosine_similarity(ends[[p.chosen for p in pairs]], ends[[p.rejected for p in pairs]]).mean())
