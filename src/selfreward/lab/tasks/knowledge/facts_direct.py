"""The questions of :mod:`selfreward.lab.tasks.knowledge.facts`, asked for an answer without steps (``say`` in place
of ``ask``)."""

from __future__ import annotations

from functools import cache

from selfreward.data.task import Task
from selfreward.lab.tasks.knowledge import facts
from selfreward.lab.tasks.knowledge.facts import _task


@cache
def load() -> Task:
    return _task("facts-direct", "say")


BASE = facts.BASE
