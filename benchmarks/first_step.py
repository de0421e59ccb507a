"""Where the time and memory before the first optimiser step go; adds ``first_step`` to evidence/speed.json."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

STAGES = """
import json, sys, tempfile, time
begun = time.perf_counter()
found = []
def mark(name):
    line = next(l for l in open("/proc/self/status") if l.startswith("VmRSS"))
    found.append([name, time.perf_counter() - begun, int(line.split()[1]) / 1024])
mark("the interpreter")
import torch
torch.set_num_threads(1)
mark("import torch")
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
mark("import transformers' model and tokenizer")
from selfreward.training.config import TrainConfig
from selfreward.training.launch import build
from selfreward.policy.loading import load_policy
import selfreward.recipes.consensus.vote
mark("import selfreward")
class Done(Exception): pass
def stop(record): raise Done
config = TrainConfig(recipe="vote", model="embedded:chain", steps=1, prompts_per_step=8, eval_prompts=0, eval_every=0,
    log_groups=0, sentinel="off", out=tempfile.mkdtemp() + "/run", options={"group_size": 8})
trainer = build(config, on_step=stop)
mark("load model and data")
try: trainer.fit()
except Done: pass
mark("sample, score and learn the first step")
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("evidence/speed.json"))
    a = parser.parse_args()
    runs = []
    for _ in range(a.rounds):
        done = subprocess.run([sys.executable, "-c", STAGES], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
    stages = []
    for k, (name, _, _) in enumerate(runs[0]):
        seconds = statistics.median(r[k][1] - (r[k - 1][1] if k else 0.0) for r in runs)
        memory = statistics.median(r[k][2] - (r[k - 1][2] if k else 0.0) for r in runs)
        stages.append({"stage": name, "seconds": seconds, "mb": memory})
    found = {"stages": stages, "seconds": statistics.median(r[-1][1] for r in runs)}
    result = json.loads(a.out.read_text()) if a.out.exists() else {}
    a.out.write_text(json.dumps(result | {"first_step": found}, indent=1) + "\n")
    for stage in stages:
        print(f"{stage['stage']:44s} {stage['seconds']:6.2f} s {stage['mb']:6.0f} MB")
    print(f"{'together':44s} {found['seconds']:6.2f} s")


main()
