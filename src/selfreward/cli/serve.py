"""``selfreward serve``: a vLLM server, from its own environment, that takes weights from a training run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from selfreward.errors import ConfigError


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model folder, hub id, or embedded:NAME.")],
    python: Annotated[str, typer.Option("--python", help="Interpreter of an environment with vLLM.")] = "python",
    port: Annotated[int, typer.Option("--port", help="Of the server.")] = 8000,
    folder: Annotated[Path, typer.Option("--folder", help="The model is written here for the server.")] = Path(
        "runs/serve"
    ),
    dtype: Annotated[str, typer.Option("--dtype", help="As in training: auto, float32, bfloat16.")] = "auto",
    show: Annotated[bool, typer.Option("--show", help="Write the model and print the command only.")] = False,
) -> None:
    """Start a vLLM server for `selfreward train --engine vllm:http://127.0.0.1:8000/v1`.

    Further options are the server's own, for example --max-model-len 512.
    """
    import shlex

    from selfreward.policy.engine.export import export, server_command
    from selfreward.policy.loading import load_policy

    policy = load_policy(model, dtype=dtype, chat="never")
    export(policy, folder)
    command, environment = server_command(policy, python, folder, port, context.args)
    if show:
        told = [f"{k}={shlex.quote(v)}" for k, v in environment.items()]
        print(" ".join([*told, *map(shlex.quote, command)]))
        return
    try:
        os.execvpe(command[0], command, {**os.environ, **environment})
    except OSError as error:
        raise ConfigError(f"Cannot start {python}: {error}. --python takes an interpreter with vLLM.") from None
