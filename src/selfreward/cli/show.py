"""What commands print: progress while they work, tables at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from selfreward.lab.evidence.record import Evidence
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


class PretrainProgress:
    """A line now and then."""

    def __enter__(self) -> PretrainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, update: int, metrics: Mapping[str, float]) -> None:
        if update % 250 == 0 or len(metrics) > 2:
            print(f"update {update}  " + "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()), flush=True)


def print_summary(summary: Mapping[str, Any], out: Path) -> None:
    """Before/after table, alarms, and where things are; writes the report."""
    from selfreward.evaluation.report import summary_table, write_report

    Console().print(summary_table(summary["before"], summary["after"]))
    for alarm in summary["alarms"]:
        print(f"alarm at step {alarm['step']}: {alarm['name']}: {alarm['meaning']}")
    print(f"model   {out / 'model'}\nreport  {write_report(out)}")


def evaluation_table(result: Mapping[str, Any]) -> Table:
    # A task that measures in its own way may not say on how many.
    counted = "prompts" in result and "samples" in result
    table = Table(title=f"{result['prompts']} prompts, {result['samples']} samples each" if counted else None)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    intervals = result.get("intervals", {})
    for name, value in result.items():
        if isinstance(value, float):
            low, high = intervals.get(name, (None, None))
            table.add_row(name, f"{value:.3f}", "" if low is None else f"{low:.3f} … {high:.3f}")
    return table


def print_evidence(evidence: Evidence, path: Path) -> None:
    for check in evidence.checks:
        interval = f" [{check.interval[0]:+.3f}, {check.interval[1]:+.3f}]" if check.interval else ""
        print(
            f"{'holds' if check.holds else 'FAILS'}  {check.name}: {check.observed:+.3f}{interval}  ({check.statement})"
        )
    print(path)


def recipes_table() -> Table:
    from selfreward.recipes.grpo import GRPO
    from selfreward.recipes.registry import RECIPES, hyperparameters, plugins, recipe_class

    table = Table()
    for column in ("recipe", "system", "labels", "what it believes", "hyperparameters"):
        table.add_column(column, overflow="fold")
    common = hyperparameters(GRPO).keys()
    for name in RECIPES:
        cls = recipe_class(name)
        own = {k: v for k, v in hyperparameters(name).items() if not (issubclass(cls, GRPO) and k in common)}
        first = (cls.__doc__ or "").strip().splitlines()[0]
        table.add_row(
            name,
            cls.system_id or ("control" if cls.control else ""),
            cls.labels,
            first,
            ", ".join(f"{k}={v}" for k, v in own.items()),
        )
    for name, points in plugins().items():
        owners = ", ".join(p.dist.name if p.dist else p.value for p in points)
        table.add_row(name, "", "", f"brought by {owners}", "")
    return table
