"""An audit of a model and data that the user names: what :func:`selfreward.evaluation.audit.auditor.audit` needs,
loaded from specs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError
from selfreward.training.config import make_config

if TYPE_CHECKING:
    from selfreward.evaluation.audit.record import AuditReport


def audit_of(
    model: str | None = None,
    data: str | None = None,
    *,
    rollouts: str | Path | None = None,
    signals: Sequence[str] | None = None,
    n: int = 16,
    prompts: int | None = None,
    labels: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> AuditReport:
    """Which signals can be believed on this model and data, before any training.

    Args:
        model: folder, hub id, or ``embedded:NAME``; with ``rollouts`` it scores them, and without a model only signals
            of text are scored.
        data: prompts; by default those of the embedded model's task.
        rollouts: a JSONL file with completions that were made elsewhere.
        signals: names with options; by default all that can be scored here.
        n: completions per prompt.
        prompts: prompts at most; by default 64, or all of ``rollouts``.
        labels: look at the answers of so many prompts; None for all that have one, 0 for none.
        settings: further settings of a run, such as ``{"answers": "number"}``.

    Raises:
        ConfigError: for an unknown signal or setting.
        DataError: without prompts, or for a file that cannot be read.
    """
    from selfreward.data.answers import answer_space
    from selfreward.data.rollout_files import read_rollouts
    from selfreward.evaluation.audit.auditor import audit
    from selfreward.policy.loading import load_policy
    from selfreward.training.launch import resolve_defaults, set_threads, task_of

    if prompts is not None and prompts < 1:
        raise ConfigError(f"--prompts is {prompts}; it must be 1 or more.")
    given = {"model": model, "data": data, "seed": seed}
    config = make_config({k: v for k, v in given.items() if v is not None} | dict(settings or {}))
    set_threads(config)
    policy = None
    if rollouts is None or model is not None:
        policy = load_policy(config.model, dtype=config.dtype, device=config.device, chat=config.chat)
    if rollouts is not None:
        # A task lends its templates and its way to read answers only where it was asked for.
        task = task_of(config) if data or (model or "").startswith("embedded:") else None
        space = None if task else answer_space(config.answers)
        source = read_rollouts(rollouts, prompts)
        report = audit(source, task, signals=signals, seed=config.seed, labels=labels, answers=space, policy=policy)
        report.data = str(rollouts)
    else:
        assert policy is not None
        task = task_of(config)
        config = resolve_defaults(config, task, policy)
        sampling = config.sampling_params(default_tokens=256)
        asked = {"prompts": prompts or 64, "signals": signals, "n": n, "labels": labels}
        report = audit(policy, task, **asked, seed=config.seed, sampling=sampling)  # type: ignore[arg-type]
        report.data = config.data or task.name
    report.model = config.model if policy is not None else ""
    return report
