"""Kill -9 at random moments, resume, compare bit by bit.

Half of the kills come from outside after a random time; the other half come from within the writing of a
checkpoint, a log or the final model, at a random one of the calls that touch the disk. A run is killed and
resumed until it ends; then its weights, its optimiser and recipe state, its metrics (without the clocks) and its
rollouts must equal those of a run that was never stopped.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfreward.lab.campaigns import Case, child, ended, go, kill, trace

# Recipes whose state differs in kind: several updates per batch, stores, iterations, critics, frozen copies,
# a proposer's bank, a sentinel that changes the run.
CASES: dict[str, Case] = {
    "vote": Case("vote", {"epochs": 2, "minibatches": 2}, {}),
    "vote-adapt": Case("vote", {"sentinel": "adapt"}, {"kl": 0.05}),
    "co-reward": Case("co-reward", {"model": "embedded:view"}, {}),
    "scpo": Case("scpo", {}, {}),
    "rlsf": Case("rlsf", {}, {}),
    "serl": Case("serl", {"model": "embedded:chain-writer"}, {}),
    "masa": Case("masa", {"model": "embedded:chain-wide"}, {}),
    "knapsack-rl": Case("knapsack-rl", {"model": "embedded:chain-wide"}, {}),
    "self-rewarded-efficiency": Case("self-rewarded-efficiency", {"model": "embedded:eff"}, {}),
    "ssr-zero": Case("ssr-zero", {"model": "embedded:trans", "max_new_tokens": 16}, {}),
}
LONGEST_S = 300.0
PER_RUN = 5  # kills after which a run is left alone, so that all recipes have their share


def say_now(text: str) -> None:
    print(text, flush=True)


def run(
    out: Path, kills: int, seed: int = 0, cases: dict[str, Case] | None = None, say: Callable[[str], None] = say_now
) -> dict[str, Any]:
    """At least ``kills`` kills, spread over the cases. Returns the content of ``evidence/crashes.json``."""
    draw = random.Random(seed)
    cases = cases or CASES
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    whole: dict[str, Any] = {}
    lasted: dict[str, float] = {}
    for name, case in cases.items():
        begun = time.monotonic()
        code = ended(child(lambda case=case, name=name: go(case.config(out / f"{name}-whole")), out / "log"), LONGEST_S)  # type: ignore[misc]
        if code != 0:
            raise RuntimeError(f"{name} does not run at all: {(out / 'log').read_text()}")
        lasted[name] = time.monotonic() - begun
        whole[name] = trace(out / f"{name}-whole")
        say(f"{name}: {lasted[name]:.1f} s when nobody disturbs it")
    table = {name: {"runs": 0, "kills": 0, "inside_writing": 0, "bit_equal": 0} for name in cases}
    differing: list[str] = []
    while sum(row["kills"] for row in table.values()) < kills:
        name = min(table, key=lambda n: table[n]["kills"])
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        _until_done(name, cases[name], folder, lasted[name], draw, table[name], out / "log")
        table[name]["runs"] += 1
        same = trace(folder) == whole[name]
        table[name]["bit_equal"] += same
        if not same:
            differing.append(f"{name}, run {table[name]['runs']}")
            shutil.copytree(folder, out / f"{name}-differs-{table[name]['runs']}", dirs_exist_ok=True)
        done = sum(row["kills"] for row in table.values())
        say(f"{done} of {kills} kills, {name}: {'bit-equal' if same else 'DIFFERS'}")
    runs = sum(row["runs"] for row in table.values())
    return {
        "kills": sum(row["kills"] for row in table.values()),
        "inside_writing": sum(row["inside_writing"] for row in table.values()),
        "recipes": table,
        "runs": runs,
        "bit_equal": sum(row["bit_equal"] for row in table.values()),
        "lost": runs - sum(row["bit_equal"] for row in table.values()),
        "differing": differing,
        "seed": seed,
        "command": f"selfreward campaign crashes --size {kills} --seed {seed}",
    }


def _until_done(
    name: str, case: Case, folder: Path, lasted: float, draw: random.Random, row: dict[str, int], log: Path
) -> None:
    """Kill and resume up to :data:`PER_RUN` times, and let the run end by itself."""
    for attempt in range(PER_RUN + 1):
        alone = attempt == PER_RUN
        inside = not alone and draw.random() < 0.5
        point = draw.randrange(1, 60) if inside else 0

        def work(point: int = point) -> None:
            if point:
                _kill_at(point)
            go(case.config(folder))

        pid = child(work, log)
        code = ended(pid, LONGEST_S if inside or alone else draw.uniform(0.05, 0.9 * lasted))
        if code == 0:
            return
        if code is None:
            kill(pid)
            if alone:
                raise RuntimeError(f"{name} hangs after a resume")
        elif code != -signal.SIGKILL:
            raise RuntimeError(f"{name} failed by itself after a resume: {log.read_text()}")
        row["kills"] += 1
        row["inside_writing"] += inside


def _kill_at(point: int) -> None:
    """Let this process kill itself before its ``point``-th call that changes the disk."""
    left = [point]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    import safetensors.torch

    for place, names in (
        (os, ("rename", "replace", "mkdir", "fsync", "unlink", "rmdir")),
        (Path, ("write_text", "open")),
        (safetensors.torch, ("save_file",)),
    ):
        for name in names:
            setattr(place, name, counted(getattr(place, name)))
