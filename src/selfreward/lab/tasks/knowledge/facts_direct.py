"""The questions of :mod:`selfreward.lab.tasks.knowledge.facts`, asked for an answer without steps (``say`` in place
of ``ask``)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.tasks.knowledge.facts import _task

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Pretrained


@cache
def load() -> Task:
    return _task("facts-direct", "say")


def build(*args: Any, **options: Any) -> Pretrained:
    """The base is that of ``facts``."""
    from selfreward.lab.tasks.knowledge import facts

    return facts.build(*args, **options)
