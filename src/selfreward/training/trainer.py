"""The trainer: one loop, in the order in which things happen. It knows no method.

    prompts -> recipe.collect -> experience -> learner -> weights
                     |                              |
                  monitors                     metrics, rollouts, checkpoints

Every random draw derives from (seed, step), so a resumed run continues bit by bit from its last
checkpoint: weights, optimiser, data cursor, recipe and monitor have a state, and nothing else does.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from selfreward.data import PromptStream
from selfreward.data.task import Task
from selfreward.errors import CheckpointError, RecipeError
from selfreward.evaluation.held_out import held_out
from selfreward.evaluation.sentinel.detector import Alarm
from selfreward.evaluation.sentinel.monitors import group_statistics
from selfreward.evaluation.sentinel.watch import RECIPE_REMEDIES, Sentinel
from selfreward.policy.protocol import TrainablePolicy
from selfreward.recipes.base import Recipe
from selfreward.rollouts.run import RunContext
from selfreward.runtime import checkpoint, distributed
from selfreward.runtime.files import write_text
from selfreward.runtime.seeding import stream_seed
from selfreward.runtime.user_code import blaming, within
from selfreward.training.config import TrainConfig, write_config
from selfreward.training.guards import UpdateGuard
from selfreward.training.learner import Learner, make_optimizer, make_schedule
from selfreward.training.run_log import RunLog
from selfreward.types import Experience

Record = dict[str, Any]
Listener = Callable[[Record], None]


class Trainer:
    """Trains ``policy`` by ``recipe`` on ``task`` and writes the run folder.

    Args:
        config: resolved configuration (no None left among the numbers that the loop needs).
        on_step: called with every step's record.
    """

    def __init__(
        self,
        policy: TrainablePolicy,
        recipe: Recipe,
        task: Task,
        config: TrainConfig,
        *,
        on_step: Listener | None = None,
    ) -> None:
        assert config.steps and config.prompts_per_step and config.max_new_tokens and config.lr and config.adam_eps
        self.policy, self.recipe, self.task, self.config = policy, recipe, task, config
        self.steps: int = config.steps
        self.out = Path(config.out)
        self.evaluator = self._evaluate
        self.on_step = on_step or (lambda record: None)
        self.sampling = config.sampling_params()
        self.objective = recipe.objective(config.max_new_tokens)
        self.reference = policy.snapshot(offload=True)
        self.stream = PromptStream(task.train, config.seed)
        updates = config.epochs * config.minibatches * self.steps
        self.learner = Learner(
            policy,
            make_optimizer(
                policy, config.lr, (config.adam_beta1, config.adam_beta2), config.adam_eps, config.weight_decay
            ),
            make_schedule(config.schedule, config.lr, config.warmup_steps, updates),
            temperature=config.temperature or 1.0,
            grad_clip=config.grad_clip,
            epochs=config.epochs,
            minibatches=config.minibatches,
            micro_tokens=config.micro_tokens,
            guard=UpdateGuard(
                self.out / "bad_updates",
                config.bad_update,
                config.max_bad_updates,
                config.max_log_ratio,
                policy.describe,
            ),
        )
        self.log = RunLog(self.out, config.log_groups)
        self.sentinel = Sentinel.of(config, task, self.reference, self.sampling)
        self.step = 0
        self.begun = False  # whether the start was measured and logged
        self.wall = 0.0
        self.before: dict[str, Any] = {}
        self.best: dict[str, Any] = {}
        self.mechanism = 0
        self._stop = False

    # ---------------------------------------------------------------- the loop

    def fit(self, before: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run to the last step and write the run folder. Returns the summary.

        Args:
            before: held-out metrics of the start where they are known already.

        Raises:
            KeyboardInterrupt: after an interrupt, once the current step is finished and saved.
        """
        config = self.config
        after: dict[str, Any] = {}
        if not self.begun:
            distributed.barrier()  # everybody has looked whether the folder is free
            if distributed.is_main():
                self.out.mkdir(parents=True, exist_ok=True)
                write_config(config, self.out / "config.yaml")
            self.before = before if before is not None else self.evaluator(self.policy)
            self._note_best(0, self.before)
            record: Record = {"step": 0, **self._measured(self.before), **self.sentinel.look(self.policy, 0)}
            self.sentinel.observe(record)
            self.log.record(record)
            self._save()
            self.begun = True
        with _graceful(self):
            while not self.done:
                begun = time.perf_counter()
                record = self._one_step()
                self.wall += time.perf_counter() - begun
                if self._due(config.eval_every) and not self.done:
                    metrics = self.evaluator(self.policy)
                    self._note_best(self.step, metrics)
                    record |= self._measured(metrics)
                if self.done:
                    after = self.evaluator(self.policy)
                    self._note_best(self.step, after)
                    record |= self._measured(after)
                self.log.record(record)
                self.on_step(record)
                self._stop = distributed.any_of(self._stop)
                if self._due(config.checkpoint_every) or self.done or self._stop:
                    self._save()
                if self._stop and not self.done:
                    raise KeyboardInterrupt
        return self._finish(after)

    @property
    def done(self) -> bool:
        """Whether the last step is behind: all steps taken, or the budget of generated tokens spent."""
        spent = sum(n for role, n in self.policy.counts.generated.items() if role != "probe")
        return (
            bool(self.sentinel.ended)
            or self.step >= self.steps
            or (self.config.token_budget is not None and spent >= self.config.token_budget)
        )

    def _one_step(self) -> Record:
        """Sample, score, learn: one rollout batch."""
        config = self.config
        step = self.step + 1
        prompts = self.stream.next(config.prompts_per_step or 1)
        if self.recipe.needs() == "none":
            prompts = [p.locked(self.recipe.name, self.recipe.fields) for p in prompts]
        run = RunContext.of(
            self.task,
            policy=self.policy,
            reference=self.reference,
            sampling=self.sampling,
            seed=config.seed,
            step=step,
            steps=self.steps,
        )
        self.policy.seed(config.seed, "step", step)
        started = time.perf_counter()
        doing = f"collecting step {step} (the weights are those of step {step - 1})"
        with within(config.step_timeout_s, doing), blaming(doing):
            experience = self.recipe.collect(self.policy, prompts, run)
        collected = time.perf_counter()
        if not isinstance(experience, Experience):
            raise RecipeError(f"Recipe {self.recipe.name!r} returned {type(experience).__name__}, not an Experience.")
        distributed.agree(f"the experience of step {step}", _digest(experience))
        generator = torch.Generator().manual_seed(stream_seed(config.seed, "minibatches", step))
        learned = self.learner.learn(experience, self.objective, generator, self.reference)
        finished = time.perf_counter()
        self.step = step
        touched = run.counts.get(self.recipe.mechanism, 0)
        self.mechanism += touched
        stats = group_statistics(experience.groups, self.task.answers, self.task.well_formed)
        stats |= self.sentinel.look(self.policy, step, experience.groups)
        alarms = self.sentinel.observe({"step": step, **stats, **experience.stats, **learned})
        self._act(alarms)
        advantages = (
            torch.cat([r.advantage[r.mask > 0] for r in experience.rows]) if experience.rows else torch.zeros(1)
        )
        self.log.groups(step, experience.groups, self.task.answers)
        return {
            "step": step,
            **stats,
            **experience.stats,
            **learned,
            "advantage_norm": float(advantages.norm()),
            "mechanism": touched,
            **self.policy.numbers,
            **{f"tokens/generated/{role}": n for role, n in self.policy.counts.generated.items()},
            **{f"tokens/scored/{role}": n for role, n in self.policy.counts.scored.items()},
            "tokens/generated": sum(self.policy.counts.generated.values()),
            "tokens/scored": sum(self.policy.counts.scored.values()),
            "tokens/trained": self.learner.trained_tokens,
            "time/collect": collected - started,
            "time/learn": finished - collected,
            "alarms": [a.as_dict() for a in alarms],
        }

    def _act(self, alarms: list[Alarm]) -> None:
        """Carry out what the sentinel decided on these alarms."""
        if self.sentinel.ended.get("action") == "rollback":
            self.policy.load_state_dict(self.sentinel.best["weights"])
        own = {name: getattr(self.recipe, name) for name in RECIPE_REMEDIES if hasattr(self.recipe, name)}
        if self.sentinel.adapt(alarms, {"temperature": self.sampling.temperature, **own}):
            self._adapted()

    def _adapted(self) -> None:
        """Put the sentinel's changes into force, now and after a resume."""
        changes = self.sentinel.changes
        for name in changes.keys() & set(RECIPE_REMEDIES):
            setattr(self.recipe, name, changes[name])
        temperature = changes.get("temperature", self.sampling.temperature)
        self.sampling = replace(self.sampling, temperature=temperature)
        self.learner.temperature = temperature or 1.0
        self.objective = self.recipe.objective(self.sampling.max_new_tokens)

    # ---------------------------------------------------------------- measuring

    def _evaluate(self, policy: TrainablePolicy) -> dict[str, Any]:
        with blaming(f"evaluating after step {self.step}"):
            config = self.config  # as configured, whatever the sentinel has changed since
            return held_out(
                policy,
                self.task,
                prompts=config.eval_prompts,
                samples=config.eval_samples,
                params=config.sampling_params(),
            )

    def _measured(self, metrics: dict[str, Any]) -> Record:
        """Held-out metrics as they are recorded; ``truth`` is the one by which the task is judged."""
        found = _flat("eval", metrics)
        main = metrics.get(self.task.metric)
        return found if main is None else found | {"truth": main}

    def _note_best(self, step: int, metrics: dict[str, Any]) -> None:
        score = metrics.get(self.task.metric)
        if score is not None and score > self.best.get(self.task.metric, float("-inf")):
            self.best = {"step": step, **{k: v for k, v in metrics.items() if isinstance(v, int | float)}}

    # ---------------------------------------------------------------- files

    def _due(self, every: int | None) -> bool:
        return bool(every) and self.step % int(every or 1) == 0

    def _save(self) -> None:
        state = {
            "policy": self.policy.state_dict(),
            "optimizer": checkpoint.optimizer_state(self.learner.optimizer),
            "updates": self.learner.updates,
            "trained_tokens": self.learner.trained_tokens,
            "stream": self.stream.state_dict(),
            "recipe": self.recipe.state_dict(),
            "sentinel": self.sentinel.state_dict(),
            "counts": {"generated": self.policy.counts.generated, "scored": self.policy.counts.scored},
            "before": self.before,
            "best": self.best,
            "mechanism": self.mechanism,
            "wall": self.wall,
        }
        if distributed.is_main():
            checkpoint.save_checkpoint(self.out / "checkpoints", self.step, state, self.config.keep_checkpoints)

    def resume(self) -> list[str]:
        """Load the newest whole checkpoint of the run folder; returns notes on what was passed over.

        A run that died before its first checkpoint begins again.

        Raises:
            CheckpointError: if there are checkpoints and none is whole.
        """
        if not checkpoint.newest_steps(self.out / "checkpoints"):
            self.log.cut(-1)
            return ["there was no checkpoint yet; the run begins again"]
        step, state, notes = checkpoint.load_newest(self.out / "checkpoints")
        if step > self.steps:
            raise CheckpointError(f"The run is at step {step} already, beyond steps={self.steps}.")
        self.policy.load_state_dict(state["policy"])
        checkpoint.load_optimizer_state(self.learner.optimizer, state["optimizer"])
        self.learner.updates = state["updates"]
        self.learner.trained_tokens = state["trained_tokens"]
        self.stream.load_state_dict(state["stream"])
        self.recipe.load_state_dict(state["recipe"])
        self.sentinel.load_state_dict(state["sentinel"])
        self._adapted()
        self.policy.counts.generated = dict(state["counts"]["generated"])
        self.policy.counts.scored = dict(state["counts"]["scored"])
        self.before, self.best = state["before"], state["best"]
        self.mechanism, self.wall, self.step = state["mechanism"], state["wall"], step
        self.begun = True
        self.log.cut(step)
        return [f"passed over: {note}" for note in notes]

    def _finish(self, after: dict[str, Any]) -> dict[str, Any]:
        if not after:  # resumed at the very end
            after = self.evaluator(self.policy)
        self.policy.save(self.out / "model")
        summary = {
            "recipe": self.recipe.name,
            "system_id": self.recipe.system_id,
            "labels": self.recipe.needs(),
            "control": self.recipe.control,
            "seed": self.config.seed,
            "steps": self.step,
            "model": self.config.model,
            "data": self.task.name,
            "metric": self.task.metric,
            "before": self.before,
            "after": after,
            "best": self.best,
            "tokens": {
                "generated": sum(self.policy.counts.generated.values()),
                "scored": sum(self.policy.counts.scored.values()),
                "trained": self.learner.trained_tokens,
            },
            "mechanism": {"name": self.recipe.mechanism, "count": self.mechanism},
            "wall_s": round(self.wall, 2),
            "alarms": self.sentinel.raised,
            "sentinel": self.sentinel.ended | {"best_step": self.sentinel.best.get("step")},
        }
        if distributed.is_main():
            write_text(self.out / "summary.json", json.dumps(summary, indent=1))
        distributed.barrier()
        return summary


class _graceful:  # noqa: N801
    """Lets an interrupt wait for the end of the step; a second one is immediate."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.kept: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self.kept[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.trainer._stop:
            raise KeyboardInterrupt
        self.trainer._stop = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.kept.items():
            signal.signal(number, handler)


def _digest(experience: Experience) -> tuple[object, ...]:
    """What processes that learn together must have in common, in a few numbers."""
    rows = experience.rows
    tokens = sum(int(r.tokens.sum()) for r in rows)
    advantage = sum(float(r.advantage.sum()) for r in rows)
    return len(rows), len(experience.pairs), tokens, round(advantage, 4)


def _flat(prefix: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{k}": v for k, v in metrics.items() if isinstance(v, int | float)}
