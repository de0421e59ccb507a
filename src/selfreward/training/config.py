"""Configuration: plain dataclasses, strict names, values checked where they enter.

Every key can come from ``--set key=value`` or from a YAML file; unknown keys are errors that name
the nearest valid one, and a key that the chosen recipe does not have is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from selfreward.errors import ConfigError, nearest
from selfreward.runtime.files import write_text
from selfreward.runtime.options import check_bounds, coerce_fields, parse_settings

if TYPE_CHECKING:
    from selfreward.policy.sampling.params import SamplingParams


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
    steps: Annotated[int, Ge(1)] | None = None
    token_budget: Annotated[int, Ge(1)] | None = None
    seed: int = 0

    answers: str = "auto"
    limit: Annotated[int, Ge(1)] | None = None
    prompt_field: str | None = None
    answer_field: str | None = None
    holdout: Annotated[float, Ge(0), Lt(1), "lie in [0, 1)"] = 0.1
    max_prompt_tokens: Annotated[int, Ge(1)] | None = None
    prompt_policy: Literal["error", "drop"] = "error"

    prompts_per_step: Annotated[int, Ge(1)] | None = None
    max_new_tokens: Annotated[int, Ge(1)] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    epochs: Annotated[int, Ge(1)] = 1
    minibatches: Annotated[int, Ge(1)] = 1
    lr: Annotated[float, Gt(0)] | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Annotated[int, Ge(0)] = 0
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_eps: Annotated[float, Gt(0)] | None = None
    grad_clip: Annotated[float, Gt(0)] = 1.0
    micro_tokens: Annotated[int, Ge(1)] | None = None
    bad_update: Literal["skip", "stop"] = "skip"
    max_bad_updates: Annotated[int, Ge(1)] = 10
    max_log_ratio: Annotated[float, Ge(0), "be 0 (no limit) or more"] = 5.0
    step_timeout_s: Annotated[float, Ge(0), "be 0 (no limit) or more"] = 0.0

    eval_every: Annotated[int, Ge(0)] | None = None
    eval_prompts: Annotated[int, Ge(0)] = 200
    eval_samples: Annotated[int, Ge(1)] = 8
    checkpoint_every: Annotated[int, Ge(0)] | None = None
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    log_groups: Annotated[int, Ge(-1)] = 4

    sentinel: Literal["off", "warn", "stop", "rollback", "adapt"] = "warn"
    probe_every: Annotated[int, Ge(0)] | None = None
    probe_prompts: Annotated[int, Ge(0)] = 24
    probe_samples: Annotated[int, Ge(2)] = 8

    engine: str = "local"
    engine_stale: Literal["stop", "warn"] = "stop"
    engine_tolerance: Annotated[float, Gt(0)] | None = None
    engine_folder: str | None = None

    device: str = "auto"
    dtype: str = "auto"
    threads: Annotated[int, Ge(1)] | None = None
    chat: Literal["auto", "never"] = "auto"
    lora_rank: Annotated[int, Ge(0)] = 0
    lora_alpha: float | None = None
    lora_targets: str = "all-linear"
    gradient_checkpointing: bool = False
    shard: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_bounds(TrainConfig, vars(self))

    def sampling_params(self, default_tokens: int = 64, **more: Any) -> SamplingParams:
        """How completions are drawn; ``more`` are further fields of the parameters."""
        from selfreward.policy.sampling.params import SamplingParams

        tokens = self.max_new_tokens or default_tokens
        return SamplingParams(tokens, self.temperature, self.top_p, self.top_k, **more)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


RUN_KEYS = frozenset(f.name for f in dataclasses.fields(TrainConfig))


def make_config(
    values: Mapping[str, Any], settings: Iterable[str] = (), *, where: Mapping[str, str] | None = None
) -> TrainConfig:
    """A configuration from a mapping and ``KEY=VALUE`` texts, which count more.

    Keys that are not in :class:`TrainConfig` belong to the recipe.

    Args:
        where: for keys of ``values`` what they were read from, such as a file's name; messages begin with it.

    Raises:
        ConfigError: for a text without ``=``, an unknown key, or a bad value.
    """
    from selfreward.recipes.registry import hyperparameters, load_recipe, recipe_class

    written = parse_settings(settings)
    places = {**(where or {}), **dict.fromkeys(written, "--set")}
    merged = split_options({**values, **written})
    options = merged.pop("options")
    recipe = str(merged.get("recipe", TrainConfig.recipe))
    own = hyperparameters(recipe)
    if merged.get("model") is None and merged.get("data") is None:
        merged["model"] = recipe_class(recipe).base
    for key, value in options.items():
        place = f"{places[key]}: " if key in places else ""
        if key not in own and key not in (values.get("options") or {}):
            raise ConfigError(
                f"{place}There is no option {key!r}, neither of the run nor of recipe {recipe!r}."
                f"{nearest(key, RUN_KEYS | set(own))}"
            )
        if place:
            coerce_fields(recipe_class(recipe), {key: value}, where=f"{place}recipe {recipe!r}")
    given: dict[str, Any] = {}
    for place in dict.fromkeys(["", *places.values()]):
        found = {k: v for k, v in merged.items() if places.get(k, "") == place}
        found = coerce_fields(TrainConfig, found, where=place or "the configuration")
        check_bounds(TrainConfig, found, where=place)
        given |= found
    made = load_recipe(recipe, options)
    return TrainConfig(**given, options={k: getattr(made, k) for k in options})


def split_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with those that are no key of :class:`TrainConfig` under ``options``, where a recipe's are.

    Raises:
        ConfigError: for ``options`` that are no mapping.
    """
    own = values.get("options") or {}
    if not isinstance(own, Mapping):
        raise ConfigError(f"options is {own!r}; it must hold the recipe's hyperparameters as 'key: value'.")
    options = dict(own)
    options |= {k: v for k, v in values.items() if k not in RUN_KEYS}
    return {**{k: v for k, v in values.items() if k in RUN_KEYS}, "options": options}


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

    write_text(Path(path), yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))
