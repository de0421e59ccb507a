"""Rules and controls on whole groups: the reference answer, a coin, the format, length and repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfreward.data.rollout_files import CHARACTERS
from selfreward.errors import UnavailableError
from selfreward.rollouts.run import RunContext
from selfreward.signals import rules
from selfreward.signals.registry import Scores
from selfreward.types import Group, Segment

# ---- rules and controls --------------------------------------------------------------------------


def gold(run: RunContext, groups: Sequence[Group]) -> Scores:
    """1 for a right answer, else 0."""
    if any(g.prompt.answer is None for g in groups):
        raise UnavailableError("needs a reference answer for every prompt")
    return [list(rules.gold(g.completions, str(g.prompt.answer), run.answers)) for g in groups]


def random(run: RunContext, groups: Sequence[Group]) -> Scores:
    """A fair coin per completion, 0 or 1."""
    return [list(rules.random_reward(len(g), run.generator("coin", g.key))) for g in groups]


def format_only(run: RunContext, groups: Sequence[Group]) -> Scores:
    """1 for a well-formed completion, right or wrong, else 0."""
    return [list(rules.format_only(g.completions, run.well_formed)) for g in groups]


def length(run: RunContext, groups: Sequence[Group]) -> Scores:
    """In tokens where they are known, else in characters."""
    return [list(rules.length([t.last.tokens.tolist() for t in g])) for g in groups]


def repetition(run: RunContext, groups: Sequence[Group], n: int = 3) -> Scores:
    """Of tokens where they are known, else of words."""
    return [[rules.repetition_rate(_units(t.last), n) for t in g] for g in groups]


def _units(segment: Segment) -> Any:
    return segment.text if CHARACTERS in segment.meta else segment.tokens.tolist()
