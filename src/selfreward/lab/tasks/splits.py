"""Splits of procedural problems into pre-training, training and test, and prompts made from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

from selfreward.types import Prompt

Split = Literal["pretrain", "train", "test"]
T = TypeVar("T")


class Problem(Protocol):
    """A question with a known answer."""

    @property
    def text(self) -> str: ...

    @property
    def answer(self) -> Any: ...


def first_distinct(source: Iterable[T], n: int, key: Callable[[T], str]) -> list[T]:
    """The first ``n`` items of ``source`` (which may be endless) with different keys."""
    found: dict[str, T] = {}
    for item in source:
        if len(found) == n:
            break
        found.setdefault(key(item), item)
    return list(found.values())


def split_of(key: str) -> Split:
    """The split that the problem with this canonical key belongs to: 60% pretrain, 20% train, 20% test.

    A hash, not a list: any generator of problems, now or later, respects the same borders.
    """
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 10
    return "pretrain" if bucket < 6 else "train" if bucket < 8 else "test"


def as_prompts(problems: Iterable[Problem], n: int, label: str = "") -> list[Prompt]:
    """The first ``n`` problems as prompts with their answers; their ids are the label and their place."""
    return [Prompt(f"{label}{i}", p.text, reference=str(p.answer)) for i, p in enumerate(islice(problems, n))]
