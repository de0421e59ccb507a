"""``selfreward campaign``: attacks on the trainer itself, bounded, with evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import Seed
from selfreward.errors import ConfigError, nearest

CAMPAIGNS = ("crashes", "faults", "inputs", "soak")


def campaign(
    name: Annotated[str, typer.Argument(help="crashes, faults, inputs, or soak.")],
    size: Annotated[int, typer.Option("--size", min=1, help="Kills, faulty runs, bad inputs, or minutes.")] = 100,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Scratch folder; what it held is removed.")] = Path(
        "runs/campaign"
    ),
    evidence: Annotated[Path | None, typer.Option("--evidence", help="Default evidence/NAME.json.")] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="With soak: draw memory, FILE.svg or .png.")] = None,
) -> None:
    """Kill runs, break what they rely on, or feed them nonsense, and see whether anything is lost."""
    import importlib
    import os

    if name not in CAMPAIGNS:
        raise ConfigError(f"There is no campaign {name!r}.{nearest(name, CAMPAIGNS)}")
    if figure is not None and name != "soak":
        raise ConfigError("--figure draws the memory of a soak; the other campaigns are counts.")
    if not hasattr(os, "fork"):
        raise ConfigError("Campaigns fork their runs, which this system cannot do.")
    from selfreward.lab.campaigns import warm_up, write_evidence

    warm_up()
    module = importlib.import_module(f"selfreward.lab.campaigns.{name}")
    result = module.run(out / name, size, seed)
    path = evidence or Path("evidence") / f"{name}.json"
    write_evidence(path, result)
    print({k: v for k, v in result.items() if isinstance(v, int | float)})
    print(path)
    if figure is not None:
        from selfreward.lab.campaigns.figure import memory_figure

        print(memory_figure(result, figure))
    if result["lost"]:
        raise typer.Exit(1)
