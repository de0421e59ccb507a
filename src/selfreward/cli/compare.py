"""``selfreward compare``: several recipes like for like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfreward.cli.options import Data, EvalData, Jobs, Seeds, Set, SomeModel, Steps

if TYPE_CHECKING:
    from selfreward.training.comparison import Progress


def compare(
    recipes: Annotated[list[str], typer.Argument(help="Recipes: NAME, NAME:key=value,... or label=NAME:key=value,...")],
    model: SomeModel = None,
    data: Data = None,
    eval_data: EvalData = None,
    steps: Steps = None,
    seeds: Seeds = 3,
    controls: Annotated[bool, typer.Option("--controls", help="Add the gold, random and format-only arms.")] = False,
    out: Annotated[Path, typer.Option("--out", help="Run folders, compare.json and report.html go here.")] = Path(
        "runs/compare"
    ),
    jobs: Jobs = 1,
    set_: Set = None,
) -> None:
    """Run several recipes like for like and print one table with intervals."""
    from selfreward.recipes.registry import recipe_class
    from selfreward.runtime.options import coerce_fields, parse_settings
    from selfreward.training.comparison import compare as run
    from selfreward.training.comparison import parse_arm
    from selfreward.training.config import TrainConfig, split_options

    written = split_options(parse_settings(set_ or []))
    options = written.pop("options")
    given = {"model": model, "data": data, "eval_data": eval_data, "steps": steps}
    settings = {k: v for k, v in given.items() if v is not None} | coerce_fields(TrainConfig, written, where="--set")
    arms = [parse_arm(r) for r in recipes]
    if "model" not in settings and "data" not in settings:
        settings["model"] = recipe_class(arms[0].recipe).base
    settings["options"] = options
    compare_and_show(
        lambda progress: run(
            arms, settings, seeds=range(seeds), controls=controls, out=out, jobs=jobs, progress=progress
        ),
        out,
    )


def compare_and_show(run: Callable[[Progress], dict[str, Any]], out: Path) -> None:
    """Run a comparison with its progress on the terminal; then its table, its file and its page."""
    from rich.console import Console

    from selfreward.cli.progress import CompareProgress
    from selfreward.evaluation.report import comparison_table, write_comparison

    with CompareProgress() as progress:
        result = run(progress)
    Console().print(comparison_table(result, out))
    report = write_comparison(result, out)
    print(f"{out / 'compare.json'}\n{report}")
