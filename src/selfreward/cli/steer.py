"""``selfreward steer``: read a steering vector out of a model's own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import Model, Seed, Set
from selfreward.errors import ConfigError


def steer(
    out: Annotated[Path, typer.Option("--out", help="File of the vector (safetensors).")],
    model: Model = "embedded:chain",
    data: Annotated[
        str | None, typer.Option("--data", help="Prompts with answers; default the embedded task's.")
    ] = None,
    layer: Annotated[int, typer.Option("--layer", help="Decoder layer, from 0; -1 is the last.")] = -1,
    position: Annotated[
        str, typer.Option("--position", help="Answer tokens that are read: mean, first or last.")
    ] = "mean",
    prompts: Annotated[int, typer.Option("--prompts", help="Prompts to sample.", min=1)] = 64,
    samples: Annotated[int, typer.Option("--samples", help="Samples per prompt.", min=2)] = 16,
    vote: Annotated[bool, typer.Option("--vote", help="Take the majority answer for right; needs no labels.")] = False,
    seed: Seed = 0,
    set_: Set = None,
) -> None:
    """Find the direction from verbose to concise right answers, for `sample --steer` and `eval --steer`."""
    from selfreward.runtime.options import parse_settings
    from selfreward.training.test_time import steering_vector

    if out.is_dir():  # told before anything is sampled
        raise ConfigError(f"--out {out} is a folder; the vector is one file, for example {out / 'v.safetensors'}.")
    found = steering_vector(
        model,
        data,
        layer=layer,
        position=position,
        prompts=prompts,
        samples=samples,
        vote=vote,
        seed=seed,
        settings=parse_settings(set_ or []),
    )
    found.save(out)
    concise, verbose = found.meta["concise length"], found.meta["verbose length"]
    norm = float(found.vector.norm())
    print(f"{out}: layer {found.layer}, norm {norm:.3f}, from {found.pairs} pairs of right answers")
    print(f"  concise ones have {concise:.1f} tokens, verbose ones {verbose:.1f}")
    print(f"  try: selfreward sample PROMPT --model {model} --steer {out} --strength 0.4")
    print("  more strength is shorter, until answers break: selfreward eval --steer measures both")
