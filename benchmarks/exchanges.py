"""What two processes pay beside their work: adds ``exchanges`` to evidence/speed.json.

    python -m torch.distributed.run --standalone --nproc-per-node 2 benchmarks/exchanges.py

Milliseconds (medians) of one message of four numbers, of the gradients of a model, and, for the question why half
precision does not help, the speed of matrix products in both formats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from selfreward.runtime import distributed


def milliseconds(work: Callable[[], object], times: int = 50) -> float:
    found = []
    for k in range(times + 5):
        begun = time.perf_counter()
        work()
        if k >= 5:
            found.append(time.perf_counter() - begun)
    return 1000 * statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("evidence/speed.json"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    distributed.start()
    numbers = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    found = {"four numbers": milliseconds(lambda: distributed.gather("benchmark", numbers))}
    for size in (800_000, 3_000_000, 10_000_000):
        gradients = torch.zeros(size)
        found[f"gradients of {size / 1e6:g} M"] = milliseconds(lambda: dist.all_reduce(gradients), 20)  # noqa: B023
    products = {}
    for kind in (torch.float32, torch.bfloat16):
        x, w = torch.randn(512, 256, dtype=kind), torch.randn(1360, 256, dtype=kind)
        ms = milliseconds(lambda: torch.nn.functional.linear(x, w))  # noqa: B023
        products[str(kind).removeprefix("torch.")] = 2 * 512 * 256 * 1360 / ms / 1e6
    if distributed.is_main():
        result = json.loads(a.out.read_text()) if a.out.exists() else {}
        entry = {"milliseconds": found, "gflops": products}
        a.out.write_text(json.dumps(result | {"exchanges": entry}, indent=1) + "\n")
        print(entry)
    distributed.stop()


main()
