"""``selfreward steer``: read a steering vector out of a model's own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.errors import ConfigError, DataError


def steer(
    out: Annotated[Path, typer.Option("--out", help="File of the vector (safetensors).")],
    model: Annotated[str, typer.Option("--model", help="Model folder, hub id, or embedded:NAME.")] = "embedded:chain",
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
    seed: Annotated[int, typer.Option("--seed")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the run; repeatable.")] = None,
) -> None:
    """Direction from verbose to concise right answers; use it with `sample --steer` and `eval --steer`."""
    from selfreward.data.answers import cluster
    from selfreward.policy.steering import contrast_pairs, direction
    from selfreward.signals import rules
    from selfreward.signals.vote import vote as elect
    from selfreward.signals.vote import vote_rewards
    from selfreward.training.config import make_config
    from selfreward.training.launch import load_for_sampling, resolve_defaults, task_of

    if out.is_dir():  # told before anything is sampled
        raise ConfigError(f"--out {out} is a folder; the vector is one file, for example {out / 'v.safetensors'}.")
    given = {"model": model, "seed": seed, **({"data": data} if data else {})}
    config = make_config(given, set_ or [])
    task = task_of(config)
    policy, params = load_for_sampling(resolve_defaults(config, task))
    chosen = [p for p in task.train if vote or p.answer is not None][:prompts]
    if not chosen:
        raise DataError(f"{task.name} has no prompt with an answer. Give data with answers, or use --vote.")
    if position not in ("mean", "first", "last"):
        raise ConfigError(f"--position is {position!r}; it must be mean, first or last.")
    groups = policy.sample(chosen, samples, params, seed=seed)
    correct = []
    for group in groups:
        if vote:
            classes = cluster([task.answers.extract(c) for c in group.completions], task.answers)
            correct.append(vote_rewards(classes, elect(classes)))
        else:
            correct.append(rules.gold(group.completions, str(group.prompt.answer), task.answers))
    found = direction(policy, contrast_pairs(groups, correct), layer, position)  # type: ignore[arg-type]
    found.meta |= {"model": model, "data": task.name, "seed": seed}
    found.save(out)
    concise, verbose = found.meta["concise length"], found.meta["verbose length"]
    print(
        f"{out}: layer {found.layer}, norm {float(found.vector.norm()):.3f}, from {found.pairs} pairs of right answers"
    )
    print(f"  concise ones have {concise:.1f} tokens, verbose ones {verbose:.1f}")
    print(f"  try: selfreward sample PROMPT --model {model} --steer {out} --strength 0.4")
    print("  more strength is shorter, until answers break: selfreward eval --steer measures both")
