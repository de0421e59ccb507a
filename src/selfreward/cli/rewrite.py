"""``selfreward rewrite``: a second wording of every prompt, for the recipes that compare two views."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import Seed
from selfreward.errors import ConfigError, DataError


def rewrite(
    data: Annotated[str, typer.Argument(help="Prompts: JSONL file, datasets id, reasoning-gym:TASK, embedded:NAME.")],
    model: Annotated[
        str, typer.Option("--model", help="Who rewrites: model folder, hub id, or http://HOST/v1[#MODEL].")
    ],
    out: Annotated[Path, typer.Option("--out", help="JSONL file to write.")],
    limit: Annotated[int | None, typer.Option("--limit", help="Prompts at most.", min=1)] = None,
    template: Annotated[
        Path | None, typer.Option("--template", help="Your own request, with {question} in it.")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of the rewriting model; 0 takes its likeliest words.")
    ] = 0.7,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Length of a rewrite at most.", min=1)] = 512,
    seed: Seed = 0,
) -> None:
    """Let a model reword every prompt (same answer, other words) for co-reward."""
    from selfreward.data import load_prompts, write_jsonl
    from selfreward.rollouts.rewording import TEMPLATE, make_writer, row_of_prompt
    from selfreward.rollouts.rewording import rewrite as reword

    if out.exists():
        raise ConfigError(f"{out} exists already; choose another --out, or remove it.")
    prompts = load_prompts(data, limit=limit)
    text = template.read_text(encoding="utf-8") if template else TEMPLATE
    writer = make_writer(model, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    found = reword(prompts, writer, text)
    if not found:
        raise DataError(
            f"{model} rewrote none of {len(prompts)} prompts in the asked form. Use an instruction-tuned model, "
            "more --max-new-tokens, or your own --template."
        )
    write_jsonl(out, map(row_of_prompt, found))
    print(f"{out}: {len(found)} prompts with a rewrite, {len(prompts) - len(found)} removed")
    print(f"next: selfreward train co-reward --model MODEL --data {out}")
