"""``selfreward audit``: which self-made reward can be believed here, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.errors import ConfigError


def audit(
    model: Annotated[str | None, typer.Option("--model", help="Model folder, hub id, or embedded:NAME.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Prompts: JSONL, datasets id, reasoning-gym:TASK, embedded:NAME.")
    ] = None,
    rollouts: Annotated[
        Path | None, typer.Option("--rollouts", help="JSONL with completions; needs no model for signals of text.")
    ] = None,
    signals: Annotated[
        str | None, typer.Option("--signals", help="Names, as in vote,borda:by=gap,length; default: all.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Completions per prompt.", min=2)] = 16,
    prompts: Annotated[int | None, typer.Option("--prompts", help="Prompts at most (64; all of --rollouts).")] = None,
    labels: Annotated[
        int | None, typer.Option("--labels", help="Look at the answers of so many prompts (0: none).", min=0)
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    out: Annotated[Path, typer.Option("--out", help="audit.json and report.html go here.")] = Path("runs/audit"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE as in train, such as answers=number.")
    ] = None,
) -> None:
    """Score one set of rollouts with every signal and say which can be trusted here."""
    from rich.console import Console

    from selfreward.data.answers import answer_space
    from selfreward.data.rollout_files import read_rollouts
    from selfreward.evaluation.audit.auditor import audit as run
    from selfreward.evaluation.report.audit import audit_table, audit_words, write_audit
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.named import split_signals
    from selfreward.training.config import make_config
    from selfreward.training.launch import resolve_defaults, set_threads, task_of

    if prompts is not None and prompts < 1:
        raise ConfigError(f"--prompts is {prompts}; it must be 1 or more.")
    given = {"model": model, "data": data, "seed": seed}
    config = make_config({k: v for k, v in given.items() if v is not None}, set_ or [])
    wanted = None if signals is None else split_signals(signals)
    set_threads(config)
    policy = None
    if rollouts is None or model is not None:
        policy = load_policy(config.model, dtype=config.dtype, device=config.device, chat=config.chat)
    if rollouts is not None:
        # A task lends its templates and its way to read answers only where it was asked for.
        task = task_of(config) if data or (model or "").startswith("embedded:") else None
        report = run(
            read_rollouts(rollouts, prompts),
            task,
            signals=wanted,
            seed=seed,
            labels=labels,
            answers=None if task else answer_space(config.answers),
            policy=policy,
        )
        report.data = str(rollouts)
    else:
        assert policy is not None
        task = task_of(config)
        config = resolve_defaults(config, task, policy)
        sampling = SamplingParams(config.max_new_tokens or 256, config.temperature, config.top_p, config.top_k)
        report = run(
            policy, task, prompts=prompts or 64, signals=wanted, n=n, seed=seed, labels=labels, sampling=sampling
        )
        report.data = config.data or task.name
    report.model = config.model if policy is not None else ""
    console = Console()
    console.print(audit_table(report, console.width))
    for line in audit_words(report):
        console.print(line, markup=False, highlight=False)
    print(f"{report.save(out)}\n{write_audit(report, out)}")
