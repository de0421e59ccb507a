"""From a configuration to a ready trainer: data, answers, model and defaults meet here."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from selfreward.errors import CheckpointError, ConfigError
from selfreward.runtime.at_hand import at_hand, is_here
from selfreward.training.config import TrainConfig, make_config, read_config

if TYPE_CHECKING:
    from selfreward.data.task import Task
    from selfreward.policy.policy import Policy
    from selfreward.policy.protocol import TrainablePolicy
    from selfreward.training.trainer import Listener, Trainer

    Adjust = Callable[[Policy], contextlib.AbstractContextManager[Policy]]

FALLBACK: dict[str, Any] = {
    "steps": 100,
    "prompts_per_step": 16,
    "max_new_tokens": 256,
    "adam_eps": 1e-8,
}

# Where a run computes, which may be another place when it is resumed.
ELSEWHERE = ("engine", "engine_stale", "engine_tolerance", "engine_folder", "shard")


def embedded_name(spec: str | None) -> str | None:
    """``chain`` of ``embedded:chain``; None for everything else."""
    return spec.removeprefix("embedded:") if spec and spec.startswith("embedded:") else None


def task_of(config: TrainConfig) -> Task:
    """The task that the configuration names.

    An embedded task brings its own answers, splits and settings; any other data becomes a task whose
    held-out part is ``eval_data``, or a share of the data itself where it has answers.
    """
    from selfreward.data import load_prompts, split_holdout
    from selfreward.data.answers import answer_space
    from selfreward.data.schemes import load_task
    from selfreward.data.task import Task

    if config.data and is_here(config.data):
        given: Task = at_hand(config.data, "data")
        return dataclasses.replace(given, train=given.train[: config.limit]) if config.limit else given
    name = embedded_name(config.data or config.model)
    if name:
        task = load_task(name)
        if config.eval_data:
            task = dataclasses.replace(task, test=load_prompts(config.eval_data))
        return dataclasses.replace(task, train=task.train[: config.limit]) if config.limit else task
    if config.data is None:
        model = "A model that is handed over" if is_here(config.model) else f"Model {config.model}"
        raise ConfigError(f"{model} needs prompts: data=FILE.jsonl (or a datasets id, reasoning-gym:TASK).")
    if config.data.partition(":")[0].endswith(".py"):
        from selfreward.data.task import task_from_file

        task = task_from_file(config.data)
        return dataclasses.replace(task, train=task.train[: config.limit]) if config.limit else task
    if config.data.startswith("multi30k:"):
        from selfreward.data.schemes import provider

        return provider("multi30k").load(config.data.removeprefix("multi30k:"), test=config.eval_data or "val")
    if config.data.startswith("translation:"):
        from selfreward.evaluation.translation_task import translation_task

        return translation_task(task_of(dataclasses.replace(config, data=config.data.removeprefix("translation:"))))
    fields: dict[str, Any] = {"prompt_field": config.prompt_field, "answer_field": config.answer_field}
    prompts = load_prompts(config.data, limit=config.limit, **fields)
    if config.eval_data:
        train, test = prompts, load_prompts(config.eval_data, **fields)
    elif any(p.answer is not None for p in prompts) and config.holdout > 0:
        train, test = split_holdout(prompts, config.holdout, config.eval_prompts, seed=0)
    else:
        train, test = prompts, []
    if not train:
        raise ConfigError(f"{config.data}: holding out {config.holdout} of the prompts leaves none to train on.")
    return Task.of(config.data, answer_space(config.answers), train=train, test=test)


def resolve_defaults(config: TrainConfig, task: Task, policy: TrainablePolicy | None = None) -> TrainConfig:
    """Fill what the user left open: from the task's recommended settings, then general defaults.

    Recommended settings of an embedded task apply to its own base only, and to what the recipe has.
    """
    from selfreward.recipes.registry import hyperparameters

    own_base = embedded_name(config.model) is not None
    chosen = {**FALLBACK, **(task.settings if own_base else {})}
    new = {k: v for k, v in chosen.items() if hasattr(config, k) and getattr(config, k) is None}
    left = hyperparameters(config.recipe).keys() - new.keys() - config.options.keys()
    options = config.options | {k: v for k, v in chosen.items() if k in left}
    result = dataclasses.replace(config, **new, options=options)
    if policy is not None:
        if result.lr is None:
            result.lr = policy.default_lr()
        if result.micro_tokens is None:
            result.micro_tokens = policy.micro_tokens()
        if config.max_new_tokens is None and policy.context:
            result.max_new_tokens = min(result.max_new_tokens or 1, max(1, policy.context // 2))
    steps = result.steps or 1
    if result.eval_every is None:
        result.eval_every = max(1, steps // 10)
    if result.checkpoint_every is None:
        result.checkpoint_every = max(1, steps // 5)
    return result


def draws_here(config: TrainConfig, command: str) -> None:
    """Refuse an engine where a command does not use it.

    Raises:
        ConfigError: naming the command that does.
    """
    if config.engine != "local":
        raise ConfigError(f"{command} draws its samples here; `engine` belongs to selfreward train.")


def set_threads(config: TrainConfig) -> None:
    """One thread by default: on small models more threads cost more than they give, and results stay equal."""
    import torch

    torch.set_num_threads(config.threads or int(os.environ.get("OMP_NUM_THREADS", "1")))


def build(config: TrainConfig, on_step: Listener | None = None) -> Trainer:
    """Load everything and return a trainer at step 0.

    Raises:
        UserError: whatever is wrong with the data, the model or an option.
    """
    import torch

    from selfreward.data import check_lengths
    from selfreward.policy.loading import check_model, load_policy
    from selfreward.recipes.registry import load_recipe
    from selfreward.training.trainer import Trainer

    set_threads(config)
    check_model(config.model)
    recipe = load_recipe(config.recipe, config.options)
    given = task_of(config)
    task = recipe.adapt(given)
    if recipe.needs() == "outcome" and not any(p.reference is not None for p in task.train):
        raise ConfigError(f"Recipe {recipe.name!r} learns from answers, and no prompt of {task.name} has one.")
    torch.manual_seed(config.seed)  # fresh LoRA weights
    policy = load_policy(
        config.model,
        dtype=config.dtype,
        device=config.device,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_targets=config.lora_targets,
        gradient_checkpointing=config.gradient_checkpointing,
        trust_remote_code=config.trust_remote_code,
        chat=config.chat,
    )
    if config.shard:
        from selfreward.policy.sharding import shard

        shard(policy.model)
    if config.engine != "local":
        from selfreward.policy.engine.sampler import make_engine

        folder = Path(config.engine_folder or Path(config.out) / "engine")
        policy.sampler = make_engine(
            config.engine, policy, folder, tolerance=config.engine_tolerance, on_stale=config.engine_stale
        )
    config = resolve_defaults(config, task, policy)
    # The recipe that trains is the one with the task's own settings, and it is the one that adapts the task.
    recipe = load_recipe(config.recipe, config.options)
    task = recipe.adapt(given)
    room = {"max_new_tokens": config.max_new_tokens or 0}
    train = check_lengths(
        task.train, policy.encode, config.max_prompt_tokens, policy.context, config.prompt_policy, **room
    ).kept
    test = (
        task.test
        and check_lengths(task.test, policy.encode, config.max_prompt_tokens, policy.context, "drop", **room).kept
    )
    task = dataclasses.replace(task, train=train, test=test)
    return Trainer(policy, recipe, task, config, on_step=on_step)


def start(config: TrainConfig, on_step: Listener | None = None) -> Trainer:
    """A trainer with a fresh run folder.

    Raises:
        ConfigError: if the folder already holds a run.
    """
    check_free(Path(config.out))
    return build(config, on_step)


def check_free(out: Path) -> None:
    """Check that a run can begin in ``out``.

    Raises:
        ConfigError: if it is a file, or already holds a run.
    """
    if out.is_file():
        raise ConfigError(f"--out {out} is a file; it must be a folder.")
    if (out / "metrics.jsonl").exists():
        raise ConfigError(
            f"{out} already holds a run. Continue it (train --resume {out}, or selfreward.resume in Python), or choose "
            "another folder (out); nothing was touched."
        )


def same_run(folder: str | Path, given: dict[str, str]) -> None:
    """Check that what is handed over is what the run in ``folder`` was made with, key by key.

    Raises:
        ConfigError: naming what is another.
    """
    path = Path(folder) / "config.yaml"
    kept = read_config(path) if path.is_file() else {}
    for key, spec in given.items():
        if kept and kept.get(key) != spec:
            raise ConfigError(f"The run in {folder} has {key}={kept.get(key)}, and {spec} was handed over.")


def resume(folder: str | Path, settings: list[str], on_step: Listener | None = None) -> tuple[Trainer, list[str]]:
    """A trainer that continues the run in ``folder``; ``settings`` may change ``steps`` and cadences only.

    Returns the trainer and notes on damaged checkpoints that were passed over.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no run (there is no {path.name}).")
    values = read_config(path)
    free = {"steps", "eval_every", "checkpoint_every", "keep_checkpoints", "log_groups", *ELSEWHERE}
    for text in settings:
        key = text.partition("=")[0].strip()
        if key not in free:
            raise ConfigError(
                f"A resumed run keeps its configuration: {key!r} cannot change. Only {', '.join(sorted(free))} can."
            )
    config = make_config({**values, "out": str(folder)}, settings, where=dict.fromkeys(values, str(path)))
    trainer = build(config, on_step)
    return trainer, trainer.resume()


def measure(config: TrainConfig, adjust: Adjust | None = None) -> dict[str, Any]:
    """Held-out metrics of a model without training it: all of ``data``, or the embedded task's test split.

    ``adjust`` opens a changed view of the policy for the time of the measurement (see :func:`adjusted`).
    """
    from selfreward.data import load_prompts
    from selfreward.data.answers import answer_space
    from selfreward.data.task import Task
    from selfreward.evaluation.held_out import held_out
    from selfreward.policy.loading import load_policy

    set_threads(config)
    draws_here(config, "selfreward eval")
    if config.data is None or embedded_name(config.data) or is_here(config.data):
        task = task_of(config)
    else:
        prompts = load_prompts(config.data, prompt_field=config.prompt_field, answer_field=config.answer_field)
        task = Task.of(config.data, answer_space(config.answers), test=prompts)
    policy = load_policy(config.model, dtype=config.dtype, device=config.device, chat=config.chat)
    resolved = resolve_defaults(config, task, policy)
    with adjust(policy) if adjust else contextlib.nullcontext(policy) as seen:
        return held_out(
            seen,
            task,
            prompts=resolved.eval_prompts,
            samples=resolved.eval_samples,
            params=resolved.sampling_params(),
        )


@contextlib.contextmanager
def adjusted(
    policy: Policy,
    config: TrainConfig,
    effort: float | None = None,
    steer: str | Path | None = None,
    strength: float = 1.0,
) -> Iterator[Policy]:
    """While open, the policy is asked for ``effort`` in every prompt, and steered along the vector in a file.

    Architectures that sample through ``generate`` are steered at prompt tokens, too.
    """
    from selfreward.policy.sampling.torch_sampler import TorchSampler
    from selfreward.policy.steering import SteeringVector, steered
    from selfreward.rollouts.effort import with_effort

    with contextlib.ExitStack() as stack:
        if steer is not None:
            where: Literal["generated", "all"] = "generated" if isinstance(policy.sampler, TorchSampler) else "all"
            stack.enter_context(steered(policy, SteeringVector.load(steer), strength, where))
        if effort is not None:
            policy = with_effort(policy, effort, templates_of(config.model, config.data))
        yield policy


def load_for_sampling(config: TrainConfig) -> tuple[Policy, Any]:
    """A policy and its sampling parameters."""
    from selfreward.policy.loading import load_policy

    set_threads(config)
    draws_here(config, "selfreward sample")
    policy = load_policy(config.model, dtype=config.dtype, device=config.device, chat=config.chat)
    return policy, config.sampling_params()


def templates_of(model: str, data: str | None = None) -> dict[str, str]:
    """Effort templates for a model: of its embedded task, or of the run that trained it.

    A trained model lies in ``RUN/model`` beside ``RUN/config.yaml``, which names its data and, where the
    recipe had words of its own, its template.
    """
    from selfreward.data.schemes import load_task
    from selfreward.training.config import read_config

    def embedded(spec: str | None) -> dict[str, str]:
        if not spec or not spec.startswith("embedded:"):
            return {}
        return dict(load_task(spec.removeprefix("embedded:")).templates)

    beside = Path(model).parent / "config.yaml"
    run = read_config(beside) if Path(model).is_dir() and beside.is_file() else {}
    found = embedded(data) or embedded(run.get("data")) or embedded(run.get("model")) or embedded(model)
    own = (run.get("options") or {}).get("template")
    return {"effort": str(own)} if own else found
