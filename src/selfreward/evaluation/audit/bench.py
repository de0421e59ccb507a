"""What an audit works out once for all signals: rollouts, truths, lengths, halves, other views, costs."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from selfreward.evaluation.audit import blind, measures
from selfreward.rollouts.rewording import TWIN
from selfreward.rollouts.run import RunContext
from selfreward.signals.named import score_groups
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

Arrays = list[np.ndarray]
Labels = list[str | None]


@dataclass
class Cost:
    """Work beyond what was there already."""

    forwards: int = 0
    generated: int = 0
    scored: int = 0
    seconds: float = 0.0


class Meter:
    """Counts forwards of the model and tokens by purpose."""

    def __init__(self, policy: Policy | None) -> None:
        self.policy = policy
        self.costs: dict[str, Cost] = {}

    @contextlib.contextmanager
    def of(self, purpose: str) -> Iterator[None]:
        """Charge what happens inside to ``purpose``."""
        from selfreward.policy.architecture import causal_model

        cost = self.costs.setdefault(purpose, Cost())
        before, start, hook = self._tokens(), time.perf_counter(), None
        if self.policy is not None:
            hook = causal_model(self.policy.model).base_model.register_forward_pre_hook(lambda *_: _count(cost))
        try:
            yield
        finally:
            if hook is not None:
                hook.remove()
            after = self._tokens()
            cost.generated += after[0] - before[0]
            cost.scored += after[1] - before[1]
            cost.seconds += time.perf_counter() - start

    def _tokens(self) -> tuple[int, int]:
        if self.policy is None:
            return 0, 0
        return sum(self.policy.counts.generated.values()), sum(self.policy.counts.scored.values())


def _count(cost: Cost) -> None:
    cost.forwards += 1


@dataclass
class Bench:
    """Groups on the bench.

    Attributes:
        truths: per group the truth of every completion in [0, 1], NaN where it may not be known.
        exact: whether the answer is right, 0 or 1; differs from a truth that is graded.
        views: the groups of answers to the other wording, or None.
        view_label: what a vote among them elects.
        vote_label: what a vote of the group elects.
        chance: how often two wrong labels coincide, see :mod:`selfreward.evaluation.audit.blind`.
        blindfolded: no truth may be looked at, not even by a signal.
        same: how often the vote's labels of two different prompts coincide.
    """

    context: RunContext
    groups: list[Group]
    truths: Arrays
    exact: Arrays
    lengths: Arrays
    formed: Arrays
    halves: tuple[list[Group], list[Group]]
    views: list[Group] | None = None
    view_label: Labels = field(default_factory=list)
    vote_label: Labels = field(default_factory=list)
    blindfolded: bool = False
    chance: float = math.nan
    same: float = math.nan

    @property
    def labelled(self) -> list[int]:
        """The groups whose truth is known."""
        return [i for i, t in enumerate(self.truths) if not np.isnan(t).any()]

    def label(self, group: Group, score: np.ndarray) -> str | None:
        """The answer that a score elects in a group, as it is written there."""
        classes = self.context.classes(group)
        winner = measures.elected(score, classes)
        if winner is None:
            return None
        return next(a for a, c in zip(self.context.answers_of(group), classes, strict=True) if c == winner)

    def labels(self, groups: Sequence[Group], scores: Sequence[np.ndarray]) -> Labels:
        return [self.label(g, s) for g, s in zip(groups, scores, strict=True)]

    def agreements(self, first: Labels, second: Labels) -> list[float]:
        """1 where two labels exist and mean the same. Two missing labels do not agree."""
        space = self.context.answers
        return [
            float(a is not None and b is not None and (space.equivalent(a, b) or space.equivalent(b, a)))
            for a, b in zip(first, second, strict=True)
        ]

    def members(self, labels: Labels) -> Arrays:
        """Per group 1 for every completion that answers with the group's label; NaN without a label."""
        result = []
        for group, label in zip(self.groups, labels, strict=True):
            if label is None:
                result.append(np.full(len(group), np.nan))
                continue
            answers = self.context.answers_of(group)
            known = {a: self.agreements([a], [label])[0] for a in dict.fromkeys(answers)}
            result.append(np.array([known[a] for a in answers]))
        return result


def make_bench(
    context: RunContext,
    groups: list[Group],
    own_truths: list[list[float]] | None,
    labels: int | None,
    quality: Callable[[str | None, str], float] | None,
    meter: Meter,
) -> Bench:
    """Args: ``own_truths`` as given with the rollouts; ``labels`` how many prompts' truth may be looked at;
    ``quality`` a graded truth of an answer against a reference."""
    truths, exact = _truths(context, groups, own_truths, math.inf if labels is None else labels, quality)
    bench = Bench(
        context=context,
        groups=groups,
        truths=truths,
        exact=exact,
        lengths=[np.array([len(t.last) for t in g], dtype=float) for g in groups],
        formed=[np.array([context.well_formed(c) for c in g.completions], dtype=float) for g in groups],
        halves=([_half(g, 0) for g in groups], [_half(g, 1) for g in groups]),
    )
    if all("view" in g.meta for g in groups) or (context.has_model and all(g.prompt.fields.get(TWIN) for g in groups)):
        with meter.of("other view"):
            bench.views = context.views(groups)
        bench.view_label = bench.labels(bench.views, _votes(context, bench.views))
    bench.vote_label = bench.labels(groups, _votes(context, groups))
    forms = [None if label is None else context.answers.canonical(label) for label in bench.vote_label]
    bench.same, bench.chance = blind.collision(forms), blind.wrong_collision(forms)
    return bench


def _truths(
    context: RunContext,
    groups: Sequence[Group],
    own: list[list[float]] | None,
    budget: float,
    quality: Callable[[str | None, str], float] | None,
) -> tuple[Arrays, Arrays]:
    truths, exact = [], []
    for i, group in enumerate(groups):
        row = np.full(len(group), np.nan) if own is None else np.array(own[i], dtype=float)
        right = np.where(np.isnan(row), np.nan, (row > 0.5).astype(float))
        reference = group.prompt.reference
        if budget > 0 and np.isnan(row).any() and reference is not None:
            checked = {c: float(context.answers.correct(c, reference)) for c in set(group.completions)}
            row = right = np.array([checked[c] for c in group.completions])
            if quality is not None:
                row = np.array([quality(a, reference) for a in context.answers_of(group)], dtype=float)
        if budget <= 0 or np.isnan(row).any():
            row = right = np.full(len(group), np.nan)
        else:
            budget -= 1
        truths.append(row)
        exact.append(right)
    return truths, exact


def _half(group: Group, which: int) -> Group:
    return Group(f"{group.key}/half{which}", group.prompt, group.trajectories[which::2])


def _votes(context: RunContext, groups: Sequence[Group]) -> Arrays:
    return [np.array(row, dtype=float) for row in score_groups("vote", context, groups)]
