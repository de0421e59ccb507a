"""The questions of :mod:`selfreward.tasks.facts`, asked for an answer without steps (``say`` in place of ``ask``)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.tasks import Task
from selfreward.tasks.facts import _task

if TYPE_CHECKING:
    from selfreward.pretrain import Pretrained


@cache
def load() -> Task:
    return _task("facts-direct", "say")


def build(*args: Any, **options: Any) -> Pretrained:
    """The base is that of ``facts``."""
    from selfreward.tasks import facts

    return facts.build(*args, **options)
