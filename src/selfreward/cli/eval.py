"""``selfreward eval``: how good a model is, and how sure that is."""

from __future__ import annotations

from typing import Annotated

import typer

from selfreward.cli.options import Data, Effort, Limit, Model, Seed, Set, Steer, Strength


def evaluate(
    model: Model = "embedded:chain",
    data: Data = None,
    samples: Annotated[int, typer.Option("--samples", help="Samples per prompt, the k of pass@k.", min=1)] = 8,
    limit: Limit = 200,
    seed: Seed = 0,
    effort: Effort = None,
    steer: Steer = None,
    strength: Strength = 1.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    set_: Set = None,
) -> None:
    """Measure accuracy, pass@k, maj@k and calibration on prompts with answers."""
    import json

    from rich.console import Console

    from selfreward.cli.tables import evaluation_table
    from selfreward.training.config import make_config
    from selfreward.training.launch import adjusted, measure

    given = {"model": model, "eval_prompts": limit, "eval_samples": samples, "seed": seed}
    config = make_config(given | ({"data": data} if data else {}), set_ or [])
    result = measure(config, lambda policy: adjusted(policy, config, effort, steer, strength))
    if json_:
        print(json.dumps(result, indent=1))
    else:
        Console().print(evaluation_table(result))
