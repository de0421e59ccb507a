"""``selfreward sample``: talk to a model."""

from __future__ import annotations

from typing import Annotated

import typer

from selfreward.cli.options import Effort, Model, Seed, Set, Steer, Strength


def sample(
    prompt: Annotated[list[str], typer.Argument(help="Prompts; each is completed.")],
    model: Model = "embedded:chain",
    n: Annotated[int, typer.Option("-n", help="Completions per prompt.", min=1)] = 4,
    seed: Seed = 0,
    effort: Effort = None,
    steer: Steer = None,
    strength: Strength = 1.0,
    set_: Set = None,
) -> None:
    """Talk to a model: print completions with their certainty."""
    from selfreward.training.config import make_config
    from selfreward.training.launch import adjusted, load_for_sampling
    from selfreward.types import Prompt

    config = make_config({"model": model, "seed": seed}, set_ or [])
    policy, params = load_for_sampling(config)
    asked = [Prompt(str(i), text=p) for i, p in enumerate(prompt)]
    with adjusted(policy, config, effort, steer, strength) as seen:
        groups = seen.sample(asked, n, params, seed=seed)
    for group in groups:
        print(group.prompt.question)
        for t in group:
            ended = "" if t.finished else " …"
            mean = float("nan") if t.last.logprobs is None else float(t.last.logprobs.mean())
            print(f"  {t.completion}{ended}   [mean log-prob {mean:.3f}, {len(t.last)} tokens]")
