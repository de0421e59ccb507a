"""Ours beside trl, interleaved; writes evidence/speed.json. See README.md in this folder."""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingredients import ALL, INGREDIENTS
from models import make

HERE = Path(__file__).parent
SHAPES: dict[str, dict[str, Any]] = {
    "standard": {"prompts": 8, "group": 8, "prompt-length": 0, "new-tokens": 64},
    "prefill-heavy": {"prompts": 4, "group": 8, "prompt-length": 512, "new-tokens": 32},
    "long-outputs": {"prompts": 2, "group": 8, "prompt-length": 32, "new-tokens": 512},
    "groups-of-64": {"prompts": 2, "group": 64, "prompt-length": 0, "new-tokens": 64},
    "vocabulary-300": {"prompts": 4, "group": 8, "prompt-length": 0, "new-tokens": 32},
    "vocabulary-150000": {"prompts": 4, "group": 8, "prompt-length": 0, "new-tokens": 32},
}
# Runs cost seconds to minutes a step: many steps where they are short, few where they are long.
STEPS = {"0.2": (3, 15), "0.8": (3, 10), "3": (2, 6), "10": (1, 3)}
PAIRS = {"0.2": (4, 30), "0.8": (4, 20), "3": (2, 8), "10": (2, 3)}  # the same for steps with and without an ingredient


def one(
    side: str, model: Path, shape: dict[str, Any], *more: object, processes: int = 1, threads: int = 1
) -> dict[str, Any]:
    """One run of one side."""
    options = [str(x) for k, v in shape.items() for x in (f"--{k}", v)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher = [] if processes == 1 else torchrun
    command = [sys.executable, *launcher, str(HERE / "side.py"), side, str(model), *options, *map(str, more)]
    threads = str(more[more.index("--threads") + 1]) if "--threads" in more else "1"
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def task_of(start: str) -> list[str]:
    """Warm models vote and stop when they like; random ones write digits up to the limit."""
    return ["--reward", "vote"] if start == "warm" else ["--reward", "digits", "--full-length"]


def folder_of(size: str, start: str, shape: str, cache: Path) -> Path:
    vocabulary = int(shape.partition("vocabulary-")[2] or 0)
    return make(cache / f"{size}-{start}{f'-{vocabulary}' if vocabulary else ''}", size, start, vocabulary)


def case(size: str, start: str, shape: str, cache: Path, rounds: int) -> dict[str, Any]:
    folder = folder_of(size, start, shape, cache)
    warm_up, steps = STEPS[size] if shape == "standard" else (1, 4)
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
    for seed in range(rounds):
        for side in found:
            budget = ("--warm-up", warm_up, "--steps", steps, "--seed", seed)
            found[side].append(one(side, folder, SHAPES[shape], *task_of(start), *budget))
    summary = {side: summarise(runs) for side, runs in found.items()}
    a, b = summary["ours"], summary["trl"]
    by_round = zip(found["ours"], found["trl"], strict=True)
    ratio = {
        "steps_per_s": b["step_s"] / a["step_s"],
        "steps_per_s_by_round": [theirs["step_s"] / mine["step_s"] for mine, theirs in by_round],
        "tokens_per_s": a["tokens_per_s"] / b["tokens_per_s"],
        "peak_memory": a["peak_mb"] / b["peak_mb"],
        "working_memory": a["working_mb"] / b["working_mb"],
        "first_step": b["first_step_s"] / a["first_step_s"],
    }
    return {"model": size, "start": start, "shape": shape, "rounds": rounds, **summary, "ratio": ratio}


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians; quartiles over the steps of all runs, ranges over the runs for what a run has once."""
    pace = [n / s for r in runs for n, s in zip(r["tokens"], r["steps_s"], strict=True)]
    once = {
        "peak_mb": [r["peak_mb"] for r in runs],
        # beyond what importing and loading had taken before the first step
        "working_mb": [r["peak_mb"] - r["ready_mb"] for r in runs],
        "first_step_s": [r["first_step_s"] for r in runs],
    }
    return {
        **middle("step", "_s", [s for r in runs for s in r["steps_s"]]),
        "tokens": statistics.fmean(n for r in runs for n in r["tokens"]),
        **middle("tokens_per", "_s", pace),
        **{name: statistics.median(values) for name, values in once.items()},
        **{f"{name}_range": [min(values), max(values)] for name, values in once.items()},
    }


def middle(name: str, unit: str, values: Sequence[float]) -> dict[str, Any]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {f"{name}{unit}": median, f"{name}_quartiles": [low, high]}


# What is worth nothing on short prompts and a small vocabulary, where it is worth something.
ELSEWHERE = {
    "prefill-heavy": ("logits at completions only", "logits in chunks", "one prefill per group", "small micro-batches",
                      "shared prefixes, identical completions once"),
    "vocabulary-150000": ("logits at completions only", "logits in chunks"),
}  # fmt: skip


def ablation(size: str, start: str, shape: str, cache: Path, rounds: int) -> dict[str, Any]:
    """What a step costs without each ingredient, and without all of them.

    A run leaves the ingredient out in every second step: what the machine does in the meantime hits both alike. Memory
    comes from a run of its own.
    """
    folder = folder_of(size, start, shape, cache)
    names = ELSEWHERE.get(shape, tuple(INGREDIENTS))
    arms = {f"without {name}": [name] for name in names}
    if shape == "standard":
        arms["without all of them"] = list(ALL)
    warm_up, pairs = PAIRS[size] if shape == "standard" else (2, 2)
    run = functools.partial(one, "ours", folder, SHAPES[shape], *task_of(start))
    plain = run("--warm-up", 0, "--steps", 2)
    base_mb = plain["peak_mb"] - plain["ready_mb"]
    rows: dict[str, Any] = {}
    for name, left_out in arms.items():
        times: list[tuple[float, float]] = []
        for seed in range(rounds):
            options = (
                "--warm-up",
                warm_up,
                "--steps",
                2 * pairs,
                "--seed",
                seed,
                "--alternate",
                "--without",
                *left_out,
            )
            steps = run(*options)["steps_s"]
            times.append((statistics.median(steps[0::2]), statistics.median(steps[1::2])))
        alone = run("--warm-up", 0, "--steps", 2, "--without", *left_out)
        slower = [without / with_it for with_it, without in times]
        rows[name] = {
            "plain_s": statistics.median(t for t, _ in times),
            "step_s": statistics.median(t for _, t in times),
            "slower": statistics.median(slower),
            "slower_range": [min(slower), max(slower)],
            "working_mb": alone["peak_mb"] - alone["ready_mb"],
            "working_memory": (alone["peak_mb"] - alone["ready_mb"]) / base_mb,
        }
    return {"model": size, "start": start, "shape": shape, "rounds": rounds, "working_mb": base_mb, "arms": rows}


def settings(size: str, start: str, cache: Path, rounds: int) -> dict[str, Any]:
    """Threads and precision: one thread in float32 beside two threads, and beside bfloat16, as neighbours."""
    folder = folder_of(size, start, "standard", cache)
    warm_up, steps = STEPS[size]
    run = functools.partial(one, "ours", folder, SHAPES["standard"], *task_of(start))
    arms = {"two threads": ("--threads", 2), "bfloat16": ("--dtype", "bfloat16")}
    rows: dict[str, Any] = {}
    for name, options in arms.items():
        both: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for seed in range(rounds):
            budget = ("--warm-up", warm_up, "--steps", steps, "--seed", seed)
            both.append((run(*budget), run(*budget, *options)))
        slower = [other["step_s"] / plain["step_s"] for plain, other in both]
        rows[name] = {
            "plain_s": statistics.median(plain["step_s"] for plain, _ in both),
            "step_s": statistics.median(other["step_s"] for _, other in both),
            "slower": statistics.median(slower),
            "slower_range": [min(slower), max(slower)],
            "working_mb": statistics.median(other["peak_mb"] - other["ready_mb"] for _, other in both),
        }
    base_mb = statistics.median(plain["peak_mb"] - plain["ready_mb"] for plain, _ in both)
    return {"model": size, "start": start, "shape": "standard", "rounds": rounds, "working_mb": base_mb, "arms": rows}


def learning(cache: Path, rounds: int, steps: int = 60) -> dict[str, Any]:
    """Mean reward of the last ten steps from a random start, both sides, by seed."""
    folder = folder_of("0.2", "random", "standard", cache)
    found: dict[str, list[float]] = {"ours": [], "trl": []}
    for seed in range(rounds):
        for side in found:
            budget = ("--warm-up", 0, "--steps", steps, "--lr", 1e-3, "--seed", seed)
            run = one(side, folder, {**SHAPES["standard"], "new-tokens": 16}, *task_of("random"), *budget)
            found[side].append(statistics.fmean(run["rewards"][-10:]))
    return {
        "steps": steps,
        **{f"{side}_reward": values for side, values in found.items()},
        **{f"{side}_mean": statistics.fmean(values) for side, values in found.items()},
    }


def two_processes(size: str, start: str, cache: Path, rounds: int) -> dict[str, Any]:
    """The same total batch on one process and on two."""
    folder = folder_of(size, start, "standard", cache)
    warm_up, steps = STEPS[size]
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for seed in range(rounds):
        for processes in found:
            budget = ("--warm-up", warm_up, "--steps", steps, "--seed", seed)
            run = one("ours", folder, SHAPES["standard"], *task_of(start), *budget, processes=processes)
            found[processes].append(run)
    one_s, two_s = (summarise(found[n])["step_s"] for n in (1, 2))
    by_round = [a["step_s"] / b["step_s"] for a, b in zip(found[1], found[2], strict=True)]
    result = {"model": size, "start": start, "rounds": rounds, "one_step_s": one_s, "two_step_s": two_s}
    return {**result, "speed_up": statistics.median(by_round), "speed_up_by_round": by_round}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=["0.2", "0.8", "3", "10"])
    parser.add_argument("--starts", nargs="+", default=["warm", "random"])
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--ablations", nargs="*", default=["0.2", "0.8", "3"], help="sizes to take apart, warm")
    parser.add_argument("--elsewhere", nargs="*", default=list(ELSEWHERE), help="shapes to take apart, 0.8 M, random")
    parser.add_argument("--settings", nargs="*", default=["0.8", "3"], help="sizes for threads and precision")
    parser.add_argument("--processes", nargs="*", default=["0.8", "3", "10"], help="sizes to run on two processes")
    parser.add_argument("--learning", type=int, default=3, help="seeds of the learning check; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("runs/bench"))
    parser.add_argument("--out", type=Path, default=Path("evidence/speed.json"))
    a = parser.parse_args()
    result: dict[str, Any] = json.loads(a.out.read_text()) if a.out.exists() else {}
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread per process"}
    result |= {"versions": versions()}

    def keep(section: str, entry: dict[str, Any], *key: str) -> None:
        """Replace the entry of the same case, so that a part can be measured again."""
        old = [e for e in result.get(section, []) if any(e.get(k) != entry[k] for k in key)]
        result[section] = [*old, entry]
        a.out.parent.mkdir(parents=True, exist_ok=True)
        a.out.write_text(json.dumps(result, indent=1) + "\n")

    for shape in a.shapes:
        for size in a.sizes if shape == "standard" else ["0.8"]:
            for start in a.starts if shape == "standard" else ["random"]:
                found = case(size, start, shape, a.cache, a.rounds)
                keep("cases", found, "model", "start", "shape")
                ratio = {k: round(v, 2) for k, v in found["ratio"].items() if not isinstance(v, list)}
                print(f"{shape}, {size} M, {start}: ours {found['ours']['step_s']:.3f} s/step, {ratio}", flush=True)
    taken_apart = [(size, "warm", "standard") for size in a.ablations]
    for size, start, shape in [*taken_apart, *(("0.8", "random", shape) for shape in a.elsewhere)]:
        found = ablation(size, start, shape, a.cache, a.rounds)
        keep("ablations", found, "model", "start", "shape")
        print(size, start, shape, {k: round(v["slower"], 2) for k, v in found["arms"].items()}, flush=True)
    for size in a.settings:
        for start in a.starts:
            found = settings(size, start, a.cache, a.rounds)
            keep("settings", found, "model", "start")
            print(size, start, {k: round(v["slower"], 2) for k, v in found["arms"].items()}, flush=True)
    for size in a.processes:
        for start in a.starts:
            found = two_processes(size, start, a.cache, a.rounds)
            keep("two_processes", found, "model", "start")
            print(f"two processes, {size} M, {start}: {found['speed_up']:.2f} times one", flush=True)
    if a.learning:
        result["learning"] = learning(a.cache, a.learning)
        a.out.write_text(json.dumps(result, indent=1) + "\n")
        print(result["learning"], flush=True)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "trl")}


main()
