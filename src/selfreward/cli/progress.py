"""What commands print while they work: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from selfreward.training.trainer import Trainer

SHOWN = (("reward", "reward/mean"), ("agreement", "agreement"), ("truth", "truth"), ("entropy", "entropy"))


def headline(record: Mapping[str, Any]) -> str:
    """``reward 0.53  agreement 0.61`` from a step's record."""
    return "  ".join(f"{label} {record[key]:.3f}" for label, key in SHOWN if key in record)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(),
    )


class RunProgress:
    """Progress of one training run: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.total = 0
        self.truth = ""

    @contextlib.contextmanager
    def watch(self, trainer: Trainer) -> Iterator[None]:
        self.total = trainer.steps
        console = Console()
        console.print(
            f"{trainer.recipe.name} (labels: {trainer.recipe.needs()}) on {trainer.task.name}: "
            f"{len(trainer.task.train)} prompts, {len(trainer.task.test)} held out, "
            f"{trainer.policy.num_parameters():,} parameters, lr {trainer.config.lr:g}"
        )
        if not console.is_terminal:
            yield
            return
        with _progress() as self.bar:
            self.task = self.bar.add_task(trainer.recipe.name, total=trainer.steps, completed=trainer.step, note="")
            yield
        self.bar = None

    def __call__(self, record: Mapping[str, Any]) -> None:
        for alarm in record.get("alarms", []):
            message = f"alarm at step {alarm['step']}: {alarm['name']}: {alarm['meaning']} "
            message += f"({alarm['statistic']} = {alarm['value']})"
            (self.bar.console.print if self.bar else print)(message)
        if "truth" in record:
            self.truth = f"  truth {record['truth']:.3f}"
        note = headline({k: v for k, v in record.items() if k != "truth"}) + self.truth
        if self.bar:
            self.bar.update(self.task, completed=record["step"], note=note)
        elif record["step"] % max(1, self.total // 10) == 0:
            print(f"step {record['step']}/{self.total}  {note}", flush=True)


class CompareProgress:
    """Progress of many runs: a bar each on a terminal, a line per measurement elsewhere."""

    def __init__(self) -> None:
        self.console = Console()
        self.bars = _progress() if self.console.is_terminal else None
        self.tasks: dict[tuple[str, int], TaskID] = {}
        self.truth: dict[tuple[str, int], float] = {}

    def __enter__(self) -> CompareProgress:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars:
            self.bars.stop()

    def __call__(self, arm: str, seed: int, record: Mapping[str, Any]) -> None:
        key = arm, seed
        if "truth" in record:
            self.truth[key] = record["truth"]
        note = headline({k: v for k, v in record.items() if k != "truth"})
        if key in self.truth:
            note += f"  truth {self.truth[key]:.3f}"
        if self.bars:
            if key not in self.tasks:
                self.tasks[key] = self.bars.add_task(f"{arm}:{seed}", total=None, note="")
            self.bars.update(self.tasks[key], completed=record.get("step", 0), note=note)
        elif "truth" in record:
            print(f"{arm}:{seed} step {record['step']}  {note}", flush=True)
