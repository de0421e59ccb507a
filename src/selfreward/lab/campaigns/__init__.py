"""Campaigns against the trainer itself: kills, faults and bad input by the hundred, each with its own evidence.

They run for minutes, by their own command (``selfreward campaign``); a small piece of each is in the tests.
Processes are forked, so that a run costs what its steps cost and not the import of torch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.runtime.files import read_jsonl, write_text

# What differs between two runs that are the same: clocks, and where they lie.
CLOCKS = ("time/", "wall")

SMALL: dict[str, Any] = {
    "steps": 6,
    "prompts_per_step": 4,
    "eval_prompts": 0,
    "checkpoint_every": 1,
    "probe_prompts": 4,
    "probe_samples": 2,
    "probe_every": 2,
    "log_groups": -1,
}


@dataclass(frozen=True)
class Case:
    """A run that a campaign starts again and again."""

    recipe: str
    settings: Mapping[str, Any]
    options: Mapping[str, Any]

    def config(self, out: Path) -> dict[str, Any]:
        options = {"group_size": 4, **self.options}
        return {**SMALL, **self.settings, "recipe": self.recipe, "options": options, "out": str(out)}


def warm_up() -> None:
    """Import in this process what every fork of it will need."""
    import torch

    import selfreward.lab.proofs.registry
    import selfreward.training.launch
    import selfreward.training.trainer  # noqa: F401
    from selfreward.policy.loading import load_policy
    from selfreward.recipes.registry import RECIPES, recipe_class
    from selfreward.types import Prompt

    torch.set_num_threads(1)
    load_policy("embedded:chain", device="cpu").sample([Prompt("warm-up", text="1")])
    for name in RECIPES:
        recipe_class(name)


def go(values: Mapping[str, Any]) -> None:
    """Begin the run, or continue it if its folder holds one."""
    from selfreward.training.config import make_config
    from selfreward.training.launch import resume, start

    out = Path(str(values["out"]))
    trainer = resume(out, [])[0] if (out / "config.yaml").exists() else start(make_config(values))
    trainer.fit()


def child(work: Callable[[], None], log: Path) -> int:
    """The process id of a fork that does ``work`` and ends; an exception is written to ``log`` and is exit code 1."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        work()
        code = 0
    except BaseException:
        log.write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(code)


def ended(pid: int, within_s: float) -> int | None:
    """The exit code (minus the signal) of a child, or None if it still runs after ``within_s``."""
    until = time.monotonic() + within_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def kill(pid: int) -> None:
    """kill -9 of a child's whole session, and wait for it."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def trace(out: Path) -> dict[str, Any]:
    """What a finished run left behind, without its clocks: equal for runs that are bit-equal."""
    import hashlib

    from selfreward.runtime import checkpoint

    weights = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((out / "model").glob("*.safetensors"))
    }
    steps = checkpoint.newest_steps(out / "checkpoints")
    last = out / "checkpoints" / f"{checkpoint.PREFIX}{steps[0]:08d}" / "tensors.safetensors"
    return {
        "weights": weights,
        "state": hashlib.sha256(last.read_bytes()).hexdigest(),
        "metrics": [_timeless(record) for record in read_jsonl(out / "metrics.jsonl")],
        "rollouts": hashlib.sha256((out / "rollouts.jsonl").read_bytes()).hexdigest(),
    }


def _timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if not k.startswith(CLOCKS)}


def write_evidence(path: Path, result: Mapping[str, Any]) -> None:
    """A campaign's evidence file, whole or not at all."""
    from selfreward.lab.evidence.machine import machine

    write_text(path, json.dumps({**result, "machine": machine()}, indent=1) + "\n")
