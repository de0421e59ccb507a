"""``selfreward train``: one run, new or continued."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfreward.cli.options import Data, EvalData, Set, SomeModel, Steps
from selfreward.errors import ConfigError

if TYPE_CHECKING:
    from selfreward.training.config import TrainConfig
    from selfreward.training.trainer import Listener, Trainer


def train(
    recipe: Annotated[str | None, typer.Argument(help="Recipe name, or your own file.py[:Class].")] = None,
    model: SomeModel = None,
    data: Data = None,
    eval_data: EvalData = None,
    steps: Steps = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything that is drawn at random.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder (default runs/RECIPE).")] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train a LoRA of rank 16 (or --set lora_rank=N).")] = False,
    engine: Annotated[str | None, typer.Option("--engine", help="local, or vllm:URL (docs/scaling.md).")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Continue the run in this folder.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with the same keys as --set.")] = None,
    set_: Set = None,
) -> None:
    """Train a model by a self-made reward; ends with a before/after table and report.html."""
    from selfreward.cli.progress import RunProgress
    from selfreward.cli.tables import print_summary
    from selfreward.runtime import distributed

    distributed.start()
    given = {"model": model, "data": data, "eval_data": eval_data, "steps": steps, "seed": seed, "engine": engine}
    given = {k: v for k, v in given.items() if v is not None}
    progress = RunProgress()
    if resume is not None:
        if recipe or out or config or lora or set(given) - {"steps", "engine"}:
            raise ConfigError(
                "--resume continues a run as it was configured; only --steps, --engine and --set can go with it."
            )
        trainer = _continued(resume, [*(set_ or []), *(f"{k}={v}" for k, v in given.items())], progress)
    else:
        from selfreward.training.launch import start

        trainer = start(_configured(recipe, given, out, lora, config, set_ or []), progress)
    try:
        with progress.watch(trainer):
            summary = trainer.fit()
    except KeyboardInterrupt:
        print(f"stopped after step {trainer.step}; go on with: selfreward train --resume {trainer.out}")
        raise typer.Exit(130) from None
    if distributed.is_main():
        print_summary(summary, trainer.out)
    distributed.stop()


def _continued(folder: Path, settings: list[str], progress: Listener) -> Trainer:
    """The run in ``folder``, ready to go on; says where, and what was passed over."""
    from selfreward.training.launch import resume

    trainer, notes = resume(folder, settings, progress)
    for note in notes:
        print(note)
    print(f"{folder}: continuing after step {trainer.step} of {trainer.steps}")
    return trainer


def _configured(
    recipe: str | None,
    given: dict[str, Any],
    out: Path | None,
    lora: bool,
    config: Path | None,
    settings: Sequence[str],
) -> TrainConfig:
    """A new run: options count more than the file, and ``--set`` more than both."""
    from selfreward.training.config import make_config, read_config

    read = read_config(config) if config else {}
    values = {**read, **given}
    if recipe is not None:
        values["recipe"] = recipe
    elif "recipe" not in values:
        raise ConfigError("Which recipe? For example: selfreward train vote. `selfreward recipes` lists them.")
    if lora:
        values.setdefault("lora_rank", 16)
    values["out"] = str(out) if out else values.get("out") or f"runs/{Path(str(values['recipe'])).stem}"
    return make_config(values, settings, where={k: str(config) for k in read if values[k] is read[k]})
