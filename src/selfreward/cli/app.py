"""All commands. Each function parses, calls one function of the library, and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from selfreward.cli.audit import audit
from selfreward.cli.select import select
from selfreward.errors import ConfigError

app = typer.Typer(
    name="selfreward",
    help="Train language models on rewards that they make themselves, and know whether to believe them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


Model = Annotated[str, typer.Option("--model", help="Model folder, hub id, or embedded:NAME.")]


Data = Annotated[str | None, typer.Option("--data", help="JSONL file, datasets id, reasoning-gym:TASK, embedded:NAME.")]


Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the run or the recipe; repeatable.")]


Effort = Annotated[float | None, typer.Option("--effort", help="Ask for this share of the usual length (1 is usual).")]


Steer = Annotated[Path | None, typer.Option("--steer", help="Steering vector, from `selfreward steer`.")]


Strength = Annotated[float, typer.Option("--strength", help="Multiple of the steering vector; negative reverses it.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from selfreward import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="Recipe name, or your own file.py[:Class].")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model folder, hub id, or embedded:NAME.")] = None,
    data: Data = None,
    eval_data: Annotated[str | None, typer.Option("--eval-data", help="Held-out prompts with answers.")] = None,
    steps: Annotated[int | None, typer.Option("--steps")] = None,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder (default runs/RECIPE).")] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train a LoRA of rank 16 (or --set lora_rank=N).")] = False,
    engine: Annotated[str | None, typer.Option("--engine", help="local, or vllm:URL (docs/scaling.md).")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Continue the run in this folder.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with the same keys as --set.")] = None,
    set_: Set = None,
) -> None:
    """Train a model by a self-made reward; ends with a before/after table and report.html."""
    from selfreward.cli.show import RunProgress, print_summary
    from selfreward.runtime import distributed
    from selfreward.training.config import make_config, read_config

    distributed.start()
    given = {"model": model, "data": data, "eval_data": eval_data, "steps": steps, "seed": seed, "engine": engine}
    given = {k: v for k, v in given.items() if v is not None}
    settings = list(set_ or [])
    if resume is not None:
        from selfreward.training.launch import resume as continue_run

        if recipe or out or config or lora or set(given) - {"steps", "engine"}:
            raise ConfigError(
                "--resume continues a run as it was configured; only --steps, --engine and --set can go with it."
            )
        progress = RunProgress()
        changed = [f"{key}={given[key]}" for key in ("steps", "engine") if key in given]
        trainer, notes = continue_run(resume, settings + changed, progress)
        for note in notes:
            print(note)
        print(f"{resume}: continuing after step {trainer.step} of {trainer.steps}")
    else:
        from selfreward.training.launch import start

        values: dict[str, Any] = {**(read_config(config) if config else {}), **given}
        if recipe is not None:
            values["recipe"] = recipe
        elif "recipe" not in values:
            raise ConfigError("Which recipe? For example: selfreward train vote. `selfreward recipes` lists them.")
        if lora:
            values.setdefault("lora_rank", 16)
        values["out"] = str(out) if out else values.get("out") or f"runs/{Path(str(values['recipe'])).stem}"
        progress = RunProgress()
        trainer = start(make_config(values, settings), progress)
    try:
        with progress.watch(trainer):
            summary = trainer.fit()
    except KeyboardInterrupt:
        print(f"stopped after step {trainer.step}; go on with: selfreward train --resume {trainer.out}")
        raise typer.Exit(130) from None
    if distributed.is_main():
        print_summary(summary, trainer.out)
    distributed.stop()


app.command()(audit)


@app.command()
def compare(
    recipes: Annotated[list[str], typer.Argument(help="Recipes: NAME, NAME:key=value,... or label=NAME:key=value,...")],
    model: Annotated[str | None, typer.Option("--model", help="Model folder, hub id, or embedded:NAME.")] = None,
    data: Data = None,
    eval_data: Annotated[str | None, typer.Option("--eval-data", help="Held-out prompts with answers.")] = None,
    steps: Annotated[int | None, typer.Option("--steps")] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Number of seeds.", min=1)] = 3,
    controls: Annotated[bool, typer.Option("--controls", help="Add the gold, random and format-only arms.")] = False,
    out: Annotated[Path, typer.Option("--out")] = Path("runs/compare"),
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at once.", min=1)] = 1,
    set_: Set = None,
) -> None:
    """Run several recipes like for like and print one table with intervals."""
    from selfreward.recipes.registry import recipe_class
    from selfreward.runtime.options import coerce_fields
    from selfreward.training.comparison import compare as run
    from selfreward.training.comparison import parse_arm
    from selfreward.training.config import TrainConfig

    given = {"model": model, "data": data, "eval_data": eval_data, "steps": steps}
    shared: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    options: dict[str, Any] = {}
    known = TrainConfig.__dataclass_fields__
    for text in set_ or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes KEY=VALUE, not {text!r}.")
        if key in known:
            shared |= coerce_fields(TrainConfig, {key: value}, where="the configuration")
        else:
            options[key] = value
    shared["options"] = options
    arms = [parse_arm(r) for r in recipes]
    if model is None and data is None:
        shared["model"] = recipe_class(arms[0].recipe).base
    _compare_and_show(
        lambda progress: run(
            arms,
            shared,
            seeds=range(seeds),
            controls=controls,
            out=out,
            jobs=jobs,
            progress=progress,
        ),
        out,
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Replaced if it holds an earlier demo.")] = Path("runs/demo"),
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at once.", min=1)] = 2,
) -> None:
    """The story in minutes: a vote teaches, two tempting rewards mislead, and a trap for the vote has a way out."""
    import shutil

    from rich.console import Console

    from selfreward.cli.show import CompareProgress
    from selfreward.evaluation.report import comparison_table
    from selfreward.lab.proofs.consensus import co_reward
    from selfreward.lab.proofs.consensus.vote import ARMS, DEMO_SETTINGS
    from selfreward.training.comparison import compare as run
    from selfreward.training.comparison import read_comparison

    if (out / "compare.json").exists() or (out / ARMS[0].label).exists():
        shutil.rmtree(out)
    trap, arms, settings = out / co_reward.DEMO_FOLDER, co_reward.DEMO_ARMS, co_reward.DEMO_SETTINGS
    with CompareProgress() as progress:
        run(arms, settings, seeds=(0,), out=trap, jobs=jobs, progress=progress, title=co_reward.DEMO_TITLE)
    _compare_and_show(
        lambda progress: run(ARMS, DEMO_SETTINGS, seeds=(0,), out=out, jobs=jobs, progress=progress),
        out,
    )
    print(f"\n{co_reward.DEMO_TITLE} ({trap / 'compare.json'})")
    Console().print(comparison_table(read_comparison(trap), trap))


def _compare_and_show(run: Any, out: Path) -> None:
    from rich.console import Console

    from selfreward.cli.show import CompareProgress
    from selfreward.evaluation.report import comparison_table, write_comparison

    with CompareProgress() as progress:
        result = run(progress)
    Console().print(comparison_table(result, out))
    report = write_comparison(result, out)
    print(f"{out / 'compare.json'}\n{report}")


@app.command()
def reproduce(
    slug: Annotated[str, typer.Argument(help="System slug or id.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1)] = 3,
    model: Annotated[str | None, typer.Option("--model", help="Only for proofs on a base of your own.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Only for proofs on data of your own.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Run folders go here.")] = Path("runs/reproduce"),
    evidence: Annotated[Path, typer.Option("--evidence", help="Folder of the evidence file.")] = Path("evidence"),
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at once.", min=1)] = 1,
) -> None:
    """Run the small-scale proof of a system's claim and write evidence/SLUG.json."""
    from rich.console import Console

    from selfreward.cli.show import CompareProgress, print_evidence
    from selfreward.evaluation.report import comparison_table, write_comparison
    from selfreward.lab.proofs.proof import reproduce as run
    from selfreward.lab.proofs.registry import PROOFS, load_proof
    from selfreward.training.comparison import read_comparison

    if slug not in PROOFS:
        from selfreward.lab.catalogue.systems import find_system

        slug = find_system(slug).slug
    proof = load_proof(slug, model, data)
    if proof.options and not (model and data):
        raise ConfigError(f"This proof needs files of yours: selfreward reproduce {proof.slug} {proof.options}.")
    with CompareProgress() as progress:
        found = run(proof, seeds=range(seeds), out=out, evidence=evidence, jobs=jobs, progress=progress)
    result = read_comparison(out / proof.slug)
    Console().print(comparison_table(result, out / proof.slug))
    print_evidence(found, evidence / f"{proof.slug}.json")
    print(write_comparison(result, out / proof.slug))


@app.command("eval")
def evaluate_model(
    model: Model = "embedded:chain",
    data: Data = None,
    samples: Annotated[int, typer.Option("--samples", help="Samples per prompt, the k of pass@k.", min=1)] = 8,
    limit: Annotated[int, typer.Option("--limit", help="Prompts at most.", min=1)] = 200,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    effort: Effort = None,
    steer: Steer = None,
    strength: Strength = 1.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    set_: Set = None,
) -> None:
    """Accuracy, pass@k, maj@k and calibration on prompts with answers."""
    import json

    from rich.console import Console

    from selfreward.cli.show import evaluation_table
    from selfreward.training.config import make_config
    from selfreward.training.launch import adjusted, measure

    given = {"model": model, "eval_prompts": limit, "eval_samples": samples, "seed": seed}
    config = make_config(given | ({"data": data} if data else {}), set_ or [])
    result = measure(config, lambda policy: adjusted(policy, config, effort, steer, strength))
    if json_:
        print(json.dumps(result, indent=1))
    else:
        Console().print(evaluation_table(result))


@app.command()
def sample(
    prompt: Annotated[list[str], typer.Argument(help="Prompts; each is completed.")],
    model: Model = "embedded:chain",
    n: Annotated[int, typer.Option("-n", help="Completions per prompt.", min=1)] = 4,
    seed: Annotated[int, typer.Option("--seed")] = 0,
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


app.command()(select)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder, or a folder with compare.json.")]) -> None:
    """Write report.html of a run or a comparison (one file, opens offline)."""
    from selfreward.evaluation.report import write_comparison, write_report

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder.")
    if (folder / "compare.json").is_file():
        from selfreward.training.comparison import read_comparison

        print(write_comparison(read_comparison(folder), folder))
    elif (folder / "metrics.jsonl").is_file():
        print(write_report(folder))
    else:
        raise ConfigError(f"{folder} holds neither a run (metrics.jsonl) nor a comparison (compare.json).")


@app.command()
def pretrain(
    name: Annotated[str, typer.Argument(help="Embedded base, its variant, or multi30k:FOLDER.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new model.")],
    seed: Annotated[int, typer.Option("--seed")] = 0,
    set_: Set = None,
) -> None:
    """Build an embedded base model from procedural text."""
    import torch

    from selfreward.cli.show import PretrainProgress
    from selfreward.lab.embedded import build_base
    from selfreward.lab.pretraining.pretrain import PretrainSettings
    from selfreward.runtime.options import coerce_fields

    torch.set_num_threads(1)
    pairs = [text.partition("=") for text in set_ or []]
    if any(not sign for _, sign, _ in pairs):
        raise ConfigError("--set takes KEY=VALUE.")
    settings = coerce_fields(PretrainSettings, {k: v for k, _, v in pairs}, where="pre-training")
    with PretrainProgress() as progress:
        made = build_base(name, out, seed=seed, on_step=progress, **settings)
    print(f"{made.folder}: {made.updates} updates, loss {made.loss:.3f}", made.metrics or "")


@app.command()
def recipes() -> None:
    """The recipes with their labels and hyperparameters."""
    from rich.console import Console

    from selfreward.cli.show import recipes_table

    Console().print(recipes_table())


@app.command()
def doctor() -> None:
    """Say what this machine can do, and what is in the way."""
    from rich.console import Console

    from selfreward.runtime.doctor import diagnose, render

    findings = diagnose()
    Console().print(render(findings))
    if any(f.level == "error" for f in findings):
        raise typer.Exit(1)


def _register() -> None:
    """Commands with a file of their own."""
    from selfreward.cli.lab.campaign import campaign
    from selfreward.cli.lab.figure import figure
    from selfreward.cli.lab.systems import show, systems
    from selfreward.cli.lab.zoo import zoo
    from selfreward.cli.rewrite import rewrite
    from selfreward.cli.serve import serve
    from selfreward.cli.steer import steer

    app.command()(campaign)
    app.command()(figure)
    app.command()(rewrite)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
    app.command()(steer)
    app.command()(systems)
    app.command()(show)
    app.command()(zoo)


_register()
