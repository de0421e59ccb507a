"""What a named signal may look at when it scores groups, and how it is called.

A *scorer* is a function ``score(context, groups, **options)`` that returns one float (or None: no value)
per completion of every group. It gets all groups at once, so that a model sees one batch and not one call
per group. What it needs it takes from the :class:`Context`; what is not there raises :class:`UnavailableError`
with a sentence, and the audit says so beside the signal's name instead of failing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from selfreward.errors import UserError
from selfreward.types import Group, Prompt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from selfreward.data.answers import AnswerSpace
    from selfreward.policy.policy import Policy
    from selfreward.policy.sampling.params import SamplingParams


Scores = list[list[float | None]]


# The column that holds another wording of the question, with the same answer.
TWIN = "twin"


class UnavailableError(UserError):
    """What a signal needs is not there: a model, a template, another view, an answer."""


@dataclass
class Context:
    """The task around the groups, and what has been worked out about them already.

    Attributes:
        answers: how answers are found and compared.
        well_formed: whether a completion keeps to the format.
        templates: prompt templates of the task by name.
        policy: the model; None when only texts are at hand.
        reference: the model as it was at the start; the policy itself where training has not begun.
        sampling: how the groups were sampled, and how views are.
    """

    answers: AnswerSpace
    well_formed: Callable[[str], bool]
    templates: dict[str, str] = field(default_factory=dict)
    policy: Policy | None = None
    reference: Policy | None = None
    sampling: SamplingParams | None = None
    seed: int = 0
    _answers: dict[int, tuple[Group, list[str | None]]] = field(default_factory=dict, repr=False)
    _classes: dict[int, tuple[list[int | None], list[int | None]]] = field(default_factory=dict, repr=False)
    _views: dict[int, Group] = field(default_factory=dict, repr=False)

    # Caches go by identity and hold the group, so that an id cannot come back for another group.

    def model(self) -> Policy:
        """The policy.

        Raises:
            UnavailableError: when there is none.
        """
        if self.policy is None:
            raise UnavailableError("needs a model (--model)")
        return self.policy

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

    def answers_of(self, group: Group) -> list[str | None]:
        """The final answer of every completion."""
        if id(group) not in self._answers:
            # Few distinct texts are common: read each of them once.
            found = {text: self.answers.extract(text) for text in group.completions}
            self._answers[id(group)] = group, [found[text] for text in group.completions]
        return self._answers[id(group)][1]

    def classes(self, group: Group) -> list[int | None]:
        """The answer class of every completion; None where no answer was found."""
        return self.shared_classes(group)[0]

    def shared_classes(self, group: Group) -> tuple[list[int | None], list[int | None]]:
        """Classes of the group and of its other view (empty where :meth:`views` was not called), numbered together."""
        from selfreward.signals.vote import cluster_views

        other = self._views.get(id(group))
        found = self._classes.get(id(group))
        if found is None or (other is not None and not found[1]):
            found = cluster_views(self.answers_of(group), self.answers_of(other) if other else [], self.answers)
            self._classes[id(group)] = found
        return found

    def views(self, groups: Sequence[Group]) -> list[Group]:
        """A group of answers to another wording of each question; sampled once, in one batch.

        Raises:
            UnavailableError: unless every prompt has a field ``twin`` (and there is a model), or every group brings
                a group as ``meta["view"]``.
        """
        from selfreward.runtime.seeding import stream_seed

        missing = [g for g in groups if id(g) not in self._views]
        for group in missing:
            if "view" in group.meta:
                self._views[id(group)] = group.meta["view"]
        missing = [g for g in missing if id(g) not in self._views]
        if missing:
            if any(not g.prompt.fields.get(TWIN) for g in missing):
                raise UnavailableError(f"needs another view of every question (a field {TWIN!r} with a rewording)")
            prompts = [Prompt(g.prompt.id, text=str(g.prompt.fields[TWIN])) for g in missing]
            # Other random numbers than the groups had, or the two views would not be independent.
            own_seed = stream_seed(self.seed, TWIN)
            drawn = self.model().sample(prompts, len(missing[0]), self.sampling, view=TWIN, seed=own_seed)
            for group, view in zip(missing, drawn, strict=True):
                self._answers.setdefault(id(group), (group, self.answers_of(group)))
                self._views[id(group)] = view
        return [self._views[id(g)] for g in groups]

    def stats(self, groups: Sequence[Group], names: Sequence[str]) -> list[list[dict[str, Tensor]]]:
        """Per-token statistics of the last segment of every trajectory, each float ``[T]``.

        Taken from the sampler where it recorded them; else one scoring pass over all completions, which is
        kept in the segments.

        Raises:
            UnavailableError: when they were not recorded and there is no model.
        """
        lacking = [t for g in groups for t in g for name in names if name != "logprob" and name not in t.last.stats] + [
            t for g in groups for t in g if "logprob" in names and t.last.logprobs is None
        ]
        lacking = list({id(t): t for t in lacking}.values())
        if lacking:
            policy = self.model()
            wanted = [n for n in names if n != "logprob"]
            temperature = self.sampling.temperature if self.sampling and self.sampling.temperature > 0 else 1.0
            starts = [len(t.tokens) - len(t.last) for t in lacking]
            scored = policy.score([t.tokens for t in lacking], starts, stats=wanted, temperature=temperature)
            for trajectory, values in zip(lacking, scored, strict=True):
                trajectory.last.logprobs = values.pop("logprob")
                trajectory.last.stats.update(values)
        return [
            [{n: _known(t.last.logprobs) if n == "logprob" else t.last.stats[n] for n in names} for t in g]
            for g in groups
        ]

    def generator(self, *key: object) -> torch.Generator:
        """A CPU generator that depends on the seed and ``key`` only."""
        import torch

        from selfreward.runtime.seeding import stream_seed

        return torch.Generator().manual_seed(stream_seed(self.seed, *key))


def _known(values: Tensor | None) -> Tensor:
    assert values is not None
    return values


def record_stats(sampling: SamplingParams) -> SamplingParams:
    """The same sampling with every statistic taken along, so that no signal needs a second pass for one."""
    from selfreward.policy.scoring.distribution import STATS

    return replace(sampling, stats=tuple(dict.fromkeys((*sampling.stats, *(s for s in STATS if s != "logprob")))))
