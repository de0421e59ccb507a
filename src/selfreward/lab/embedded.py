"""Embedded tasks: procedural problems whose truth is known, with a small base model for each.

A task is found by its file: ``lab/tasks/WORLD/some_name.py`` (or a folder ``some_name``) is ``embedded:some-name``. It
offers ``load() -> Task`` and ``BASE``, how its base is made; one with several has ``BASES``, by name.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from selfreward.data.task import Task
from selfreward.errors import ConfigError, nearest
from selfreward.lab import tasks
from selfreward.lab.bases import HOME, shipped
from selfreward.lab.pretraining.base import Base
from selfreward.lab.pretraining.pretrain import OnStep, Pretrained

FURTHER = {
    "chain-long-judged": "chain-long",
    "eff-signs": "eff",
    "grid-low": "grid",
    "rub-other": "rub",
    "trans-large": "trans",
    "trans-metric": "trans",
    "trans-other": "trans",
    "trans-weak-judge": "trans",
    "view-low": "view",
    "view-trap": "view",
}
"""Bases beside the one that bears its task's name, with their task."""


def discover() -> dict[str, str]:
    """Name to module, read from the files' names: ``tasks/WORLD/some_name.py``, or a folder, is ``some-name``."""
    home = Path(tasks.__file__).parent
    found = [p for p in home.glob("*/*.py") if p.stem != "__init__"] + [p.parent for p in home.glob("*/*/__init__.py")]
    return {p.stem.replace("_", "-"): f"{tasks.__name__}.{p.parent.name}.{p.stem}" for p in sorted(found)}


TASKS: dict[str, str] = discover()


def task_names() -> list[str]:
    """Names of the embedded tasks."""
    return sorted(TASKS)


def task_module(name: str) -> Any:
    """The module of a task.

    Raises:
        ConfigError: for an unknown name, with the nearest valid one.
    """
    if name not in TASKS:
        raise ConfigError(f"There is no embedded task {name!r}.{nearest(name, TASKS)}")
    return importlib.import_module(TASKS[name])


def load_task(name: str) -> Task:
    """The embedded task ``name``."""
    task: Task = task_module(FURTHER.get(name, name)).load()
    return task


def base_of(name: str) -> Base:
    """How the embedded base ``name`` is made.

    Raises:
        ConfigError: for an unknown name, with the nearest valid one.
    """
    if name not in FURTHER and name not in TASKS:
        raise ConfigError(f"There is no embedded base {name!r}.{nearest(name, [*TASKS, *FURTHER])}")
    module = task_module(FURTHER.get(name, name))
    base: Base = module.BASES[name] if hasattr(module, "BASES") else module.BASE
    return base


def build_base(name: str, out: str | Path, seed: int = 0, on_step: OnStep | None = None, **settings: Any) -> Pretrained:
    """Build the base ``name`` into folder ``out``.

    Args:
        name: an embedded base (from procedural text), or ``multi30k:FOLDER`` with line-aligned captions.
        settings: changes to the base's own
            :class:`~selfreward.lab.pretraining.pretrain.PretrainSettings`.
    """
    if name.startswith("multi30k:"):
        multi30k = importlib.import_module("selfreward.lab.tasks.multi30k_base")
        made: Pretrained = multi30k.build(out, name.removeprefix("multi30k:"), seed=seed, on_step=on_step, **settings)
        return made
    return base_of(name).build(out, seed, on_step, **settings)


def base_path(name: str) -> Path:
    """The folder of the embedded base ``name``: shipped, or (``trans``) built on first use and cached.

    Raises:
        ConfigError: for a base that is not there, with what to do about it.
    """
    if name in shipped():
        return HOME / name
    if FURTHER.get(name) == "trans":
        folder: Path = importlib.import_module("selfreward.lab.tasks.language.trans.base").base_folder(name)
        return folder
    if name in TASKS or name in FURTHER:
        raise ConfigError(
            f"The base {name!r} does not come with the package. Build it with `selfreward pretrain {name} --out DIR` "
            f"(minutes), then give --model DIR --data embedded:{FURTHER.get(name, name)}."
        )
    raise ConfigError(f"There is no embedded base {name!r}.{nearest(name, [*shipped(), *FURTHER])}")
