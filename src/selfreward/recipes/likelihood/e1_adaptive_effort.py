"""e1: one number in the prompt says how long to think, relative to how long this question usually takes.

Believes that a *relative* length can be learned and asked for, where an absolute one would have to
know how hard the question is. Needs gold answers and a running mean length per prompt. Known to
break: if the mean is taken over the same low effort (``average="same"``), or over all efforts where
most lie below 1 (``all``), the target shrinks with every visit, which at the largest effort (``top``) it
does not; hard questions may earn nothing at low effort (such groups are skipped).
Kleinman et al. 2025, arXiv 2510.27042, eq. 1: R = [correct] * [L / T_avg < r]. The paper writes the
average for the prompt with its effort; which samples it covers is not said, so all three are here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from selfreward.data.task import Task
from selfreward.errors import ConfigError
from selfreward.policy.policy import Policy
from selfreward.recipes.common.correctness import CorrectnessRecipe, lengths
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.effort import known_efforts, parse_efforts, put_effort, with_effort
from selfreward.rollouts.prompt_history import RunningStats
from selfreward.rollouts.run import RunContext
from selfreward.signals.efficiency import effort_reward
from selfreward.types import Experience, Prompt

AT_EFFORT = ("pass@1", "easy", "hard", "length")


@dataclass
class AdaptiveEffort(CorrectnessRecipe, GRPO):
    """Credit for a right answer only below the asked share of the prompt's usual length.

    Attributes:
        efforts: the numbers that are drawn, one per prompt and step.
        reward: ``effort`` is the paper's; ``correct`` ignores length; ``budget`` reads the effort as an
            absolute budget of effort times ``unit`` tokens, the same for every question.
        unit: tokens of effort 1 for ``reward="budget"``; 0 takes the mean length of the first step.
        average: samples behind T_avg: of ``all`` efforts of the prompt, of the ``same`` one, or of the largest
            (``top``; of all until the prompt was asked at the largest).
        momentum: of the running mean length per prompt.
        floor: a target is never below this many tokens.
        shown: the effort in the prompt is the one that is paid for (``true``), another one drawn
            independently (``permuted``, the control), or none at all (``none``).
        skip_hopeless: leave groups without any reward out of the update.
        template: words that put ``{effort}`` into ``{prompt}``; by default the task's own, or a sentence.
    """

    name: ClassVar[str] = "e1-adaptive-effort"
    system_id: ClassVar[str | None] = "019"
    mechanism: ClassVar[str] = "right answers that were too long for their effort"
    base: ClassVar[str] = "embedded:eff-signs"

    efforts: str = "0.25,0.5,0.75,1,1.5"
    reward: Literal["effort", "correct", "budget"] = "effort"
    unit: float = 0.0
    average: Literal["all", "same", "top"] = "all"
    momentum: float = 0.9
    floor: float = 0.0
    shown: Literal["true", "permuted", "none"] = "true"
    skip_hopeless: bool = True
    template: str = ""
    usual: RunningStats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parse_efforts(self.efforts)
        if self.template and not {"{prompt}", "{effort}"} <= set(_fields(self.template)):
            raise ConfigError(f"template is {self.template!r}; it must contain {{prompt}} and {{effort}}.")
        self.usual = RunningStats(momentum=self.momentum)

    def templates(self, own: dict[str, str]) -> dict[str, str]:
        return {"effort": self.template} if self.template else own

    def adapt(self, task: Task) -> Task:
        """Where the task measures lengths itself, measure it at every effort."""
        templates, measure = self.templates(task.templates), task.evaluator
        grid = parse_efforts(self.efforts)
        if self.shown != "none":
            known_efforts(templates, grid)
        if measure is None or self.shown == "none":
            return task

        def evaluator(policy: Policy) -> dict[str, Any]:
            found = [measure(with_effort(policy, r, templates)) for r in grid]
            every = {f"{name} at {r:g}": m[name] for r, m in zip(grid, found) for name in AT_EFFORT if name in m}
            return {**found[-1], **every}  # by themselves the names speak of the largest effort

        return dataclasses.replace(task, evaluator=evaluator)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        grid, templates = parse_efforts(self.efforts), self.templates(run.templates)
        paid = [self.draw(grid, run, "effort", p.id) for p in prompts]
        seen = paid if self.shown == "true" else [self.draw(grid, run, "shown", p.id) for p in prompts]
        asked = prompts
        if self.shown != "none":
            asked = [put_effort(p, r, templates) for p, r in zip(prompts, seen, strict=True)]
        groups = policy.sample(asked, self.group_size, run.sampling)
        if "" not in self.usual:
            found = [n for g in groups for n in lengths(g)]
            self.usual.update("", unit=sum(found) / len(found))
        for group, effort in zip(groups, paid, strict=True):
            group.meta["effort"] = effort
            self.note(group.prompt.id, effort, lengths(group))
        for group, effort in zip(groups, paid, strict=True):
            correct = self.verdicts(group, run)
            rewards = self.rewards(group.prompt.id, effort, correct, lengths(group))
            group.reward_with(rewards)
            run.count(self.mechanism, int(sum(correct) - sum(rewards)))
        hopeful = [g for g in groups if any(g.rewards) or not self.skip_hopeless]
        experience = self.learn_from(hopeful)
        experience.groups = groups
        experience.stats["effort/hopeless"] = 1 - len(hopeful) / len(groups)
        return experience

    def draw(self, grid: Sequence[float], run: RunContext, *key: object) -> float:
        import torch

        return grid[int(torch.randint(len(grid), (1,), generator=run.generator(*key)))]

    def note(self, prompt: str, effort: float, found: Sequence[float]) -> None:
        """Take this visit's mean length into the running ones."""
        mean = sum(found) / len(found)
        self.usual.update(prompt, **{"length": mean, f"length at {effort:g}": mean})

    def rewards(self, prompt: str, effort: float, correct: Sequence[float], found: Sequence[float]) -> list[float]:
        if self.reward == "correct":
            return list(correct)
        if self.reward == "budget":
            usual = self.unit or self.usual.get("", "unit")
        else:
            usual = self.average_length(prompt, effort)
        return effort_reward(correct, found, usual, effort, self.floor).tolist()

    def average_length(self, prompt: str, effort: float) -> float:
        """T_avg of a prompt that was sampled at ``effort``."""
        if self.average == "top":
            top = f"length at {parse_efforts(self.efforts)[-1]:g}"
            return self.usual.get(prompt, top, self.usual.get(prompt, "length"))
        return self.usual.get(prompt, "length" if self.average == "all" else f"length at {effort:g}")

    def state_dict(self) -> dict[str, Any]:
        return {"usual": self.usual.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.usual.load_state_dict(state["usual"])


def _fields(template: str) -> list[str]:
    import re

    return re.findall(r"\{\w+\}", template)
