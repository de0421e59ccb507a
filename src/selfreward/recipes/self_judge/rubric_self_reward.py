"""Rubric self-reward: the policy grades its own responses against a written rubric, criterion by criterion.

Ye et al. 2025, "Self-Rewarding Rubric-Based Reinforcement Learning for Open-Ended Reasoning", arXiv 2509.25534.
Believes that a narrow yes-or-no question is answered more reliably than "how good is it", and that the grader grows
with the policy. Needs prompts with *rubrics written by people* (the field ``rubric``: a list of
``{"criterion": text, "points": number}``, points may be negative); no reference answer and no second model. So it is
not label-free: ``labels`` has no word for rubrics, and "outcome", a judgement per prompt that a person has made, is
the nearest. It is nevertheless handed locked prompts: what it reads is the rubric and nothing else.

For every response and criterion the current policy says met or not, m_k; GRPO without KL on
``r = sum_k p_k m_k / sum_{k: p_k > 0} p_k`` moves the response only. Known to break when the grader says yes to
everything (r saturates), and by length: more text meets more criteria, only negative points brake. Not published and
chosen here: negative scores are clipped at 0, an unreadable grade counts as not met, the thinking part is not
graded. The mixture with teacher-graded data for weak models is left out (its form is not published).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.rubric import rubric_of, rubric_score
from selfreward.signals.rules import somebody_elses
from selfreward.signals.scorers.rubric import Parse, RubricGrader
from selfreward.types import Experience, Group, Labels, Prompt

Rubric = list[tuple[str, float]]


@dataclass
class RubricSelfReward(GRPO):
    """Reward = points that the grader grants, as a share of the positive points.

    Attributes:
        grader: ``current`` weights (the paper), ``frozen`` at step 0, or a model folder, hub id or ``embedded:NAME``.
        mode: ``criteria`` asks about each criterion (the paper); ``holistic`` asks for one score from 0 to 10 for the
            whole rubric (the comparison).
        readout: ``sample`` writes one judgement per criterion and parses it (the paper); ``probability`` takes the
            probability of the verdict word without sampling (an extension, for graders that answer in one word).
        grading_temperature: the paper finds 1.0 better than 0.6.
        grading_tokens: largest length of a judgement.
        parse: an unreadable grade counts as not met (``unmet``), is asked for once more and then counts as not
            met (``retry``), or leaves the score (``drop``).
        clip: no reward below 0.
        rubrics: ``permuted`` grades every response by another prompt's rubric (control).
    """

    name: ClassVar[str] = "rubric-self-reward"
    system_id: ClassVar[str | None] = "176"
    labels: ClassVar[Labels] = "outcome"
    fields: ClassVar[tuple[str, ...]] = ("rubric",)
    base: ClassVar[str] = "embedded:rub"
    mechanism: ClassVar[str] = "own grades"

    grader: str = "current"
    mode: Literal["criteria", "holistic"] = "criteria"
    readout: Literal["sample", "probability"] = "sample"
    grading_temperature: float = 1.0
    grading_tokens: int = 256
    parse: Parse = "unmet"
    clip: bool = True
    rubrics: Literal["own", "permuted"] = "own"
    _models: dict[str, Policy] = field(default_factory=dict, repr=False, init=False)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        prompts = [p.locked(self.name, self.fields) for p in prompts]  # the rubric, and no answer
        rubrics = [rubric_of(p.fields.get("rubric"), f"Prompt {p.id!r}") for p in prompts]
        if self.rubrics == "permuted":
            others = somebody_elses([p.id for p in prompts], "rubric-self-reward: rubrics='permuted'")
            rubrics = [rubrics[i] for i in others]
        groups = policy.sample(prompts, self.group_size, run.sampling)
        grader = RubricGrader(
            self._weights(policy, run),
            run.templates,
            self.readout,
            self.grading_temperature,
            self.grading_tokens,
            self.parse,
            stream_seed(run.seed, run.step, "grader"),
        )
        grade = self.by_criteria if self.mode == "criteria" else self.as_a_whole
        for group, rubric, rewards in zip(groups, rubrics, grade(grader, groups, rubrics, run), strict=True):
            group.reward_with(rewards)
            group.meta["rubric"] = [{"criterion": k, "points": p} for k, p in rubric]
        experience = self.learn_from(groups, roles=["solver"])  # grades carry no loss
        experience.stats["grader/parse_failures"] = float(grader.failures)
        return experience

    def by_criteria(
        self, grader: RubricGrader, groups: Sequence[Group], rubrics: Sequence[Rubric], run: RunContext
    ) -> list[list[float]]:
        """Rewards per group from one grade per response and criterion; all are asked for in one batch."""
        items = [
            {"question": g.prompt.question, "response": c, "criterion": k}
            for g, rubric in zip(groups, rubrics, strict=True)
            for c in g.completions
            for k, _ in rubric
        ]
        grades = iter(grader.met(items))
        run.count(self.mechanism, len(items))
        rewards = []
        for group, rubric in zip(groups, rubrics, strict=True):
            met_G_K = torch.tensor([[next(grades) for _ in rubric] for _ in group])
            score_G = rubric_score(met_G_K, [p for _, p in rubric], low=0.0 if self.clip else None)
            rewards.append(score_G.nan_to_num(nan=0.0).tolist())  # nothing could be graded
            for trajectory, row in zip(group, met_G_K.tolist(), strict=True):
                trajectory.meta["met"] = [None if m != m else m for m in row]
        return rewards

    def as_a_whole(
        self, grader: RubricGrader, groups: Sequence[Group], rubrics: Sequence[Rubric], run: RunContext
    ) -> list[list[float]]:
        """Rewards per group from one score per response."""
        lines = ["\n".join(f"{p:+g} points: {k}" for k, p in rubric) for rubric in rubrics]
        items = [
            {"question": g.prompt.question, "response": c, "rubric": line}
            for g, line in zip(groups, lines, strict=True)
            for c in g.completions
        ]
        scores = iter(grader.scores(items))
        run.count(self.mechanism, len(items))
        return [[next(scores) for _ in group] for group in groups]

    def _weights(self, policy: Policy, run: RunContext) -> Policy:
        if self.grader in ("current", "frozen"):
            return policy if self.grader == "current" else run.reference
        if self.grader not in self._models:
            from selfreward.policy.loading import load_policy

            self._models[self.grader] = load_policy(self.grader, device=str(policy.device))
            self._models[self.grader].counts = policy.counts  # its work is this run's cost
        return self._models[self.grader]
