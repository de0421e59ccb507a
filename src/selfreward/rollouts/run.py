"""What is known of a run while groups are sampled and scored: its task, its models, its seed.

Recipes, scorers, the audit and selection at test time all look at a run through :class:`RunContext`. In training
there is one per step; elsewhere there is one per call, without a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from selfreward.data.answers import cluster
from selfreward.errors import UnavailableError
from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.rewording import TWIN
from selfreward.runtime.seeding import stream_seed
from selfreward.types import Group, Prompt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from selfreward.data.answers import AnswerSpace
    from selfreward.data.task import Task
    from selfreward.policy.policy import Policy

_Shared = tuple[list[int | None], list[int | None]]


class RunContext:
    """What a recipe or a scorer may know of the run it is in, and what was worked out about its groups.

    Answers, classes and other views of a group are worked out once and kept for as long as its texts stay the same.

    Args:
        answers: how final answers are found and compared.
        well_formed: whether a completion has the task's format.
        templates: prompt templates that the task brings, by name.
        policy: the model; None where only texts are at hand.
        reference: the model as it was at the start, frozen; ``policy`` where training has not begun.
        sampling: how groups are sampled; the default parameters where nothing was sampled.
        seed: of the run. All random draws derive from it.
        step, steps: the current step, from 1, and the last one; 0 outside of training.

    Attributes:
        counts: how many samples or tokens each mechanism touched in this step, see :meth:`count`.
    """

    def __init__(
        self,
        answers: AnswerSpace,
        well_formed: Callable[[str], bool],
        *,
        templates: dict[str, str] | None = None,
        policy: Policy | None = None,
        reference: Policy | None = None,
        sampling: SamplingParams | None = None,
        seed: int = 0,
        step: int = 0,
        steps: int = 0,
    ) -> None:
        self.answers, self.well_formed = answers, well_formed
        self.templates = templates or {}
        self._policy = policy
        self._reference = reference if reference is not None else policy
        self.sampling = sampling or SamplingParams()
        self.seed, self.step, self.steps = seed, step, steps
        self.counts: dict[str, int] = {}
        # Kept by identity, together with the group, so that an id cannot come back for another group.
        self._answers: dict[int, tuple[Group, list[str], list[str | None]]] = {}
        self._classes: dict[int, tuple[list[str | None], list[str | None], _Shared]] = {}
        self._views: dict[int, tuple[Group, Group]] = {}

    @classmethod
    def of(cls, task: Task, **known: Any) -> RunContext:
        """The context of a run on ``task``; ``known`` are the other arguments of the class."""
        return cls(task.answers, task.well_formed, **{"templates": dict(task.templates), **known})

    def scoring(self, policy: Policy) -> RunContext:
        """The same task as a scorer sees it outside of training: no step, but a seed that belongs to this step."""
        return RunContext(
            self.answers,
            self.well_formed,
            templates=self.templates,
            policy=policy,
            reference=self._reference,
            sampling=self.sampling,
            seed=stream_seed(self.seed, self.step),
        )

    # ---- models ------------------------------------------------------------------------------------------------

    @property
    def has_model(self) -> bool:
        """Whether there is a policy."""
        return self._policy is not None

    @property
    def policy(self) -> Policy:
        """The model.

        Raises:
            UnavailableError: when there is none.
        """
        return _there(self._policy)

    @property
    def reference(self) -> Policy:
        """The model as it was at the start.

        Raises:
            UnavailableError: when there is no model.
        """
        return _there(self._reference)

    @property
    def temperature(self) -> float:
        """The temperature that sampled tokens are scored at: that of sampling, and 1 where sampling is greedy."""
        return self.sampling.temperature if self.sampling.temperature > 0 else 1.0

    # ---- the step ----------------------------------------------------------------------------------------------

    def count(self, name: str, n: int = 1) -> None:
        """Record that a mechanism touched ``n`` samples or tokens."""
        self.counts[name] = self.counts.get(name, 0) + int(n)

    def generator(self, *key: object) -> torch.Generator:
        """A CPU generator that depends on the seed, the step (in training) and ``key`` only."""
        import torch

        when = (self.step,) if self.step else ()
        return torch.Generator().manual_seed(stream_seed(self.seed, *when, *key))

    def template(self, name: str) -> str:
        """A template of the task, or ``name`` itself where it is a template text.

        Raises:
            UnavailableError: when the task has none of that name.
        """
        if "{" in name:
            return name
        if name not in self.templates:
            raise UnavailableError(f"the task brings no template {name!r}")
        return self.templates[name]

    # ---- what is known of a group ------------------------------------------------------------------------------

    def answers_of(self, group: Group) -> list[str | None]:
        """The final answer of every completion, ``[G]``; None where there is none."""
        texts = group.completions
        kept = self._answers.get(id(group))
        if kept is None or kept[1] != texts:
            # Few distinct texts are common: read each of them once.
            answers = {text: self.answers.extract(text) for text in texts}
            kept = self._answers[id(group)] = group, texts, [answers[text] for text in texts]
        return kept[2]

    def classes(self, group: Group) -> list[int | None]:
        """The answer class of every completion, ``[G]``; None where no answer was found."""
        return self.shared_classes(group)[0]

    def shared_classes(self, group: Group) -> _Shared:
        """Classes of the group and of its other view (empty where :meth:`views` was not called), numbered together.

        A class has the same number in both, so that a vote in one view can be held against the other.
        """
        view = self._views.get(id(group))
        own, other = self.answers_of(group), self.answers_of(view[1]) if view else []
        kept = self._classes.get(id(group))
        if kept is None or kept[0] is not own or kept[1] != other:
            classes = cluster([*own, *other], self.answers)
            kept = self._classes[id(group)] = own, other, (classes[: len(own)], classes[len(own) :])
        return kept[2]

    def views(self, groups: Sequence[Group]) -> list[Group]:
        """A group of answers to another wording of each question; sampled once, in one batch.

        Raises:
            UnavailableError: unless every prompt has a field ``twin`` (and there is a model), or every group brings
                a group as ``meta["view"]``.
        """
        missing = [g for g in groups if id(g) not in self._views]
        for group in missing:
            if "view" in group.meta:
                self._views[id(group)] = group, group.meta["view"]
        missing = [g for g in missing if id(g) not in self._views]
        if missing:
            if any(not g.prompt.fields.get(TWIN) for g in missing):
                raise UnavailableError(f"needs another view of every question (a field {TWIN!r} with a rewording)")
            prompts = [Prompt(g.prompt.id, text=str(g.prompt.fields[TWIN])) for g in missing]
            # Other random numbers than the groups had, or the two views would not be independent.
            own_seed = stream_seed(self.seed, TWIN)
            drawn = self.policy.sample(prompts, len(missing[0]), self.sampling, view=TWIN, seed=own_seed)
            self._views |= {id(group): (group, view) for group, view in zip(missing, drawn, strict=True)}
        return [self._views[id(g)][1] for g in groups]

    def stats(self, groups: Sequence[Group], names: Sequence[str]) -> list[list[dict[str, Tensor]]]:
        """Per-token statistics of the last segment of every trajectory, ``[groups][trajectories]`` of float ``[T]``.

        Taken from the sampler where it recorded them; else one scoring pass over all completions, which is
        kept in the segments.

        Args:
            names: of :data:`selfreward.policy.scoring.distribution.STATS`.

        Raises:
            UnavailableError: when they were not recorded and there is no model.
        """
        lacking = [t for g in groups for t in g for name in names if name != "logprob" and name not in t.last.stats] + [
            t for g in groups for t in g if "logprob" in names and t.last.logprobs is None
        ]
        lacking = list({id(t): t for t in lacking}.values())
        if lacking:
            wanted = [n for n in names if n != "logprob"]
            starts = [len(t.tokens) - len(t.last) for t in lacking]
            scored = self.policy.score([t.tokens for t in lacking], starts, stats=wanted, temperature=self.temperature)
            for trajectory, values in zip(lacking, scored, strict=True):
                trajectory.last.logprobs = values.pop("logprob")
                trajectory.last.stats.update(values)
        return [
            [{n: _known(t.last.logprobs) if n == "logprob" else t.last.stats[n] for n in names} for t in g]
            for g in groups
        ]


def _there(policy: Policy | None) -> Policy:
    if policy is None:
        raise UnavailableError("needs a model")
    return policy


def _known(values: Tensor | None) -> Tensor:
    assert values is not None
    return values
