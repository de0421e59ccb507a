"""What each signal costs beside a step of training; adds ``signals`` to evidence/speed.json.

One batch of rollouts of an embedded base is scored by every named signal, and a step of GRPO on a vote over the same
numbers of prompts and completions is the measure. Statistics of the rollouts were taken while sampling.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="embedded:chain")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("evidence/speed.json"))
    a = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    from selfreward.errors import UserError
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.named import record_stats, score_groups
    from selfreward.signals.registry import SIGNALS
    from selfreward.training.config import TrainConfig
    from selfreward.training.launch import build

    config = TrainConfig(
        recipe="vote", model=a.model, steps=a.steps, prompts_per_step=a.prompts, eval_prompts=0, eval_every=0,
        checkpoint_every=0, log_groups=0, sentinel="off", out=tempfile.mkdtemp() + "/run",
        options={"group_size": a.group},
    )  # fmt: skip
    marks: list[float] = []
    trainer = build(config, on_step=lambda record: marks.append(time.perf_counter()))
    policy, task = trainer.policy, trainer.task
    sampling = record_stats(trainer.sampling)
    groups = policy.sample(task.train[: a.prompts], a.group, sampling)
    costs: dict[str, float] = {}
    absent: dict[str, str] = {}
    for name in SIGNALS:
        seconds = []
        for _ in range(a.repeats):
            # A fresh context every time: it remembers answers, views and classes.
            context = RunContext.of(task, policy=policy, sampling=sampling)
            begun = time.perf_counter()
            try:
                score_groups(name, context, groups)
            except UserError as error:
                absent[name] = str(error)
                break
            seconds.append(time.perf_counter() - begun)
        if name not in absent:
            costs[name] = statistics.median(seconds)
    trainer.fit()
    step = statistics.median(b - c for b, c in zip(marks[1:], marks))
    found: dict[str, Any] = {
        "model": a.model,
        "completions": a.prompts * a.group,
        "step_s": step,
        "share_of_step": {k: v / step for k, v in sorted(costs.items(), key=lambda item: item[1])},
        "needs_what_is_not_here": absent,
    }
    result = json.loads(a.out.read_text()) if a.out.exists() else {}
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps(result | {"signals": found}, indent=1) + "\n")
    for name, share in found["share_of_step"].items():
        print(f"{name:28s} {100 * share:7.2f} % of a step")
    for name, why in absent.items():
        print(f"{name:28s} {why}")


main()
