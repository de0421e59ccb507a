"""Like for like: several recipes from the same start, on the same prompts, with the same budget.

Every arm and seed is an ordinary training run in its own folder ``OUT/ARM/seed-N``; arms that are
finished are read, not run again, and interrupted ones are resumed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from selfreward.errors import ConfigError, UserError
from selfreward.runtime.files import last_record, write_text
from selfreward.training.config import TrainConfig, make_config

Progress = Callable[[str, int, dict[str, Any]], None]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a label, a recipe, its options, and run settings of its own (another base, say)."""

    label: str
    recipe: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A side of a comparison that is no training run: selection at test time, offline scoring, a count.

    ``measure(seed, folder)`` returns ``after`` (metrics), and if it likes ``before``, ``best``, ``tokens``
    and ``mechanism`` (``name``, ``count``). It must be a function of a module: it runs in a process of its own.
    """

    label: str
    measure: Callable[[int, Path], dict[str, Any]]
    labels: str = "none"
    control: bool = False


def parse_arm(text: str) -> Arm:
    """``vote``, ``vote:missing=own,quorum=0.5`` or ``label=vote:missing=own``.

    Raises:
        ConfigError: for an option without ``=``.
    """
    head, _, tail = text.partition(":")
    if head.endswith(".py") and tail and "=" not in tail.split(",")[0]:
        return Arm(tail, text)  # file.py:Class
    label, equals, recipe = head.partition("=")
    options = {}
    for part in filter(None, tail.split(",")):
        key, sign, value = part.partition("=")
        if not sign:
            raise ConfigError(f"Arm {text!r}: {part!r} is not KEY=VALUE.")
        options[key.strip()] = value.strip()
    return Arm(label if equals else text.replace("/", "-"), recipe if equals else head, options)


def compare(
    arms: Sequence[Arm | Study],
    settings: Mapping[str, Any],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    controls: bool = False,
    out: str | Path = "runs/compare",
    jobs: int = 1,
    progress: Progress | None = None,
    title: str = "",
) -> dict[str, Any]:
    """Run all arms and write ``OUT/compare.json``.

    Args:
        settings: configuration shared by all arms (model, data, steps, ...).
        controls: also run the gold, random and format-only arms.
        jobs: runs at once, each in its own process with one thread.
        progress: called with (arm, seed, latest record) while runs go on.
        title: recorded as the comparison's name.

    Returns:
        The content of ``compare.json``, as in :class:`CompareResult`.

    Raises:
        ConfigError: for two arms of one label, or without an arm or a seed.
        UserError: if an arm fails; the finished arms stay on disk.
    """
    everything = _with_controls(arms) if controls else list(arms)
    labels = [a.label for a in everything]
    if len(set(labels)) != len(labels):
        raise ConfigError(f"Two arms have the same label: {', '.join(sorted(labels))}. Use label=recipe:options.")
    if not everything or not seeds:
        raise ConfigError("A comparison needs at least one arm and one seed.")
    root = Path(out)
    runs: dict[Key, Run] = {}
    for seed in seeds:
        for arm in everything:
            folder = root / arm.label / f"seed-{seed}"
            runs[arm.label, seed] = (
                (arm, seed, folder) if isinstance(arm, Study) else _config(arm, settings, seed, folder)
            )
    root.mkdir(parents=True, exist_ok=True)
    summaries = _run_all(runs, jobs, progress or (lambda arm, seed, record: None))
    result = _result(everything, seeds, runs, summaries, settings, title).to_dict()
    write_text(root / "compare.json", json.dumps(result, indent=1))
    return result


@dataclass(frozen=True)
class ArmResult:
    """What one arm reached.

    Attributes:
        recipe: None for a :class:`Study`.
        labels: what it may read of the truth: ``none``, ``outcome``, ...
        seeds: per seed the metrics ``before``, ``after`` and at the ``best`` step, ``tokens``, ``wall_s`` (seconds of
            training), ``mechanism`` and ``alarms``.
    """

    recipe: str | None
    options: dict[str, Any]
    labels: str
    control: bool
    seeds: list[dict[str, Any]]


@dataclass(frozen=True)
class CompareResult:
    """The content of ``compare.json``.

    Attributes:
        task, base: data and start that the first training arm had.
        metric: by which the task is judged.
        budget: ``steps`` of the first training arm, and the most ``tokens`` that any run generated.
        settings: what all arms share.
        arms: by label, in the order in which they were given.
    """

    task: str
    base: str
    metric: str
    budget: dict[str, int]
    settings: dict[str, Any]
    arms: dict[str, ArmResult]
    title: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As it is written: the title first, and only where there is one."""
        written = asdict(self)
        title = written.pop("title")
        return {"title": title, **written} if title else written


Run = TrainConfig | tuple[Study, int, Path]
Key = tuple[str, int]
"""Label and seed."""


def _with_controls(arms: Sequence[Arm | Study]) -> list[Arm | Study]:
    from selfreward.recipes.registry import CONTROLS

    present = {a.recipe for a in arms if isinstance(a, Arm)}
    return [*arms, *(Arm(name, name) for name in CONTROLS if name not in present)]


def _result(
    arms: Sequence[Arm | Study],
    seeds: Sequence[int],
    runs: Mapping[Key, Run],
    summaries: Mapping[Key, dict[str, Any]],
    settings: Mapping[str, Any],
    title: str,
) -> CompareResult:
    """The summaries of all runs as one result."""
    trained = next((key for key, run in runs.items() if isinstance(run, TrainConfig)), None)
    first = summaries[trained] if trained else {"data": settings.get("data") or settings.get("model", ""), "steps": 0}
    config = runs[trained] if trained else None
    shared = config.to_dict() if isinstance(config, TrainConfig) else dict(settings)
    tokens = max(s["tokens"].get("generated", 0) for s in summaries.values())
    return CompareResult(
        task=first["data"],
        base=first.get("model", settings.get("model", "")),
        metric=first.get("metric", "pass@1"),
        budget={"steps": first["steps"], "tokens": tokens},
        settings={k: v for k, v in shared.items() if k not in ("recipe", "options", "seed", "out")},
        arms={arm.label: _arm_result(arm, {seed: summaries[arm.label, seed] for seed in seeds}) for arm in arms},
        title=title,
    )


def _arm_result(arm: Arm | Study, summaries: Mapping[int, dict[str, Any]]) -> ArmResult:
    kept = ("before", "after", "best", "tokens", "wall_s", "mechanism", "alarms")
    first = next(iter(summaries.values()))
    return ArmResult(
        recipe=arm.recipe if isinstance(arm, Arm) else None,
        options=dict(arm.options) if isinstance(arm, Arm) else {},
        labels=first["labels"],
        control=first["control"],
        seeds=[{"seed": seed, **{k: summary[k] for k in kept}} for seed, summary in summaries.items()],
    )


def _config(arm: Arm, settings: Mapping[str, Any], seed: int, folder: Path) -> TrainConfig:
    return make_config(
        {
            **settings,
            **arm.settings,
            "recipe": arm.recipe,
            "options": {**settings.get("options", {}), **arm.settings.get("options", {}), **arm.options},
            "seed": seed,
            "out": str(folder),
        }
    )


def run_study(study: Study, seed: int, folder: Path) -> dict[str, Any]:
    """What a study measured: read where it is there already, else measured and written as ``summary.json``."""
    file = folder / "summary.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    found = {
        "labels": study.labels,
        "control": study.control,
        "before": {},
        "best": {},
        "tokens": {},
        "alarms": [],
        "mechanism": {"name": "", "count": 0},
        **study.measure(seed, folder),
        "seed": seed,
        "wall_s": round(time.perf_counter() - begun, 2),
    }
    write_text(file, json.dumps(found, indent=1))
    return found


def run_one(config: TrainConfig, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The summary of one run: read, resumed, or trained from the start."""
    from selfreward.recipes.registry import load_recipe
    from selfreward.training.launch import resume, start

    out = Path(config.out)
    wanted = config.to_dict() | {"options": vars(load_recipe(config.recipe, config.options))}
    if (out / "summary.json").is_file():
        from selfreward.training.config import read_config

        # A run from before a setting existed ran with what is now its default.
        recorded = TrainConfig().to_dict() | read_config(out / "config.yaml")
        given = {k: v for k, v in wanted.items() if v is not None and k not in ("options", "out")}
        changed = [k for k, v in given.items() if recorded.get(k) != v]
        changed += [k for k, v in config.options.items() if recorded.get("options", {}).get(k) != v]
        if changed:
            raise ConfigError(
                f"{out} holds a finished run with another {', '.join(changed)}. Choose another --out, or remove it."
            )
        summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        return summary
    if (out / "checkpoints").is_dir():
        trainer, _ = resume(out, [])
        return trainer.fit()
    return start(config).fit(before)


def _run_all(runs: Mapping[Key, Run], jobs: int, progress: Progress) -> dict[Key, dict[str, Any]]:
    """Every run, ``jobs`` at a time; the records that runs write are what progress is read from."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    watched = {key: Path(run.out) / "metrics.jsonl" for key, run in runs.items() if isinstance(run, TrainConfig)}
    seen: dict[Key, int] = {}

    def look() -> None:
        for key, path in watched.items():
            record = last_record(path)
            if record and record.get("step", 0) > seen.get(key, -1):
                seen[key] = record["step"]
                progress(*key, record)

    # Separate processes also with one job: every arm starts from the same fresh interpreter.
    pool = ProcessPoolExecutor(max(1, jobs), multiprocessing.get_context("spawn"), _end_with_parent, (os.getpid(),))
    try:
        with _no_main():
            futures = {
                key: pool.submit(run_one, run) if isinstance(run, TrainConfig) else pool.submit(run_study, *run)
                for key, run in runs.items()
            }
        while not all(f.done() for f in futures.values()):
            look()
            failed = [f for f in futures.values() if f.done() and f.exception()]
            if failed:
                pool.shutdown(wait=False, cancel_futures=True)
                error = failed[0].exception()
                assert error is not None
                raise error
            time.sleep(0.3)
        look()
        return {key: f.result() for key, f in futures.items()}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _no_main() -> Iterator[None]:
    """Processes that are started meanwhile do not run the caller's script again, whether it has a main guard or not."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _end_with_parent(parent: int) -> None:
    """A worker of a killed comparison stops, instead of training on for nobody."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def read_comparison(path: str | Path) -> dict[str, Any]:
    """``compare.json`` of a folder, or the file itself.

    Raises:
        UserError: if it is missing or unreadable.
    """
    file = Path(path) / "compare.json" if Path(path).is_dir() else Path(path)
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read the comparison {file}: {error}") from None
    return found
