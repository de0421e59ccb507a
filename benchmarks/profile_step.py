"""Where a step of ours goes: ``profile_step.py MODEL warm|random``; an entry of ``profiles`` in evidence/speed.json.

Times come from steps without a profiler, shares of operators from one step with it.
"""

from __future__ import annotations

import json
import runpy
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
MULTIPLICATION = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


def main() -> None:
    model, start = sys.argv[1], sys.argv[2]
    out = Path(sys.argv[3] if len(sys.argv) > 3 else "evidence/speed.json")
    from torch.profiler import ProfilerActivity, profile

    from selfreward.policy.sampling.decoding import LeanDecoder
    from selfreward.training import trainer

    records, decoding = [], []
    profiler = profile(activities=[ProfilerActivity.CPU])
    step, decode = trainer.Trainer._one_step, LeanDecoder.step

    def one_step(self):
        if self.step == 5:
            with profiler:
                return step(self)
        decoding.append([])
        records.append(step(self))
        return records[-1]

    def one_token(self, tokens):
        begun = time.perf_counter()
        logits = decode(self, tokens)
        if decoding:
            decoding[-1].append(time.perf_counter() - begun)
        return logits

    trainer.Trainer._one_step, LeanDecoder.step = one_step, one_token
    task = ["--reward", "vote"] if start == "warm" else ["--full-length"]
    sys.argv = ["side.py", "ours", model, "--warm-up", "2", "--steps", "4", *task]
    runpy.run_path(str(HERE / "side.py"))
    events = {e.key: e.self_cpu_time_total for e in profiler.key_averages()}
    timed = slice(2, None)
    found = {
        "model": Path(model).name,
        "collect_s": statistics.median(r["time/collect"] for r in records[timed]),
        "learn_s": statistics.median(r["time/learn"] for r in records[timed]),
        "decoding_s": statistics.median(sum(d) for d in decoding[timed]),
        "decoding_steps": statistics.median(len(d) for d in decoding[timed]),
        "multiplication_share": sum(events.get(k, 0) for k in MULTIPLICATION) / sum(events.values()),
    }
    result = json.loads(out.read_text()) if out.exists() else {}
    others = [e for e in result.get("profiles", []) if e["model"] != found["model"]]
    out.write_text(json.dumps(result | {"profiles": [*others, found]}, indent=1) + "\n")
    print(found)


main()
