"""Base of recipes that prefer some of the model's own answers to others, in rounds.

A round begins with a copy of the policy. The copy writes the answers, ranks them, and is DPO's reference until the next
round; the policy learns from the pairs. A recipe says how answers are ranked and which two make a pair.
:class:`OwnGrades` ranks by the model's own judgement of each answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from selfreward.credit.demonstrations import split_seed
from selfreward.credit.pairs import IndexPair, pair_statistics, pool_shares, provenance
from selfreward.credit.rows import pair_experience
from selfreward.data.task import Task
from selfreward.losses import LossTerm, Preference
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.lineage import Lineage, anchored, round_of
from selfreward.recipes.base import Recipe
from selfreward.rollouts.run import RunContext
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.scorers.self_grades import Grades, own_grades, shuffled_grades, true_grades
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class OwnPairs(Recipe):
    """DPO on own answers in rounds; prompts with a demonstration are set apart for every arm alike.

    Attributes:
        group_size: answers per prompt.
        iterations: the steps of the run are divided among them.
        beta: of DPO.
    """

    group_size: int = 8
    iterations: int = 3
    beta: float = 0.1
    _lineage: Lineage = field(default_factory=Lineage, repr=False, init=False)
    _seed: list[Prompt] = field(default_factory=list, repr=False, init=False)

    def adapt(self, task: Task) -> Task:
        self._seed, rest = split_seed(task.train)
        return replace(task, train=rest)

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [Preference(beta=self.beta, anchor="reference")]

    def enter(self, policy: Policy, run: RunContext, warm_up: int = 0) -> Policy:
        """The model as the present round found it; steps of a ``warm_up`` are round 0."""
        self._lineage.enter(round_of(run.step, run.steps, self.iterations, warm_up), policy)
        return self._lineage.get("start", run.reference)

    def draw(
        self, model: Policy, prompts: Sequence[Prompt], run: RunContext, *, stream: str = "", view: str = ""
    ) -> list[Group]:
        """``group_size`` answers of ``model`` to each prompt. Recipes that name the same ``stream`` draw alike; each
        ``view`` of a prompt has draws of its own."""
        seed = stream_seed(run.seed, stream or self.name, run.step, *filter(None, [view]))
        return model.sample(prompts, self.group_size, run.sampling, view=view, seed=seed)

    def prefer(
        self,
        model: Policy,
        groups: Sequence[Group],
        grades: Grades,
        pairs: Sequence[Sequence[IndexPair]],
        run: RunContext,
        nll: float = 0.0,
    ) -> Experience:
        """Rows of the pairs with ``model`` as their reference, and what the pairs look like for the record.

        Args:
            nll: likelihood weight of the chosen answers.
        """
        made = pair_experience(groups, pairs, nll=nll)
        experience = anchored(made, model, run.temperature)
        origins = [o for g, own, s in zip(groups, pairs, grades, strict=True) for o in provenance(g, own, self.name, s)]
        experience.stats |= (
            pair_statistics(grades, pairs)
            | pool_shares(origins)
            | {
                "round": float(self._lineage.round),
                "prompts/fresh": self._lineage.fresh(g.prompt.id for g in groups),
            }
        )
        return experience

    def state_dict(self) -> dict[str, Any]:
        return self._lineage.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._lineage.load_state_dict(state)


@dataclass
class OwnGrades(OwnPairs):
    """Own answers graded by the model's own judgements.

    Attributes:
        votes: judgements per answer, averaged.
        scores: who grades. ``judge`` (the model itself); ``shuffled`` permutes the grades within each group (the
            control); ``gold`` reads the truth (ceilings; needs labels).
        judge: name of the task's judge template, with ``{question}`` and ``{response}``.
        top: the highest grade.
        judge_tokens: the longest judgement.
    """

    votes: int = 3
    scores: Literal["judge", "shuffled", "gold"] = "judge"
    judge: str = "judge"
    top: int = 5
    judge_tokens: int = 16

    def needs(self) -> Labels:
        return "outcome" if self.scores == "gold" else "none"

    def grade(self, model: Policy, groups: Sequence[Group], run: RunContext) -> Grades:
        """One grade per answer, None where no judgement could be read; kept as rewards for the record."""
        if self.scores == "gold":
            grades = true_grades(groups, run)
        else:
            grades = own_grades(
                model, groups, run, template=self.judge, votes=self.votes, top=self.top, tokens=self.judge_tokens
            )
        if self.scores == "shuffled":
            grades = shuffled_grades(groups, grades, run)
        for group, own in zip(groups, grades, strict=True):
            group.reward_with([0.0 if s is None else s for s in own])
        return grades
