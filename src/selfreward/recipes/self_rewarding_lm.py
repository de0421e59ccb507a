"""Self-rewarding language models: the model grades its own answers, and prefers the best to the worst.

Yuan et al. 2024, "Self-Rewarding Language Models", arXiv 2401.10020. Believes that one model can write and judge, and
that preference training lifts both. Needs a model that was tuned on instructions and on graded answers (M_1), a judge
format, and prompts without labels. In iteration t, for each prompt:

1. draw N answers from M_t;
2. let M_t judge each one three times, a justification before the score, and average what could be parsed;
3. prefer the best to the worst; an all-round tie is dropped;
4. DPO from M_t with M_t as its reference gives M_{t+1}.

Known to break where the judge is near chance, where answers become alike (scores tie, pairs get scarce), and through
length (each iteration of the paper writes longer). The paper's prompts are written by the model from a seed; here they
come from the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from selfreward.experience import pair_experience, row_of
from selfreward.lineage import Lineage, anchored, round_of
from selfreward.losses import NLL, LossTerm, Preference
from selfreward.pairs import top_bottom
from selfreward.policy import Policy
from selfreward.recipes.base import Recipe, RunContext
from selfreward.sampling import stream_seed
from selfreward.seeds import demonstration_rows, split_seed
from selfreward.selfgrading import Grades, own_grades, pair_statistics, shuffled, true_grades
from selfreward.tasks import Task
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class SelfRewardingLM(Recipe):
    """Iterated DPO on pairs that the model's own judgements order.

    Attributes:
        group_size: N, answers per prompt.
        iterations: the steps of the run are divided among them.
        votes: judgements per answer, averaged.
        beta: of DPO.
        scores: who grades. ``judge`` (the paper); ``shuffled`` permutes the grades within each group (the control);
            ``gold`` reads the truth (ceilings; needs labels).
        learn: ``dpo``; ``chosen`` imitates the best-graded answers alone; ``seed`` imitates the seed's demonstrations
            (more supervised tuning).
        judge: name of the task's judge template, with ``{question}`` and ``{response}``.
        top: the highest grade.
        judge_tokens: the longest judgement.
    """

    name: ClassVar[str] = "self-rewarding-lm"
    system_id: ClassVar[str | None] = "094"
    mechanism: ClassVar[str] = "pairs ordered by own judgements"
    base: ClassVar[str] = "embedded:con"

    group_size: int = 4
    iterations: int = 3
    votes: int = 3
    beta: float = 0.1
    scores: Literal["judge", "shuffled", "gold"] = "judge"
    learn: Literal["dpo", "chosen", "seed"] = "dpo"
    judge: str = "judge"
    top: int = 5
    judge_tokens: int = 16
    _lineage: Lineage = field(default_factory=Lineage, repr=False, init=False)
    _seed: list[Prompt] = field(default_factory=list, repr=False, init=False)

    def needs(self) -> Labels:
        return "outcome" if self.scores == "gold" else "seed" if self.learn == "seed" else "none"

    def adapt(self, task: Task) -> Task:
        """The seed of demonstrations is set apart from the prompts, for every arm alike."""
        self._seed, rest = split_seed(task.train)
        return replace(task, train=rest)

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [Preference(beta=self.beta, anchor="reference")] if self.learn == "dpo" else [NLL()]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        self._lineage.enter(round_of(run.step, run.steps, self.iterations), policy)
        model = self._lineage.get("start", run.reference)
        if self.learn == "seed":
            rows = demonstration_rows(policy, self._seed, len(prompts), run.generator("seed"))
            run.count(self.mechanism, len(rows))
            return Experience(rows)
        seed = stream_seed(run.seed, self.name, run.step)
        groups = model.sample(prompts, self.group_size, run.sampling, seed=seed)
        grades = self.grade(model, groups, run)
        pairs = [top_bottom(group, own) for group, own in zip(groups, grades, strict=True)]
        run.count(self.mechanism, sum(map(len, pairs)))
        if self.learn == "dpo":
            experience = anchored(pair_experience(groups, pairs), model, run.sampling.temperature or 1.0)
        else:
            best = [g.trajectories[p.chosen] for g, own in zip(groups, pairs, strict=True) for p in own]
            experience = Experience([row_of(t, nll=1.0) for t in best], groups=groups)
        experience.stats |= pair_statistics(grades, pairs) | {
            "round": float(self._lineage.round),
            "prompts/fresh": self._lineage.fresh(p.id for p in prompts),
        }
        return experience

    def grade(self, model: Policy, groups: Sequence[Group], run: RunContext) -> Grades:
        """One grade per answer, None where no judgement could be read; kept as rewards for the record."""
        if self.scores == "gold":
            grades = true_grades(groups, run)
        else:
            grades = own_grades(
                model, groups, run, template=self.judge, votes=self.votes, top=self.top, tokens=self.judge_tokens
            )
        if self.scores == "shuffled":
            pairs = zip(groups, grades, strict=True)
            grades = [shuffled(own, run.generator("shuffled", group.key)) for group, own in pairs]
        for group, own in zip(groups, grades, strict=True):
            group.reward_with([0.0 if s is None else s for s in own])
        return grades

    def state_dict(self) -> dict[str, Any]:
        return self._lineage.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._lineage.load_state_dict(state)
