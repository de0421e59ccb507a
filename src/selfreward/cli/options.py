"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL = typer.Option("--model", help="Model folder, hub id, or embedded:NAME.")
Model = Annotated[str, MODEL]
SomeModel = Annotated[str | None, MODEL]  # where a recipe, a file or the prompts may say it
Data = Annotated[
    str | None, typer.Option("--data", help="Prompts: JSONL file, datasets id, reasoning-gym:TASK, embedded:NAME.")
]
EvalData = Annotated[str | None, typer.Option("--eval-data", help="Held-out prompts with answers.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the run or the recipe; repeatable.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Training steps.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is drawn at random.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Number of seeds.", min=1)]
Jobs = Annotated[int, typer.Option("--jobs", help="Runs at once.", min=1)]
Limit = Annotated[int, typer.Option("--limit", help="Prompts at most.", min=1)]
Effort = Annotated[float | None, typer.Option("--effort", help="Ask for this share of the usual length (1 is usual).")]
Steer = Annotated[Path | None, typer.Option("--steer", help="Steering vector, from `selfreward steer`.")]
Strength = Annotated[float, typer.Option("--strength", help="Multiple of the steering vector; negative reverses it.")]
