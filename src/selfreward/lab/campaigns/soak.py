"""An hour of small steps: does memory stay where it is?"""

from __future__ import annotations

import contextlib
import gc
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfreward.lab.campaigns import SMALL

WARM = 0.2  # share of the run after which memory should not grow any more
ALLOWED = 1.05


def resident_mb() -> float:
    """Resident memory of this process, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmRSS in /proc/self/status")


def run(out: Path, size: int, seed: int = 0, say: Callable[[str], None] = print) -> dict[str, Any]:
    """``size`` minutes of one run. Returns the content of ``evidence/soak.json``; ``lost`` is 1 if memory grew."""
    from selfreward.training.config import make_config
    from selfreward.training.launch import start

    shutil.rmtree(out, ignore_errors=True)
    until = time.monotonic() + 60 * size
    begun = time.monotonic()
    points: list[dict[str, float]] = []
    values = {**SMALL, "steps": 10_000_000, "checkpoint_every": 200, "log_groups": 1, "probe_every": 100, "seed": seed}

    class TimeIsUpError(Exception):
        pass

    def look(record: dict[str, Any]) -> None:
        now = time.monotonic()
        if not points or now - begun - points[-1]["seconds"] >= min(10.0, 0.6 * size):
            gc.collect()
            points.append({"seconds": round(now - begun, 1), "step": record["step"], "mb": round(resident_mb(), 1)})
            say(f"step {record['step']}: {points[-1]['mb']} MB")
        if now >= until:
            raise TimeIsUpError

    trainer = start(make_config({**values, "recipe": "vote", "out": str(out / "run")}), look)
    with contextlib.suppress(TimeIsUpError):
        trainer.fit()
    warm = [p for p in points if p["seconds"] >= WARM * points[-1]["seconds"]]
    quarter = max(1, len(warm) // 4)
    early, late = (sum(p["mb"] for p in part) / len(part) for part in (warm[:quarter], warm[-quarter:]))
    shutil.rmtree(out, ignore_errors=True)
    return {
        "minutes": size,
        "steps": points[-1]["step"],
        "early_mb": round(early, 1),
        "late_mb": round(late, 1),
        "growth": round(late / early - 1, 4),
        "lost": int(late > ALLOWED * early),
        "points": points,
        "seed": seed,
        "command": f"selfreward campaign soak --size {size} --seed {seed}",
    }
