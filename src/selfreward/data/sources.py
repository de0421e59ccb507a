"""Sources other than files: embedded tasks, reasoning-gym, Hugging Face datasets."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from selfreward.data.files import SUFFIXES, near_names, suffix_of
from selfreward.data.rows import Table
from selfreward.errors import DataError, nearest
from selfreward.types import Prompt

NO_REFERENCE = "this task gives no answer of its own, only a scorer"


def embedded_prompts(name: str, split: str | None) -> list[Prompt]:
    """The training (or with ``split="test"`` the held-out) prompts of a task of this package."""
    from selfreward.data.schemes import load_task

    if split not in (None, "train", "test"):
        raise DataError(f"embedded:{name} has no split {split!r}; it has 'train' and 'test'.")
    task = load_task(name)
    return list(task.test if split == "test" else task.train)


def reasoning_gym_table(spec: str, limit: int | None) -> Table:
    """The rows of ``reasoning-gym:TASK?seed=0&size=500&KEY=VALUE``.

    Without a size, ``limit`` rows are made (500 without either). Some tasks (boxnet, graph_color,
    propositional_logic, rubiks_cube, rush_hour) have many right answers and name none: their
    prompts have no reference, and a field ``note`` that says so.
    """
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError:
        raise DataError(f"{spec} needs an extra: pip install 'selfreward[tasks]'.") from None
    task, _, query = spec.removeprefix("reasoning-gym:").partition("?")
    if task not in DATASETS:
        raise DataError(f"{spec}: there is no reasoning-gym task {task!r}.{nearest(task, DATASETS)}")
    valid = [f.name for f in dataclasses.fields(DATASETS[task][1])]
    settings: dict[str, Any] = {"seed": 0, "size": limit or 500}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise DataError(f"{spec}: {query!r} is not of the form key=value&key=value.") from None
    for key, text in pairs:
        if key not in valid:
            raise DataError(f"{spec}: task {task!r} has no setting {key!r}.{nearest(key, valid)}")
        try:
            settings[key] = json.loads(text)
        except (ValueError, RecursionError):
            settings[key] = text
    try:
        dataset = reasoning_gym.create_dataset(task, **settings)
    except Exception as error:
        raise DataError(f"{spec}: reasoning-gym refuses these settings: {error}") from None

    def rows() -> Iterator[tuple[int, object]]:
        for index in range(len(dataset)):
            try:
                entry = dataset[index]
            except Exception as error:
                raise DataError(f"{spec}: reasoning-gym fails at item {index}: {error}") from None
            row = {"id": f"{task}-{settings['seed']}-{index}", "task": task, "metadata": entry["metadata"]}
            note = {} if entry["answer"] is not None else {"note": NO_REFERENCE}
            yield index, {"prompt": entry["question"], "answer": entry["answer"], **row, **note}

    return Table(spec, rows(), "item")


def hub_table(spec: str, split: str | None) -> Table:
    """The rows of a ``datasets`` id: ``ID``, ``ID:CONFIG`` or ``ID:CONFIG:SPLIT``."""
    name, config, inner = [*spec.split(":", 2), "", ""][:3]
    if inner and split is not None and inner != split:
        raise DataError(f"{spec} names the split {inner!r}, but split={split!r} was given; keep one.")
    datasets = _datasets(spec)
    try:
        data = datasets.load_dataset(name, config or None, split=inner or split)
    except Exception as error:
        # Offline, gated, misspelt, unknown configuration: the library's own text says which.
        raise DataError(
            f"The dataset {spec!r} cannot be loaded: {type(error).__name__}: {error}\n"
            f"  It was taken for a Hugging Face dataset id, as there is no file of that name.{near_names(Path(spec))} "
            f"Loading an id needs the network, or an earlier download."
        ) from None
    return _dataset_table(spec, data, None)


def saved_table(path: Path, split: str | None) -> Table:
    """The rows of a folder written by ``save_to_disk``."""
    if not any((path / marker).is_file() for marker in ("dataset_dict.json", "dataset_info.json")):
        found = sorted(entry.name for entry in path.iterdir() if suffix_of(entry) in SUFFIXES)[:5]
        inside = f" Data files in it: {', '.join(found)}." if found else ""
        raise DataError(
            f"{path} is a directory; give a data file, or a folder written by save_to_disk of datasets.{inside}"
        )
    datasets = _datasets(str(path))
    try:
        data = datasets.load_from_disk(str(path))
    except Exception as error:
        raise DataError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from None
    return _dataset_table(str(path), data, split)


def _datasets(spec: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError(f"{spec} needs an extra: pip install 'selfreward[data]'.") from None
    return datasets


def _dataset_table(spec: str, data: Any, split: str | None) -> Table:
    if isinstance(data, Mapping):
        names = list(data)
        wanted = split or ("train" if "train" in names or len(names) != 1 else names[0])
        if wanted not in names:
            raise DataError(
                f"{spec} has no split {wanted!r}; it has {', '.join(map(repr, names))}. Choose with split=."
            )
        data = data[wanted]
    elif split is not None:
        raise DataError(f"{spec} is one dataset without splits; leave out split={split!r}.")
    return Table(spec, enumerate(data, start=1), "row")
