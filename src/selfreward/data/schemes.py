"""Words before a colon that name data or a model, and the package that answers to each.

``embedded:chain`` is a task and a small model of the lab. Without the lab, these schemes say that they are not
installed, and everything else works.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError, nearest

if TYPE_CHECKING:
    from selfreward.data.task import Task

SCHEMES: dict[str, str] = {
    "embedded": "selfreward.lab.embedded",
    "multi30k": "selfreward.lab.tasks.multi30k",
    "translation": "selfreward.evaluation.translation_task",
}


def provider(scheme: str) -> Any:
    """The module that answers to ``scheme:``.

    Raises:
        ConfigError: for an unknown scheme, or one whose package is not installed.
    """
    if scheme not in SCHEMES:
        raise ConfigError(f"Nothing here is called {scheme + ':'!r}.{nearest(scheme, SCHEMES)}")
    try:
        return import_module(SCHEMES[scheme])
    except ModuleNotFoundError as error:
        if not SCHEMES[scheme].startswith(str(error.name)):
            raise
        raise ConfigError(f"{scheme}: needs {SCHEMES[scheme]}, which is not installed.") from None


def load_task(name: str) -> Task:
    """The task ``NAME`` or ``embedded:NAME`` of the lab, or what ``FILE.py[:FUNCTION]`` gives."""
    if name.partition(":")[0].endswith(".py"):
        from selfreward.data.task import task_from_file

        return task_from_file(name)
    task: Task = provider("embedded").load_task(name.removeprefix("embedded:"))
    return task


def base_path(name: str) -> Path:
    """The folder of the embedded base ``name``."""
    folder: Path = provider("embedded").base_path(name)
    return folder
