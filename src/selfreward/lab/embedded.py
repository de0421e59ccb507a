"""Embedded tasks: procedural problems whose truth is known, with a small base model for each.

A task module offers ``load() -> Task`` and ``build(out, seed, on_step, **settings) -> Pretrained``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.errors import ConfigError, nearest
from selfreward.lab.bases import HOME, shipped
from selfreward.lab.pretraining.pretrain import Pretrained

if TYPE_CHECKING:
    pass


# ---- embedded bases ------------------------------------------------------------------------------


def build_base(
    name: str,
    out: str | Path,
    seed: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    **settings: Any,
) -> Pretrained:
    """Build the base ``name`` into folder ``out``.

    Args:
        name: an embedded task (from procedural text), a variant of its base (``trans-other``), or
            ``multi30k:FOLDER`` with line-aligned captions.
        settings: changes to the task's own :class:`PretrainSettings`.
    """
    if name.startswith("multi30k:"):
        multi30k = importlib.import_module("selfreward.lab.tasks.language.multi30k_base")
        return multi30k.build(out, name.removeprefix("multi30k:"), seed=seed, on_step=on_step, **settings)
    if name in VARIANTS:
        settings["variant"] = name
    made: Pretrained = task_module(VARIANTS.get(name, name)).build(out, seed=seed, on_step=on_step, **settings)
    return made


# Further bases, with their task: those that are not shipped are built on first use and cached.
VARIANTS = {f"trans-{kind}": "trans" for kind in ("weak-judge", "other", "large", "metric")}


VARIANTS |= {"view-trap": "view", "view-low": "view"}
VARIANTS["chain-teacher"] = "chain-student"
VARIANTS["rub-other"] = "rub"
VARIANTS["eff-signs"] = "eff"
VARIANTS["chain-long-judged"] = "chain-long"
VARIANTS["grid-low"] = "grid"


_MODULES = {
    "con": "selfreward.lab.tasks.writing.con",
    "prefs": "selfreward.lab.tasks.writing.prefs",
    "chat": "selfreward.lab.tasks.writing.chat",
    "chain-sure": "selfreward.lab.tasks.arithmetic.chain_sure",
    "chain-student": "selfreward.lab.tasks.arithmetic.chain_student",
    "trans-pairs": "selfreward.lab.tasks.language.trans_pairs",
    "rub": "selfreward.lab.tasks.writing.rub",
    "report": "selfreward.lab.tasks.writing.report",
    "chain": "selfreward.lab.tasks.arithmetic.chain",
    "chain-long": "selfreward.lab.tasks.arithmetic.chain_long",
    "chain-wide": "selfreward.lab.tasks.arithmetic.chain_wide",
    "chain-steep": "selfreward.lab.tasks.arithmetic.chain_steep",
    "fact": "selfreward.lab.tasks.knowledge.fact",
    "trans": "selfreward.lab.tasks.language.trans",
    "chain-paths": "selfreward.lab.tasks.arithmetic.chain_paths",
    "chain-writer": "selfreward.lab.tasks.arithmetic.chain_writer",
    "cd": "selfreward.lab.tasks.arithmetic.cd",
    "view": "selfreward.lab.tasks.arithmetic.view",
    "grid": "selfreward.lab.tasks.pictures.grid",
    "steps": "selfreward.lab.tasks.arithmetic.steps",
    "chain-reserved": "selfreward.lab.tasks.arithmetic.chain_reserved",
    "eff": "selfreward.lab.tasks.arithmetic.eff",
    "games": "selfreward.lab.tasks.boards.games",
    "facts": "selfreward.lab.tasks.knowledge.facts",
    "facts-direct": "selfreward.lab.tasks.knowledge.facts_direct",
    "fix": "selfreward.lab.tasks.arithmetic.fix",
    "steps-verify": "selfreward.lab.tasks.arithmetic.steps_verify",
    "chain-hint": "selfreward.lab.tasks.arithmetic.chain_hint",
    "dsl": "selfreward.lab.tasks.programs.dsl",
}


def task_names() -> list[str]:
    """Names of the embedded tasks."""
    return sorted(_MODULES)


def task_module(name: str) -> Any:
    """The module of a task.

    Raises:
        ConfigError: for an unknown name, with the nearest valid one.
    """
    if name not in _MODULES:
        raise ConfigError(f"There is no embedded task {name!r}.{nearest(name, _MODULES)}")
    return importlib.import_module(_MODULES[name])


def load_task(name: str) -> Task:
    """The embedded task ``name``."""
    task: Task = task_module(VARIANTS.get(name, name)).load()
    return task


def base_path(name: str) -> Path:
    """The folder of the embedded base ``name``: shipped, or (``trans``) built on first use and cached.

    Raises:
        ConfigError: for a base that is not there, with what to do about it.
    """
    if name in shipped():
        return HOME / name
    if VARIANTS.get(name) == "trans":
        folder: Path = importlib.import_module("selfreward.lab.tasks.language.trans.base").base_folder(name)
        return folder
    if name in _MODULES or name in VARIANTS:
        raise ConfigError(
            f"The base {name!r} does not come with the package. Build it with `selfreward pretrain {name} --out DIR` "
            f"(minutes), then give --model DIR --data embedded:{VARIANTS.get(name, name)}."
        )
    raise ConfigError(f"There is no embedded base {name!r}.{nearest(name, [*shipped(), *VARIANTS])}")
