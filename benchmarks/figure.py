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

from selfreward.evaluation.report.static import INK, LINE, METHOD, MUTED, RC

SIDES = ("ours", "trl")


def name_of(case: dict[str, Any]) -> str:
    shape = "" if case.get("shape", "standard") == "standard" else f", {case['shape'].replace('-', ' ')}"
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
    cases = in_order(result["cases"])
    ablations = [a for a in in_order(result.get("ablations", [])) if a["shape"] == "standard"]
    with matplotlib.rc_context(RC):
        height = max(3.2, 0.3 * len(cases) + 1.2)
        figure = Figure(figsize=(12, height), layout="constrained")
        left, right = figure.subplots(1, 2)
        for y, case in enumerate(reversed(cases)):
            ratio = case["ratio"]["steps_per_s"]
            left.barh(y, ratio, color=METHOD if case["start"] == "warm" else "#9db8e8", height=0.62)
            left.text(ratio + 0.03, y, f"{ratio:.1f}", va="center", color=INK)
        dress(left, [name_of(c) for c in reversed(cases)], "Beside trl, same weights and samples")
        left.set_xlabel("steps per second, times trl's")
        names = [n for n in ablations[0]["arms"] if n != "everything"] if ablations else []
        colours = ("#9db8e8", "#5b8def", "#1f4fa8")
        for k, ablation in enumerate(ablations):
            values = [ablation["arms"][n]["slower"] for n in reversed(names)]
            places = [y + 0.27 * (len(ablations) / 2 - k - 0.5) for y in range(len(names))]
            right.barh(places, [v - 1 for v in values], left=1, height=0.25, color=colours[k % 3],
                       label=f"{ablation['model']} M")  # fmt: skip
        dress(right, [wrapped(n) for n in reversed(names)], "Without an ingredient (ours, warm)")
        right.set_xlabel("time of a step, times everything's")
        if ablations:
            right.legend(frameon=False, loc="center right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def dress(axes: Any, names: Sequence[str], title: str) -> None:
    """Horizontal bars by name, measured from 1."""
    axes.axvline(1, color=MUTED, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_title(title)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)


def spread(summary: dict[str, Any], name: str, unit: str, digits: int) -> str:
    """A median with its quartiles, or with its range over the runs."""
    low, high = summary[f"{name}_quartiles"] if f"{name}_quartiles" in summary else summary[f"{name}{unit}_range"]
    return f"{summary[f'{name}{unit}']:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def times(entry: dict[str, Any], name: str) -> str:
    """A ratio with its range over the rounds."""
    values = entry.get(f"{name}_by_round") or entry[f"{name}_range"]
    return f"**{entry[name]:.2f}** ({min(values):.2f}–{max(values):.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def tables(result: dict[str, Any]) -> str:
    """All tables, in Markdown."""
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    rounds = sorted({c["rounds"] for c in result["cases"]})
    parts = [
        f"Measured on {result['machine']}; {' or '.join(map(str, rounds))} rounds; {versions}. "
        "In brackets: quartiles of the steps (seconds, tokens), or the range over the runs (memory, first step, "
        "ratios)."
    ]
    cases = in_order(result["cases"])
    rows = [
        [name_of(c), *(spread(c[side], "step", "_s", 3) for side in SIDES), times(c["ratio"], "steps_per_s"),
         *(spread(c[side], "tokens_per", "_s", 0) for side in SIDES)]
        for c in cases
    ]  # fmt: skip
    head = ["case", "ours, s/step", "trl, s/step", "steps/s, times trl's", "ours, tokens/s", "trl, tokens/s"]
    parts.append(table(head, rows))
    rows = [
        [name_of(c), *(spread(c[side], "peak", "_mb", 0) for side in SIDES), f"{c['ratio']['peak_memory']:.2f}",
         *(spread(c[side], "working", "_mb", 0) for side in SIDES), f"{c['ratio']['working_memory']:.2f}",
         *(spread(c[side], "first_step", "_s", 1) for side in SIDES)]
        for c in cases
    ]  # fmt: skip
    head = ["case", "ours, peak MB", "trl, peak MB", "ratio", "ours, MB beyond imports", "trl, MB beyond imports",
            "ratio", "ours, first step s", "trl, first step s"]  # fmt: skip
    parts.append(table(head, rows))
    for title, entries in (("", result.get("ablations", [])), ("threads and precision: ", result.get("settings", []))):
        for entry in in_order(entries):
            rows = [
                [name, f"{arm['plain_s']:.3f}", f"{arm['step_s']:.3f}", times(arm, "slower"),
                 f"{entry['working_mb']:.0f} / {arm['working_mb']:.0f}"]
                for name, arm in entry["arms"].items()
            ]  # fmt: skip
            head = [
                title + name_of(entry),
                "as it is, s/step",
                "so, s/step",
                "times",
                "MB beyond imports, as it is / so",
            ]
            parts.append(table(head, rows))
    if "learning" in result:
        found = result["learning"]
        rows = [
            [side, ", ".join(f"{v:.3f}" for v in found[f"{side}_reward"]), f"{found[f'{side}_mean']:.3f}"]
            for side in ("ours", "trl")
        ]
        parts.append(table([f"reward after {found['steps']} steps", "by seed", "mean"], rows))
    if "two_processes" in result:
        rows = [
            [name_of(r), f"{r['one_step_s']:.3f}", f"{r['two_step_s']:.3f}", times(r, "speed_up")]
            for r in result["two_processes"]
        ]
        parts.append(table(["same total batch", "one process, s/step", "two processes, s/step", "speed-up"], rows))
    if "exchanges" in result:
        found = result["exchanges"]
        rows = [[name, f"{ms:.1f}"] for name, ms in found["milliseconds"].items()]
        parts.append(table(["one exchange between two processes", "ms"], rows))
        rows = [[name, f"{speed:.0f}"] for name, speed in found["gflops"].items()]
        parts.append(table(["matrix products, one thread", "GFLOP/s"], rows))
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
