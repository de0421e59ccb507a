"""Like for like: several recipes from the same start, on the same prompts, with the same budget.

Every arm and seed is an ordinary training run in its own folder ``OUT/ARM/seed-N``; arms that are
finished are read, not run again, and interrupted ones are resumed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.config import TrainConfig, make_config
from selfreward.errors import ConfigError, UserError

Progress = Callable[[str, int, dict[str, Any]], None]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a label, a recipe, and its own options."""

    label: str
    recipe: str
    options: Mapping[str, Any] = field(default_factory=dict)


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
    arms: Sequence[Arm],
    settings: Mapping[str, Any],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    controls: bool = False,
    out: str | Path = "runs/compare",
    jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run all arms and write ``OUT/compare.json``.

    Args:
        settings: configuration shared by all arms (model, data, steps, ...).
        controls: also run the gold, random and format-only arms.
        jobs: runs at once, each in its own process with one thread.
        progress: called with (arm, seed, latest record) while runs go on.

    Raises:
        UserError: if an arm fails; the finished arms stay on disk.
    """
    from selfreward.recipes import CONTROLS

    everything = list(arms)
    if controls:
        everything += [Arm(name, name) for name in CONTROLS if name not in {a.recipe for a in arms}]
    labels = [a.label for a in everything]
    if len(set(labels)) != len(labels):
        raise ConfigError(f"Two arms have the same label: {', '.join(sorted(labels))}. Use label=recipe:options.")
    root = Path(out)
    configs = {
        (arm.label, seed): make_config(
            {
                **settings,
                "recipe": arm.recipe,
                "options": {**settings.get("options", {}), **arm.options},
                "seed": seed,
                "out": str(root / arm.label / f"seed-{seed}"),
            }
        )
        for seed in seeds
        for arm in everything
    }
    root.mkdir(parents=True, exist_ok=True)
    summaries = _run_all(configs, jobs, progress or (lambda arm, seed, record: None))
    first = next(iter(summaries.values()))
    config = configs[next(iter(configs))]
    result = {
        "task": first["data"],
        "base": first["model"],
        "metric": first.get("metric", "pass@1"),
        "budget": {"steps": first["steps"], "tokens": max(s["tokens"]["generated"] for s in summaries.values())},
        "settings": {k: v for k, v in config.to_dict().items() if k not in ("recipe", "options", "seed", "out")},
        "arms": {
            arm.label: {
                "recipe": arm.recipe,
                "options": dict(arm.options),
                "labels": summaries[arm.label, seeds[0]]["labels"],
                "control": summaries[arm.label, seeds[0]]["control"],
                "seeds": [
                    {
                        "seed": seed,
                        **{k: summaries[arm.label, seed][k] for k in ("before", "after", "best", "tokens", "wall_s")},
                        "mechanism": summaries[arm.label, seed]["mechanism"],
                        "alarms": summaries[arm.label, seed]["alarms"],
                    }
                    for seed in seeds
                ],
            }
            for arm in everything
        },
    }
    partial = root / "compare.json.partial"
    partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    partial.replace(root / "compare.json")
    return result


def run_one(config: TrainConfig, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The summary of one run: read, resumed, or trained from the start."""
    from selfreward.launch import resume, start
    from selfreward.recipes import load_recipe

    out = Path(config.out)
    wanted = config.to_dict() | {"options": vars(load_recipe(config.recipe, config.options))}
    if (out / "summary.json").is_file():
        from selfreward.config import read_config

        recorded = read_config(out / "config.yaml")
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


def _run_all(
    configs: Mapping[tuple[str, int], TrainConfig], jobs: int, progress: Progress
) -> dict[tuple[str, int], dict[str, Any]]:
    """Every run, ``jobs`` at a time; the records that runs write are what progress is read from."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    watched = {key: Path(c.out) / "metrics.jsonl" for key, c in configs.items()}
    seen: dict[tuple[str, int], int] = {}

    def look() -> None:
        for key, path in watched.items():
            record = _last_record(path)
            if record and record.get("step", 0) > seen.get(key, -1):
                seen[key] = record["step"]
                progress(*key, record)

    # Separate processes also with one job: every arm starts from the same fresh interpreter.
    pool = ProcessPoolExecutor(max(1, jobs), multiprocessing.get_context("spawn"), _end_with_parent, (os.getpid(),))
    try:
        futures = {key: pool.submit(run_one, config) for key, config in configs.items()}
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


def _end_with_parent(parent: int) -> None:
    """A worker of a killed comparison stops, instead of training on for nobody."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _last_record(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(0, size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            return record
    return None


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
