"""Embedded tasks: procedural problems whose truth is known, with a small base model for each.

A task module offers ``load() -> Task`` and ``build(out, seed, on_step, **settings) -> Pretrained``.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from selfreward.errors import ConfigError, nearest
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.answers import AnswerSpace
    from selfreward.policy import Policy

# Further bases, with their task: those that are not shipped are built on first use and cached.
VARIANTS = {f"trans-{kind}": "trans" for kind in ("weak-judge", "other", "large", "metric")}
VARIANTS |= {"view-trap": "view", "view-low": "view"}
VARIANTS["chain-teacher"] = "chain-student"
VARIANTS["rub-other"] = "rub"
VARIANTS["eff-signs"] = "eff"
VARIANTS["chain-long-judged"] = "chain-long"
VARIANTS["grid-low"] = "grid"
_MODULES = {
    "con": "selfreward.tasks.con",
    "prefs": "selfreward.tasks.prefs",
    "chat": "selfreward.tasks.chat",
    "chain-sure": "selfreward.tasks.chain_sure",
    "chain-student": "selfreward.tasks.chain_student",
    "trans-pairs": "selfreward.tasks.trans_pairs",
    "rub": "selfreward.tasks.rub",
    "report": "selfreward.tasks.report",
    "chain": "selfreward.tasks.chain",
    "chain-long": "selfreward.tasks.chain_long",
    "chain-wide": "selfreward.tasks.chain_wide",
    "chain-steep": "selfreward.tasks.chain_steep",
    "fact": "selfreward.tasks.fact",
    "trans": "selfreward.tasks.trans",
    "chain-paths": "selfreward.tasks.chain_paths",
    "chain-writer": "selfreward.tasks.chain_writer",
    "cd": "selfreward.tasks.cd",
    "view": "selfreward.tasks.view",
    "grid": "selfreward.tasks.grid",
    "steps": "selfreward.tasks.steps",
    "chain-reserved": "selfreward.tasks.reserved",
    "eff": "selfreward.tasks.eff",
    "games": "selfreward.tasks.games",
    "facts": "selfreward.tasks.facts",
    "facts-direct": "selfreward.tasks.facts_direct",
    "fix": "selfreward.tasks.fix",
    "steps-verify": "selfreward.tasks.steps_verify",
    "chain-hint": "selfreward.tasks.chain_hint",
    "dsl": "selfreward.tasks.dsl",
}

Split = Literal["pretrain", "train", "test"]
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """What a training run needs to know of a task.

    Attributes:
        train, test: prompts with reference answers; disjoint from each other and from the text that
            the base was pre-trained on.
        answers: how answers are found and compared.
        well_formed: whether a completion has the task's format.
        settings: recommended training settings, by the names of the run configuration.
        templates: prompt templates (judges, verdict words) by name, for ``Policy.ask``.
        metric: the held-out metric that says how good a model is.
        evaluator: measures a policy where answers are not simply right or wrong; None is
            :func:`selfreward.evaluation.evaluate` on ``test``.
        similarity: how alike two answers are, in [0, 1], where hardly any two are equal; None is equality.
    """

    name: str
    train: list[Prompt]
    test: list[Prompt]
    answers: AnswerSpace
    well_formed: Callable[[str], bool]
    settings: dict[str, Any] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)
    metric: str = "pass@1"
    evaluator: Callable[[Policy], dict[str, Any]] | None = None
    similarity: Callable[[str, str], float] | None = None


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


def task_from_file(spec: str) -> Task:
    """A user's task: ``FILE.py`` with a function ``load() -> Task``, or ``FILE.py:FUNCTION``.

    Raises:
        ConfigError: if there is no such file or function.
        UserCodeError: if it fails, or gives something else than a usable task.
    """
    from selfreward.userland import UserCodeError, blaming, load_module

    path, _, name = spec.partition(":")
    function = getattr(load_module(Path(path), "Task"), name or "load", None)
    if not callable(function):
        raise ConfigError(f"{path} has no function {name or 'load'}() that gives a Task.")
    with blaming(f"{name or 'load'}() made the task"):
        task = function()
    if not isinstance(task, Task):
        raise UserCodeError(f"{spec}: {name or 'load'}() gave a {type(task).__name__}, not a Task.")
    for part in ("train", "test"):
        odd = next((p for p in getattr(task, part) if not isinstance(p, Prompt)), None)
        if odd is not None:
            raise UserCodeError(f"{spec}: {part} holds a {type(odd).__name__}, not a Prompt.")
    if not task.train:
        raise UserCodeError(f"{spec}: the task has no prompts to train on.")
    return task


def base_path(name: str) -> Path:
    """The folder of the embedded base ``name``: shipped, or (``trans``) built on first use and cached.

    Raises:
        ConfigError: for a base that is not there, with what to do about it.
    """
    home = Path(__file__).parent.parent / "bases"
    shipped = sorted(p.parent.name for p in home.glob("*/config.json"))
    if name in shipped:
        return home / name
    if VARIANTS.get(name) == "trans":
        from selfreward.tasks.trans_base import base_folder

        return base_folder(name)
    if name in _MODULES or name in VARIANTS:
        raise ConfigError(
            f"The base {name!r} does not come with the package. Build it with `selfreward pretrain {name} --out DIR` "
            f"(minutes), then give --model DIR --data embedded:{VARIANTS.get(name, name)}."
        )
    raise ConfigError(f"There is no embedded base {name!r}.{nearest(name, [*shipped, *VARIANTS])}")


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
