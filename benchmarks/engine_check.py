"""A real vLLM server as rollout engine: does it have the trainer's weights, and is a stale one caught?

    make vllm                                          # an environment with vLLM for CPUs, then this
    python benchmarks/engine_check.py --python VENV/bin/python

A small model learns to add by votes, its completions drawn by the server. Into ``evidence/vllm.json`` go how far the
server's log-probabilities are from the trainer's with equal weights, after an update that it was not told of, and after
that update was sent; the same for a server that was started from a model with tied embeddings, as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.path.insert(0, str(Path(__file__).parent))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="interpreter of an environment with vLLM")
    parser.add_argument("--work", type=Path, default=Path("runs/vllm"))
    parser.add_argument("--out", type=Path, default=Path("evidence/vllm.json"))
    parser.add_argument("--port", type=int, default=8137)
    parser.add_argument("--steps", type=int, default=8)
    return parser.parse_args()


@contextmanager
def running(command: list[str], environment: dict[str, str], port: int, log: Path) -> Iterator[float]:
    """The server, once it answers; the seconds that took. It is ended with the block."""
    begun = time.monotonic()
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=file, stderr=file, start_new_session=True
        )
        try:
            while True:
                if server.poll() is not None or time.monotonic() - begun > 400:
                    raise SystemExit(f"The server did not start; its log is {log}.")
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2).read()
                    break
                except OSError:
                    time.sleep(0.5)
            yield time.monotonic() - begun
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def gap(policy: Any) -> dict[str, float]:
    """Mean and largest difference of log-probabilities over the probe, in nats."""
    import torch

    from selfreward.policy.scoring.forward import score_tokens

    weights = policy.sampler.weights
    own, theirs = score_tokens(policy.model, weights.probe, [1] * len(weights.probe)), weights.theirs()
    gaps = torch.cat([(a["logprob"] - torch.tensor(b)).abs() for a, b in zip(own, theirs, strict=True)])
    return {"mean": float(gaps.mean()), "largest": float(gaps.max()), "tokens": len(gaps)}


def updated(policy: Any, seed: int) -> None:
    """Every weight moves a little, as by an optimiser step of lr 1e-3."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter).sign())


def main() -> None:
    a = arguments()
    from models import make, question

    from selfreward.errors import TrainingError
    from selfreward.policy.engine.export import export, server_command
    from selfreward.policy.engine.sampler import make_engine
    from selfreward.policy.engine.weights import probe_of
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.training.config import make_config
    from selfreward.training.launch import start
    from selfreward.types import Prompt

    a.work.mkdir(parents=True, exist_ok=True)
    model = make(a.work / "model", "0.2", "warm", positions=128)
    rng = random.Random(1)
    rows = [question(rng) for _ in range(300)]
    data = a.work / "add.jsonl"
    data.write_text("".join(json.dumps({"prompt": q, "answer": str(n)}) + "\n" for q, n in rows))
    prompts = [Prompt(str(i), text=q) for i, (q, _) in enumerate(rows[:16])]
    url = f"vllm:http://127.0.0.1:{a.port}/v1"
    found: dict[str, Any] = {}

    # The stale head is one that the server has packed, which it does from some width on.
    wide = make(a.work / "wide", "3", "random", vocabulary=300, positions=128)
    for case, source, own_head, trains in (
        ("0.2 M, head of its own", model, True, True),
        ("3 M, head of its own", wide, True, False),
        ("3 M, tied as it is", wide, False, False),
    ):
        policy = load_policy(str(source))
        folder = source
        if own_head:
            folder = a.work / "served"
            export(policy, folder)
        command, environment = server_command(policy, a.python, folder, a.port, ["--max-model-len", "128"])
        with running(command, environment, a.port, a.work / f"server {case}.log") as startup:
            record: dict[str, Any] = {"startup_s": round(startup, 1)}
            policy.sampler = make_engine(url, policy, a.work / "engine")
            policy.sampler.weights.probe = probe_of([policy.encode(p) for p in prompts])
            record["equal weights"] = gap(policy)
            record["updates"] = []
            for k in range(3):
                updated(policy, k)
                untold = gap(policy)
                policy.sampler.weights.send(policy.model)
                sent = policy.sampler.numbers["engine/send_s"]
                record["updates"].append({"not sent": untold, "sent": gap(policy), "send_s": round(sent, 3)})
            try:
                policy.sample(prompts, 8, SamplingParams(24), seed=0)
                record["trial"] = {"caught": False, "probe_gap": policy.sampler.numbers["engine/probe_gap"]}
                for name, params in (
                    ("temperature 0.7", SamplingParams(24, temperature=0.7)),
                    ("greedy", SamplingParams(24, temperature=0.0)),
                ):
                    policy.sample(prompts, 8, params, seed=0)
                    record[name] = {"sampled_gap": policy.sampler.numbers["engine/gap"]}
                one, two = (policy.sample(prompts, 8, SamplingParams(24), seed=5) for _ in range(2))
                same = [x == y for g, h in zip(one, two, strict=True) for x, y in zip(g.completions, h.completions)]
                record["same seed, same completion"] = sum(same) / len(same)
            except TrainingError as error:
                record["trial"] = {
                    "caught": True,
                    "probe_gap": policy.sampler.numbers["engine/probe_gap"],
                    "said": str(error).replace(str(a.work.absolute()), "."),
                }
            if trains:
                record["training"] = {}
                for name, engine, more in (
                    ("engine", url, []),
                    ("engine, lora", url, ["lora_rank=4", "lr=0.002"]),
                    ("local", "local", []),
                ):
                    out = a.work / f"run {name}"
                    subprocess.run(["rm", "-rf", str(out)], check=True)
                    settings = [
                        "prompts_per_step=8", "group_size=8", "max_new_tokens=24", "eval_prompts=30", "eval_samples=4",
                        "eval_every=0", "checkpoint_every=0", "sentinel=off", r"answers=regex:(\d+)$", "lr=3e-4", *more,
                    ]  # fmt: skip
                    values = {
                        "recipe": "vote", "model": str(model), "data": str(data), "steps": a.steps, "out": str(out),
                        "engine": engine, "engine_folder": str(a.work / "engine"),
                    }  # fmt: skip
                    summary = start(make_config(values, settings)).fit()
                    lines = (out / "metrics.jsonl").read_text().splitlines()
                    steps = [json.loads(line) for line in lines][1:]
                    record["training"][name] = {
                        "before": summary["before"].get("pass@1"),
                        "after": summary["after"].get("pass@1"),
                        "collect_s": sorted(s["time/collect"] for s in steps)[len(steps) // 2],
                        "tokens_per_step": steps[-1]["tokens/generated"] / len(steps),
                        **{
                            f"largest {key}": max(s[key] for s in steps)
                            for key in ("sampler_gap", "engine/gap", "engine/probe_gap", "engine/send_s")
                            if key in steps[0]
                        },
                    }
            found[case] = record
            print(json.dumps({case: record}, indent=1), flush=True)
    cases = {name: record for name, record in found.items() if isinstance(record, dict)}
    served = [record for name, record in cases.items() if "own" in name]
    learned = [r for record in served for r in record.get("training", {}).values() if "largest engine/gap" in r]
    checks = {
        "with equal weights all agree": all(r["equal weights"]["mean"] < 0.002 for r in cases.values()),
        "before the sending all differ": all(
            u["not sent"]["mean"] > 0.002 for r in cases.values() for u in r["updates"]
        ),
        "after it, a head of its own agrees": all(u["sent"]["mean"] < 0.002 for r in served for u in r["updates"]),
        "training never met a stale step": bool(learned) and all(r["largest engine/gap"] < 0.002 for r in learned),
        "who is stale after a sending is caught at first contact, and nobody else": all(
            r["trial"]["caught"] == (r["updates"][-1]["sent"]["mean"] > 0.002) for r in cases.values()
        ),
    }
    found["checks"] = checks
    found["command"] = "make vllm"
    a.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(checks, indent=1))
    raise SystemExit(0 if all(checks.values()) else 1)


main()
