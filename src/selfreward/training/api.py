"""The library in a few calls: what ``import selfreward as sr`` offers beside types and blocks.

The command line and these functions do the same. Here recipes, rewards, models and data may be objects (a class typed
into a notebook, a function, a list of dicts) as well as names and paths. Settings are keyword arguments, the run's and
the recipe's alike, by the names that the command line takes as ``--set KEY=VALUE``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError
from selfreward.recipes.base import Recipe
from selfreward.training.specs import specs

if TYPE_CHECKING:
    from selfreward.data.rollout_files import Rollouts
    from selfreward.data.task import Task
    from selfreward.evaluation.audit.record import AuditReport
    from selfreward.policy.policy import Policy
    from selfreward.training.comparison import Arm
    from selfreward.training.specs import Data, Model, Reward
    from selfreward.training.test_time import Selected
    from selfreward.training.trainer import Listener, Trainer
    from selfreward.types import Prompt


@dataclass(frozen=True)
class Run:
    """A finished training run. In a notebook it shows its before/after table.

    Attributes:
        folder: the run folder: ``config.yaml``, ``metrics.jsonl``, ``rollouts.jsonl``, ``summary.json``, ``model/``.
        summary: what ``summary.json`` holds.
        policy: the trained policy, ready to sample.
    """

    folder: Path
    summary: Mapping[str, Any]
    policy: Policy

    @property
    def before(self) -> dict[str, Any]:
        """Held-out metrics before training, by name (``pass@1``)."""
        return dict(self.summary["before"])

    @property
    def after(self) -> dict[str, Any]:
        """Held-out metrics after training, by name."""
        return dict(self.summary["after"])

    @property
    def model(self) -> Path:
        """The folder of the trained model, which ``AutoModelForCausalLM`` (an adapter: PEFT) loads."""
        return self.folder / "model"

    def report(self) -> Page:
        """Write ``report.html`` into the run folder; the page shows itself in a notebook."""
        from selfreward.evaluation.report import write_report

        return Page(write_report(self.folder))

    def _repr_html_(self) -> str:
        from selfreward.evaluation.report.words import rows, show, show_change

        title = f"{self.summary['recipe']} on {self.summary['data']}, {self.summary['steps']} steps ({self.folder})"
        body = [
            (name, show(before.value, name), show(after.value, name), show_change(change.value, name))
            for name, before, after, change, _ in rows(self.before, self.after)
        ]
        head = _cells("th", ("held out", "before", "after", "change"))
        return f"<p>{escape(title)}</p><table>{head}{''.join(_cells('td', row) for row in body)}</table>"


@dataclass(frozen=True)
class Page:
    """A report on disk, which a notebook shows in a frame of its own."""

    path: Path

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="720" style="border:0"></iframe>'


def train(
    recipe: str | type[Recipe] | Recipe | None = None,
    *,
    model: Model | None = None,
    data: Data | None = None,
    reward: Reward | None = None,
    out: str | Path | None = None,
    eval_data: str | Path | Sequence[str | Mapping[str, Any] | Prompt] | None = None,
    on_step: Listener | None = None,
    **settings: Any,
) -> Run:
    """Train a model by a recipe, or by a reward function of your own.

    Args:
        recipe: a name (``"vote"``, the default), ``FILE.py[:Class]``, a :class:`Recipe` class, or an instance, whose
            hyperparameters are then taken.
        model: a folder, a hub id, ``embedded:NAME``, or a loaded :class:`Policy`, which is trained in place. None is
            the embedded base on which the recipe is shown.
        data: prompts: whatever :func:`selfreward.load_prompts` reads, a list of texts, dicts or :class:`Prompt` (kept
            as ``data.jsonl`` in the run folder), or a :class:`Task`. None is the embedded model's own task.
        reward: in place of a recipe: ``FILE.py:FUNCTION``, or a function ``(prompts, completions, **columns)`` that
            returns one number (or None) per completion of one prompt's group. The parameters that it names beside
            these two are columns of the data; naming ``answer`` declares that it reads labels.
        out: the run folder; ``runs/RECIPE`` by default.
        eval_data: held-out prompts with answers; None holds out a part of ``data``.
        on_step: called with every step's record.
        settings: of the run and of the recipe (``steps=100, group_size=16, lora_rank=16``).

    Raises:
        UserError: for whatever is wrong with model, data, recipe or a setting, before anything is trained.
        KeyboardInterrupt: after an interrupt, once the step is finished and saved; :func:`resume` goes on.
    """
    from selfreward.training.config import make_config
    from selfreward.training.launch import check_free, start

    if recipe is not None and reward is not None:
        raise ConfigError("Give a recipe or a reward of your own, not both: a reward trains by the recipe 'reward'.")
    with specs() as spec_of:
        named, options = spec_of.recipe(recipe, reward)
        folder = Path(out) if out is not None else Path("runs") / Path(named.rpartition(":")[2]).stem
        check_free(folder)
        given = {
            "recipe": named,
            "out": str(folder),
            "model": spec_of.model(model),
            "data": spec_of.data(data, folder / "data.jsonl", settings),
            "eval_data": spec_of.data(eval_data, folder / "eval_data.jsonl", settings),
        }
        config = make_config({**options, **settings, **{k: v for k, v in given.items() if v is not None}})
        return _fitted(start(config, on_step))


def resume(
    folder: str | Path,
    *,
    recipe: type[Recipe] | Recipe | None = None,
    reward: Callable[..., Sequence[float | None]] | None = None,
    model: Policy | None = None,
    data: Task | None = None,
    on_step: Listener | None = None,
    **changes: Any,
) -> Run:
    """Go on with a run from its last checkpoint, to the same weights as if it had never stopped.

    Args:
        recipe, reward, model, data: what was handed over in memory (a class typed into a notebook, a function, a policy
            as it was at the start, a task); all else is in the folder.
        changes: ``steps`` and cadences only.

    Raises:
        UserError: if the folder holds no run, or what it needs was not handed over.
    """
    from selfreward.training import launch

    with specs() as spec_of:
        given = {
            "recipe": spec_of.recipe(recipe, reward)[0] if recipe is not None or reward is not None else None,
            "model": spec_of.model(model),
            "data": spec_of.data(data, Path(), {}),
        }
        launch.same_run(folder, {k: v for k, v in given.items() if v is not None})
        trainer, _ = launch.resume(folder, [f"{key}={value}" for key, value in changes.items()], on_step)
        return _fitted(trainer)


def compare(
    arms: str | Sequence[str | Arm] | Mapping[str, str | tuple[str, Mapping[str, Any]]],
    *,
    model: str | Path | None = None,
    data: str | Path | Sequence[str | Mapping[str, Any] | Prompt] | None = None,
    seeds: int | Sequence[int] = 3,
    controls: bool = False,
    jobs: int = 1,
    out: str | Path = "runs/compare",
    **settings: Any,
) -> dict[str, Any]:
    """Run several recipes like for like: same start, same prompts, same budget.

    Args:
        arms: ``["vote", "certainty:statistic=entropy"]``, or by label ``{"sure": ("certainty", {"statistic":
            "entropy"})}``. Every run has a process of its own, so recipes are names or files here, not objects.
        seeds: how many, or which.
        controls: also run the gold, random and format-only arms.
        jobs: runs at once.
        settings: shared by all arms.

    Returns:
        What ``OUT/compare.json`` holds.

    Raises:
        UserError: if an arm fails; the finished ones stay in ``out`` and are not run again.
    """
    from selfreward.data.task import Task
    from selfreward.training.comparison import Arm, parse_arm
    from selfreward.training.comparison import compare as run_arms

    if isinstance(arms, str):
        arms = [arms]
    if not all(isinstance(a, str | Arm | tuple) for a in (arms.values() if isinstance(arms, Mapping) else arms)):
        raise ConfigError(
            "Every arm runs in a process of its own, so its recipe is a name or FILE.py:Class, no object."
        )
    if isinstance(data, Task) or not isinstance(model, str | Path | None):
        raise ConfigError(
            "Every arm runs in a process of its own, so model and data are names, paths or rows, no objects."
        )
    if isinstance(arms, Mapping):
        chosen = [Arm(k, v) if isinstance(v, str) else Arm(k, v[0], dict(v[1])) for k, v in arms.items()]
    else:
        chosen = [parse_arm(a) if isinstance(a, str) else a for a in arms]
    with specs() as spec_of:
        named = {"model": model and str(model), "data": spec_of.data(data, Path(out) / "data.jsonl", settings)}
        shared = {**settings, **{k: v for k, v in named.items() if v is not None}}
        which = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
        return run_arms(chosen, shared, seeds=which, controls=controls, out=out, jobs=jobs)


def evaluate(model: Model, data: Data | None = None, *, samples: int = 8, **settings: Any) -> dict[str, Any]:
    """Held-out metrics of a model, without training it, by name (``pass@1``, ``maj@8``).

    Args:
        data: prompts with answers; None is the embedded model's own held-out prompts.
        samples: completions per prompt.
        settings: of a run (``eval_prompts=500, answers="number", temperature=0.7``).
    """
    from selfreward.training.config import make_config
    from selfreward.training.launch import measure

    with specs() as spec_of:
        named = {"model": spec_of.model(model), "data": spec_of.data(data, None, settings)}
        shared = settings | {k: v for k, v in named.items() if v is not None}
        return measure(make_config({**shared, "eval_samples": samples}))


def audit(
    source: Model | Rollouts,
    data: Data | None = None,
    *,
    signals: str | Sequence[str] | None = None,
    n: int = 16,
    prompts: int = 64,
    labels: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> AuditReport:
    """Which rewards can be believed on this model and these prompts, before any training.

    Args:
        source: a model, or rollouts that were made elsewhere (:func:`selfreward.read_rollouts`).
        data: prompts; their answers, where there are any, grade the signals. None is the embedded model's own task.
        signals: names with options (``"borda:by=gap"``); None takes all that can be scored here.
        n: completions per prompt.
        prompts: prompts at most.
        labels: on how many prompts the answers are looked at; None for all, 0 for none.
        settings: of a run (``answers="number", max_new_tokens=256``).
    """
    from selfreward.data.answers import answer_space
    from selfreward.data.rollout_files import Rollouts

    signals = [signals] if isinstance(signals, str) else signals
    if isinstance(source, Rollouts):
        from selfreward.evaluation.audit.auditor import audit as audit_rollouts

        space = answer_space(settings.pop("answers", "auto"))
        if data is not None:
            raise ConfigError("Rollouts bring their own prompts; leave data out.")
        if settings:
            raise ConfigError(f"{', '.join(settings)}: rollouts are read as they are; only `answers` can be set.")
        return audit_rollouts(source, signals=signals, labels=labels, seed=seed, answers=space)
    from selfreward.training.auditing import audit_of

    with specs() as spec_of:
        named = spec_of.model(source), spec_of.data(data, None, settings)
        asked: dict[str, Any] = {"signals": signals, "n": n, "prompts": prompts, "labels": labels, "seed": seed}
        return audit_of(*named, **asked, settings=settings)


def select(
    model: Model,
    data: Data | None = None,
    *,
    rule: str = "majority",
    score: str | None = None,
    n: int = 16,
    limit: int = 200,
    seed: int = 0,
    **settings: Any,
) -> Selected:
    """Many samples of every prompt, one chosen: by vote, by a score, or by both. No training.

    Args:
        data: prompts; None is the embedded model's own held-out prompts. Answers are looked at by the score
            ``gold`` alone.
        rule: ``majority``, ``best``, ``borda``, ``weighted`` or ``accept-vote``.
        score: a signal's name, for the rules that go by one; each has a usual one.
        n: samples per prompt.
        limit: prompts at most.
        settings: ``power`` and ``threshold`` of the rule, and settings of a run.

    Returns:
        One selection per prompt (``.selections``); ``.records()`` has the chosen texts and the reasons.
    """
    from selfreward.training.test_time import select as select_by_spec

    asked: dict[str, Any] = {"rule": rule, "score": score, "n": n, "limit": limit, "seed": seed}
    asked |= {k: settings.pop(k) for k in ("power", "threshold") if k in settings}
    with specs() as spec_of:
        asked |= {"model": spec_of.model(model), "data": spec_of.data(data, None, settings)}
        return select_by_spec(**asked, settings=settings)


def _fitted(trainer: Trainer) -> Run:
    policy: Any = trainer.policy
    return Run(trainer.out, trainer.fit(), policy)


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts) + "</tr>"
