"""Facts-direct: the questions of ``facts``, asked for an answer without a step.

The prompts say ``say`` in place of ``ask``; the base is that of :mod:`selfreward.lab.tasks.knowledge.facts`.
"""

from __future__ import annotations

from functools import cache

from selfreward.data.task import Task
from selfreward.lab.tasks.knowledge import facts


@cache
def load() -> Task:
    return facts.task("facts-direct", "say")


BASE = facts.BASE
