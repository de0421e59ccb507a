"""Ours beside trl, interleaved; writes evidence/speed.json. See README.md in this folder."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHAPES: dict[str, dict[str, Any]] = {
    "standard": {"prompts": 8, "group": 8, "prompt-length": 0, "new-tokens": 64},
    "prefill-heavy": {"prompts": 4, "group": 8, "prompt-length": 512, "new-tokens": 32},
    "long-outputs": {"prompts": 4, "group": 8, "prompt-length": 32, "new-tokens": 512},
    "groups-of-64": {"prompts": 4, "group": 64, "prompt-length": 0, "new-tokens": 64},
    "vocabulary-150000": {"prompts": 4, "group": 8, "prompt-length": 0, "new-tokens": 32},
}


def one(side: str, model: Path, shape: dict[str, Any], warm_up: int, steps: int, seed: int) -> dict[str, Any]:
    options = [str(x) for k, v in shape.items() for x in (f"--{k}", v)]
    command = [sys.executable, str(HERE / "side.py"), side, str(model), *options]
    command += ["--warm-up", str(warm_up), "--steps", str(steps), "--seed", str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def case(size: str, start: str, shape: str, cache: Path, rounds: int, warm_up: int, steps: int) -> dict[str, Any]:
    from models import make

    vocabulary = 150_000 if shape == "vocabulary-150000" else 0
    folder = make(cache / f"{size}-{start}{'-wide' if vocabulary else ''}", size, start, vocabulary)
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
    for seed in range(rounds):
        for side in found:
            found[side].append(one(side, folder, SHAPES[shape], warm_up, steps, seed))
    summary = {side: summarise(runs) for side, runs in found.items()}
    a, b = summary["ours"], summary["trl"]
    ratio = {
        "steps_per_s": b["step_s"] / a["step_s"],
        "tokens_per_s": a["tokens_per_s"] / b["tokens_per_s"],
        "peak_memory": a["peak_mb"] / b["peak_mb"],
        "first_step": b["first_step_s"] / a["first_step_s"],
    }
    return {"model": size, "start": start, "shape": shape, **summary, "ratio": ratio}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    steps = sorted(s for r in runs for s in r["steps_s"])
    middle = statistics.median(steps)
    tokens = statistics.median(r["tokens"] for r in runs)
    return {
        "step_s": middle,
        "step_quartiles": [steps[len(steps) // 4], steps[3 * len(steps) // 4]],
        "tokens": tokens,
        "tokens_per_s": tokens / middle,
        "peak_mb": statistics.median(r["peak_mb"] for r in runs),
        "first_step_s": statistics.median(r["first_step_s"] for r in runs),
        "last_reward": statistics.fmean(r["rewards"][-1] for r in runs),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=["0.2", "0.8", "3", "10"])
    parser.add_argument("--starts", nargs="+", default=["warm", "random"])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path("runs/bench"))
    parser.add_argument("--out", type=Path, default=Path("evidence/speed.json"))
    a = parser.parse_args()
    cases = []
    for shape in a.shapes:
        sizes = a.sizes if shape == "standard" else ["0.8"]
        for size in sizes:
            for start in a.starts if shape == "standard" else ["random"]:
                found = case(size, start, shape, a.cache, a.rounds, a.warm_up, a.steps)
                cases.append(found)
                ratio = {k: round(v, 2) for k, v in found["ratio"].items()}
                print(f"{shape}, {size} M, {start}: ours {found['ours']['step_s']:.3f} s/step, {ratio}", flush=True)
                a.out.parent.mkdir(parents=True, exist_ok=True)
                a.out.write_text(json.dumps({"cases": cases, "command": " ".join(sys.argv)}, indent=1) + "\n")


main()
