"""Rules and controls: rewards that need no model.

The controls are what a self-made reward is measured against: gold is the ceiling; random, constant
and format-only are the floor. Each returns one number per completion of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence, Sized
from typing import TYPE_CHECKING

from selfreward.data.answers import AnswerSpace
from selfreward.errors import RecipeError

if TYPE_CHECKING:
    from torch import Generator


def gold(completions: Sequence[str], reference: str, space: AnswerSpace) -> list[float]:
    """1.0 where the answer equals the reference. The only signal here that needs a label."""
    return [float(space.correct(c, reference)) for c in completions]


def random_reward(n: int, generator: Generator, probability: float = 0.5) -> list[float]:
    """``n`` coin flips. Not a null operation: clipping and Adam still move the weights (2506.10947)."""
    import torch

    return (torch.rand(n, generator=generator) < probability).float().tolist()


def constant(n: int, value: float = 1.0) -> list[float]:
    """The same reward for all, hence no gradient under any group baseline."""
    return [value] * n


def somebody_elses(owners: Sequence[Hashable], what: str = "a swapped control") -> list[int]:
    """For each item the index of the next one, in a circle, with another owner: whose part it gets in a control.

    Example: owners ``[a, b, b, c]`` give ``[1, 3, 3, 0]``.

    Raises:
        RecipeError: where all items have one owner: the control would be the method itself.
    """
    n = len(owners)
    found = [next(((i + k) % n for k in range(1, n) if owners[(i + k) % n] != owners[i]), None) for i in range(n)]
    if None in found:
        raise RecipeError(
            f"{what} needs two different prompts in a step, but all {n} of this one are the same. Raise "
            "prompts_per_step, or train on more prompts."
        )
    return [i for i in found if i is not None]


def format_only(completions: Sequence[str], well_formed: Callable[[str], bool]) -> list[float]:
    """1.0 for a well-formed completion, right or wrong: how much of a gain is only format."""
    return [float(well_formed(c)) for c in completions]


def length(items: Sequence[Sized], per: float = 1.0) -> list[float]:
    """Length of each item (token sequences, or texts in characters) divided by ``per``."""
    return [len(item) / per for item in items]


def repetition_rate(tokens: Sequence[Hashable], n: int = 3) -> float:
    """Share of n-grams that occurred before, in [0, 1); 0 for fewer than two n-grams.

    A string counts by words. Example: ``a b a b a b`` with ``n=2``: 5 bigrams, 2 different: 0.6.
    """
    assert n >= 1, f"n-grams need n >= 1, got {n}"
    units = tokens.split() if isinstance(tokens, str) else list(tokens)
    grams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def graded(completions: Sequence[str], reference: str, space: AnswerSpace) -> list[float]:
    """How good each completion is where the answer space can say (``space.grade``), else 1.0 where it is right."""
    grade = getattr(space, "grade", space.correct)
    return [float(grade(c, reference)) for c in completions]
