"""Scorers of the signals that several methods share. See :mod:`selfreward.signals.context` for what a scorer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfreward.data.rollout_files import CHARACTERS
from selfreward.signals import rules
from selfreward.signals.context import Context, Scores, UnavailableError
from selfreward.types import Group, Segment

# ---- rules and controls --------------------------------------------------------------------------


def gold(context: Context, groups: Sequence[Group]) -> Scores:
    if any(g.prompt.answer is None for g in groups):
        raise UnavailableError("needs a reference answer for every prompt")
    return [list(rules.gold(g.completions, str(g.prompt.answer), context.answers)) for g in groups]


def random(context: Context, groups: Sequence[Group]) -> Scores:
    return [list(rules.random_reward(len(g), context.generator("coin", g.key))) for g in groups]


def format_only(context: Context, groups: Sequence[Group]) -> Scores:
    return [list(rules.format_only(g.completions, context.well_formed)) for g in groups]


def length(context: Context, groups: Sequence[Group]) -> Scores:
    """In tokens where they are known, else in characters."""
    return [list(rules.length([t.last.tokens.tolist() for t in g])) for g in groups]


def repetition(context: Context, groups: Sequence[Group], n: int = 3) -> Scores:
    """Of tokens where they are known, else of words."""
    return [[rules.repetition_rate(_units(t.last), n) for t in g] for g in groups]


def _units(segment: Segment) -> Any:
    return segment.text if CHARACTERS in segment.meta else segment.tokens.tolist()
