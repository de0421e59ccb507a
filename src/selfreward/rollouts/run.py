"""Moved out of recipes.base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from selfreward.policy.sampling.params import SamplingParams
from selfreward.runtime.seeding import stream_seed
from selfreward.types import Group

if TYPE_CHECKING:
    import torch

    from selfreward.data.answers import AnswerSpace
    from selfreward.policy.policy import Policy


@dataclass
class RunContext:
    """What a recipe may know of the run it is in.

    Attributes:
        step, steps: the current step (from 1) and the last one.
        answers: how answers are extracted and compared in this task.
        well_formed: whether a completion has the task's format.
        sampling: the run's sampling parameters.
        reference: the policy as it was at the start, frozen.
        templates: prompt templates that the task brings, by name.
        counts: mechanism counters of this step.
    """

    step: int
    steps: int
    seed: int
    answers: AnswerSpace
    well_formed: Callable[[str], bool]
    sampling: SamplingParams
    reference: Policy
    templates: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, n: int = 1) -> None:
        """Record that a mechanism touched ``n`` samples or tokens."""
        self.counts[name] = self.counts.get(name, 0) + int(n)

    def generator(self, *key: object) -> torch.Generator:
        """A CPU generator that depends on the run's seed, the step and ``key`` only."""
        import torch

        return torch.Generator().manual_seed(stream_seed(self.seed, self.step, *key))

    def classes(self, group: Group) -> list[int | None]:
        """The answer class of every completion of the group; None where no answer was found."""
        from selfreward.data.answers import cluster

        return cluster([self.answers.extract(c) for c in group.completions], self.answers)
