"""Configuration: plain dataclasses, strict names, values checked where they enter.

Every key can come from ``--set key=value`` or from a YAML file; unknown keys are errors that name
the nearest valid one, and a key that the chosen recipe does not have is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from selfreward.errors import ConfigError, nearest
from selfreward.runtime.options import coerce_fields


@dataclass
class TrainConfig:
    """One training run. None means "chosen for this model and task"; the run folder records what was chosen.

    Attributes:
        recipe: recipe name, or a user's ``file.py[:Class]``.
        options: the recipe's own hyperparameters.
        model: folder, hub id, or ``embedded:NAME``.
        data: training prompts (see :mod:`selfreward.data`); None is the embedded model's own task.
        eval_data: held-out prompts with answers; None holds out a part of ``data``.
        answers: how final answers are found and compared (``auto``, ``number``, ``boxed``, ``math``,
            ``choice:A,B,C``, ``regex:...``, ``tag:answer``, ``exact``).
        prompts_per_step: prompts whose groups form one rollout batch.
        token_budget: stop after the step in which this many tokens have been generated, by all roles
            together, if that comes before the last step; the currency of a fair comparison.
        epochs, minibatches: passes over a rollout batch and optimiser updates per pass.
        lr: peak learning rate; None picks by model size (6e-4 below 5 million parameters, 1e-5 with
            LoRA, else 1e-6).
        adam_eps: a large value (1e-4) keeps rare non-zero advantages from becoming full-size steps on
            tiny models.
        micro_tokens: tokens (with padding) in one forward of the trainer; None is 16384 on a GPU, and on a CPU
            what stays near its caches (:func:`selfreward.policy.scoring.forward.micro_tokens`).
        bad_update: what to do with an update whose loss, gradient or importance ratio is not sane: ``skip`` it (it
            is counted, and its batch saved in ``bad_updates/``) until ``max_bad_updates`` in a row, or ``stop``.
        max_log_ratio: mean |log policy - log behaviour| per token, in nats, beyond which an update is bad; 0 never.
        step_timeout_s: seconds for one ``collect``, for a recipe or task of your own that may hang; the run then ends
            with a sentence and can be resumed. 0 waits for ever.
        eval_every, checkpoint_every: in steps; 0 switches off all but the first and last.
        keep_checkpoints: newest checkpoints kept.
        sentinel: what happens on a severe alarm: ``warn``, ``stop``, ``rollback`` (end with the weights that
            looked healthiest without a label), ``adapt`` (more KL, temperature or samples), or ``off``.
        probe_every: steps between the sentinel's looks at the same prompts from independent sides; None is a
            tenth of the run, 0 takes none.
        probe_prompts, probe_samples: size of such a look.
        log_groups: groups per step written to ``rollouts.jsonl``; 0 writes none, -1 all.
        prompt_policy: what to do with prompts that are longer than the context allows.
        shard: spread the layers' weights over the processes that torchrun started, for models too large for one.
        engine: who draws completions: ``local``, ``vllm:http://HOST:PORT/v1`` (a server whose weights follow the
            training) or ``fixed:http://HOST:PORT/v1#MODEL`` (any OpenAI-compatible server, whose weights do not).
        engine_stale: what happens when the server's log-probabilities are not the trainer's: ``stop``, or ``warn`` and
            go on with the trainer's own.
        engine_tolerance: mean difference per token, in nats, that is still the same model; None is 0.002 in float32
            and 0.05 in half precision.
        engine_folder: where weights for the server are written; None is ``engine`` in the run folder.
    """

    recipe: str = "vote"
    options: dict[str, Any] = field(default_factory=dict)
    model: str = "embedded:chain"
    data: str | None = None
    eval_data: str | None = None
    out: str = "runs/train"
    steps: int | None = None
    token_budget: int | None = None
    seed: int = 0

    answers: str = "auto"
    limit: int | None = None
    prompt_field: str | None = None
    answer_field: str | None = None
    holdout: float = 0.1
    max_prompt_tokens: int | None = None
    prompt_policy: Literal["error", "drop"] = "error"

    prompts_per_step: int | None = None
    max_new_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    epochs: int = 1
    minibatches: int = 1
    lr: float | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_eps: float | None = None
    grad_clip: float = 1.0
    micro_tokens: int | None = None
    bad_update: Literal["skip", "stop"] = "skip"
    max_bad_updates: int = 10
    max_log_ratio: float = 5.0
    step_timeout_s: float = 0.0

    eval_every: int | None = None
    eval_prompts: int = 200
    eval_samples: int = 8
    checkpoint_every: int | None = None
    keep_checkpoints: int = 2
    log_groups: int = 4

    sentinel: Literal["off", "warn", "stop", "rollback", "adapt"] = "warn"
    probe_every: int | None = None
    probe_prompts: int = 24
    probe_samples: int = 8

    engine: str = "local"
    engine_stale: Literal["stop", "warn"] = "stop"
    engine_tolerance: float | None = None
    engine_folder: str | None = None

    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    chat: Literal["auto", "never"] = "auto"
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_targets: str = "all-linear"
    gradient_checkpointing: bool = False
    shard: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for name, low in (
            ("steps", 1),
            ("prompts_per_step", 1),
            ("max_new_tokens", 1),
            ("epochs", 1),
            ("minibatches", 1),
            ("warmup_steps", 0),
            ("eval_prompts", 0),
            ("eval_samples", 1),
            ("keep_checkpoints", 1),
            ("max_bad_updates", 1),
            ("micro_tokens", 1),
            ("log_groups", -1),
            ("lora_rank", 0),
            ("eval_every", 0),
            ("probe_every", 0),
            ("probe_prompts", 0),
            ("probe_samples", 2),
            ("checkpoint_every", 0),
            ("limit", 1),
            ("token_budget", 1),
            ("threads", 1),
            ("max_prompt_tokens", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{name} is {value}; it must be {low} or more.")
        for name in ("lr", "adam_eps", "grad_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it must be above 0.")
        if not self.step_timeout_s >= 0:
            raise ConfigError(f"step_timeout_s is {self.step_timeout_s}; it must be 0 (no limit) or more.")
        if self.engine_tolerance is not None and not self.engine_tolerance > 0:
            raise ConfigError(f"engine_tolerance is {self.engine_tolerance}; it must be above 0.")
        if not self.max_log_ratio >= 0:
            raise ConfigError(f"max_log_ratio is {self.max_log_ratio}; it must be 0 (no limit) or more.")
        if not 0 <= self.holdout < 1:
            raise ConfigError(f"holdout is {self.holdout}; it must lie in [0, 1).")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def make_config(values: Mapping[str, Any], settings: Iterable[str] = ()) -> TrainConfig:
    """A configuration from a mapping and ``KEY=VALUE`` texts.

    Keys that are not in :class:`TrainConfig` belong to the recipe.

    Raises:
        ConfigError: for a text without ``=``, an unknown key, or a bad value.
    """
    from selfreward.recipes.registry import hyperparameters, load_recipe, recipe_class

    merged = dict(values)
    options = dict(merged.pop("options", None) or {})
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set takes KEY=VALUE, not {text!r}.")
        merged[key.strip()] = value
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    recipe = str(merged.get("recipe", TrainConfig.recipe))
    own = hyperparameters(recipe)
    if merged.get("model") is None and merged.get("data") is None:
        merged["model"] = recipe_class(recipe).base
    for key in [k for k in merged if k not in known]:
        if key not in own:
            raise ConfigError(
                f"There is no option {key!r}, neither of the run nor of recipe {recipe!r}."
                f"{nearest(key, known | set(own))}"
            )
        options[key] = merged.pop(key)
    config = TrainConfig(**coerce_fields(TrainConfig, merged, where="the configuration"))
    checked = load_recipe(recipe, options)
    config.options = {k: getattr(checked, k) for k in options}
    return config


def read_config(path: str | Path) -> dict[str, Any]:
    """A mapping from a YAML file.

    Raises:
        ConfigError: if the file is missing, not YAML, or not a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"Configuration file {path} does not exist.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold 'key: value' lines at its top level.")
    return content


def write_config(config: TrainConfig, path: str | Path) -> None:
    import yaml

    from selfreward.runtime.files import write_text

    write_text(Path(path), yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))
