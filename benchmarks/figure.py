"""Figure and tables of evidence/speed.json: ``figure.py [--evidence FILE] [--figure FILE] [--tables FILE]``."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from selfreward.report.static import INK, LINE, METHOD, MUTED, RC


def name_of(case: dict[str, Any]) -> str:
    shape = "" if case["shape"] == "standard" else f", {case['shape'].replace('-', ' ')}"
    return f"{case['model']} M {case['start']}{shape}"


def in_order(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Standard cases by start and size, then the other shapes as they were measured."""
    return sorted(
        entries, key=lambda e: (e.get("shape", "standard") != "standard", e["start"] != "warm", float(e["model"]))
    )


def wrapped(name: str) -> str:
    """An ingredient's name in lines of about twenty letters."""
    return textwrap.fill(name.removeprefix("without "), 26)


def draw(result: dict[str, Any], path: Path) -> None:
    """Left: how many times trl's steps per second. Right: what each ingredient is worth."""
    cases, ablations = in_order(result["cases"]), in_order(result.get("ablations", []))
    with matplotlib.rc_context(RC):
        height = max(3.2, 0.3 * len(cases) + 1.2)
        figure = Figure(figsize=(12, height), layout="constrained")
        left, right = figure.subplots(1, 2)
        for y, case in enumerate(reversed(cases)):
            ratio = case["ratio"]["steps_per_s"]
            left.barh(y, ratio, color=METHOD if case["start"] == "warm" else "#9db8e8", height=0.62)
            left.text(ratio + 0.03, y, f"{ratio:.1f}", va="center", color=INK)
        left.axvline(1, color=MUTED, linewidth=1)
        left.set_yticks(range(len(cases)), [name_of(c) for c in reversed(cases)])
        left.set_xlabel("steps per second, times trl's")
        left.set_title("Beside trl, same weights and samples")
        left.grid(axis="x", color=LINE, linewidth=0.6)
        left.set_axisbelow(True)
        names = [n for n in ablations[0]["arms"] if n != "everything"] if ablations else []
        colours = ("#9db8e8", "#5b8def", "#1f4fa8")
        for k, ablation in enumerate(ablations):
            values = [ablation["arms"][n]["slower"] for n in reversed(names)]
            places = [y + 0.27 * (len(ablations) / 2 - k - 0.5) for y in range(len(names))]
            right.barh(places, [v - 1 for v in values], left=1, height=0.25, color=colours[k % 3],
                       label=f"{ablation['model']} M")  # fmt: skip
        right.axvline(1, color=MUTED, linewidth=1)
        right.set_yticks(range(len(names)), [wrapped(n) for n in reversed(names)])
        right.set_xlabel("time of a step, times everything's")
        right.set_title("Without an ingredient (ours, warm)")
        right.grid(axis="x", color=LINE, linewidth=0.6)
        right.set_axisbelow(True)
        if ablations:
            right.legend(frameon=False, loc="center right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def tables(result: dict[str, Any]) -> str:
    """All tables, in Markdown."""
    parts = [f"Measured on {result['machine']}; {result['rounds']} rounds; " + ", ".join(
        f"{k} {v}" for k, v in result["versions"].items()
    ) + "."]  # fmt: skip
    rows = []
    for case in in_order(result["cases"]):
        a, b, r = case["ours"], case["trl"], case["ratio"]
        spread = "{:.3f}–{:.3f}"
        rows.append(
            [
                name_of(case),
                f"{a['step_s']:.3f} ({spread.format(*a['step_quartiles'])})",
                f"{b['step_s']:.3f} ({spread.format(*b['step_quartiles'])})",
                f"**{r['steps_per_s']:.2f}**",
                f"{a['tokens_per_s']:.0f} / {b['tokens_per_s']:.0f}",
                f"{a['peak_mb']:.0f} / {b['peak_mb']:.0f} ({r['peak_memory']:.2f})",
                f"{a['working_mb']:.0f} / {b['working_mb']:.0f} ({r['working_memory']:.2f})",
                f"{a['first_step_s']:.1f} / {b['first_step_s']:.1f}",
            ]
        )
    head = ["case", "ours, s/step (quartiles)", "trl, s/step (quartiles)", "steps/s, ratio", "tokens/s, ours / trl",
            "peak MB, ours / trl (ratio)", "MB beyond imports (ratio)", "first step s, ours / trl"]  # fmt: skip
    parts.append(table(head, rows))
    for ablation in in_order(result.get("ablations", [])):
        rows = [
            [name, f"{arm['step_s']:.3f}", f"{arm['slower']:.2f}", f"{arm['working_mb']:.0f}"]
            for name, arm in ablation["arms"].items()
        ]
        title = f"{ablation['model']} M, {ablation['start']}"
        parts.append(table([title, "s/step", "times everything's", "MB beyond imports"], rows))
    if "learning" in result:
        found = result["learning"]
        rows = [
            [side, ", ".join(f"{v:.3f}" for v in found[f"{side}_reward"]), f"{found[f'{side}_mean']:.3f}"]
            for side in ("ours", "trl")
        ]
        parts.append(table([f"reward after {found['steps']} steps", "by seed", "mean"], rows))
    if "two_processes" in result:
        rows = [
            [f"{r['model']} M {r['start']}", f"{r['one_step_s']:.3f}", f"{r['two_step_s']:.3f}", f"{r['speed_up']:.2f}"]
            for r in result["two_processes"]
        ]
        parts.append(table(["same total batch", "one process, s/step", "two processes, s/step", "speed-up"], rows))
    if "profiles" in result:
        rows = [
            [r["model"], f"{r['collect_s']:.3f}", f"{r['decoding_s']:.3f} in {r['decoding_steps']:.0f} steps",
             f"{r['learn_s']:.3f}", f"{100 * r['multiplication_share']:.0f} %"]
            for r in result["profiles"]
        ]  # fmt: skip
        head = [
            "a step of ours",
            "collect, s",
            "of it decoding, s",
            "learn, s",
            "matrix multiplication, share of the step",
        ]
        parts.append(table(head, rows))
    if "first_step" in result:
        rows = [[r["stage"], f"{r['seconds']:.2f}", f"{r['mb']:.0f}"] for r in result["first_step"]["stages"]]
        parts.append(table(["from the start of the process", "s", "MB"], rows))
    if "signals" in result:
        found = result["signals"]
        rows = [[f"`{k}`", f"{100 * v:.1f} %"] for k, v in found["share_of_step"].items()]
        parts.append(table(["signal", f"time, share of a step ({found['completions']} completions)"], rows))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--evidence", type=Path, default=Path("evidence/speed.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/speed.svg"))
    parser.add_argument("--tables", type=Path, default=Path("docs/figures/speed.md"))
    a = parser.parse_args()
    result = json.loads(a.evidence.read_text())
    draw(result, a.figure)
    a.tables.write_text(tables(result))
    print(f"{a.figure} and {a.tables}")


main()
