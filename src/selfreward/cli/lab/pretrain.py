"""``selfreward pretrain``: the small bases, made again from procedural text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import Seed
from selfreward.errors import ConfigError


def pretrain(
    name: Annotated[str, typer.Argument(help="Embedded base, its variant, or multi30k:FOLDER.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new model.")],
    seed: Seed = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the pre-training; repeatable.")] = None,
) -> None:
    """Build an embedded base model from procedural text."""
    import torch

    from selfreward.lab.embedded import build_base
    from selfreward.lab.pretraining.pretrain import PretrainSettings
    from selfreward.runtime.options import coerce_fields, parse_settings

    torch.set_num_threads(1)
    settings = coerce_fields(PretrainSettings, parse_settings(set_ or []), where="pre-training")
    if "seed" in settings:
        raise ConfigError(f"--set: seed has an option of its own: --seed {settings['seed']}.")
    made = build_base(name, out, seed=seed, on_step=_print_progress, **settings)
    print(f"{made.folder}: {made.updates} updates, loss {made.loss:.3f}", made.metrics or "")


def _print_progress(update: int, metrics: Mapping[str, float]) -> None:
    """A line now and then, and whenever more than loss and rate was measured."""
    if update % 250 == 0 or len(metrics) > 2:
        print(f"update {update}  " + "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()), flush=True)
