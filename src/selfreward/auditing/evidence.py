"""Was the audit right? Its score before training against what training on the signal then did.

A case is a (signal, task, base): the audit scores the signal on the base, then the recipe ``signal`` trains the
base on it, and held-out truth is measured before and after. What is claimed, and was written down before any
case was run: over at least 30 cases the rank correlation between ``pairs`` (within-group pairwise accuracy, 64
labelled prompts of the training split) and the change of the task's metric is positive, with the lower end of
its interval above zero. The label-free ``view_pairs``, the selection gain and the calls (use, avoid) are
reported beside it. Yardsticks (length, form, coin) are cases like others, and are also left out once; gold and
constant are no cases, their outcome is known.

    python -m selfreward.auditing.evidence --out runs/audit-evidence --evidence evidence

Every finished case is kept in ``--out``, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfreward.errors import ConfigError
from selfreward.statistics import Estimate, spearman, spearman_interval

LOGIC = (
    "vote",
    "cross_vote",
    "cluster_share",
    "borda",
    "negative_entropy",
    "self_certainty",
    "mean_logprob",
    "gap",
    "judge_expected",
    "judge_expected:template=naive-judge",
    "length",
    "format_only",
    "random",
)
TRANSLATION = (
    "vote",
    "cluster_share",
    "mbr",
    "judge_expected",
    "judge_score",
    "cycle",
    "negative_entropy",
    "self_certainty",
    "mean_logprob",
    "gap",
    "length",
    "format_only",
    "random",
)
BASES: dict[str, tuple[Sequence[str], dict[str, Any]]] = {
    "chain": (LOGIC, {"steps": 40}),
    "view-trap": (LOGIC, {"steps": 40}),
    "trans": (TRANSLATION, {"steps": 40}),
}
# Two measurements per case, at its ends; what happens between them is not asked here.
SETTINGS = {"eval_every": 0, "eval_prompts": 150, "eval_samples": 4, "checkpoint_every": 0, "log_groups": 0}
PROMPTS, SAMPLES, SEED = 64, 16, 0
SCORES = ("pairs", "gain", "overshoot", "view_pairs", "probability")


def gather(out: Path, bases: Sequence[str]) -> list[dict[str, Any]]:
    """Every case of ``bases``, run where ``out`` does not have it yet."""
    cases = []
    for base in bases:
        if base not in BASES:
            raise ConfigError(f"No cases are planned on base {base!r}; there are {', '.join(BASES)}.")
        signals, settings = BASES[base]
        audited = _audited(out / base / "audit.json", base, signals)
        for name in signals:
            if name not in audited or audited[name]["verdict"] == "not scored":
                continue
            found = _trained(out / base, base, name, settings)
            cases.append(_case(base, name, audited[name], found))
            print(_line(cases[-1]), flush=True)
    return cases


def _audited(path: Path, base: str, signals: Sequence[str]) -> dict[str, Any]:
    if not path.is_file():
        from selfreward.auditing.auditor import audit
        from selfreward.models import load_policy
        from selfreward.tasks import load_task

        policy = load_policy(f"embedded:{base}", device="cpu")
        report = audit(policy, load_task(base), prompts=PROMPTS, n=SAMPLES, signals=signals, seed=SEED)
        report.save(path.parent)
    return {s["signal"]: s for s in json.loads(path.read_text(encoding="utf-8"))["signals"]}


def _trained(folder: Path, base: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    from selfreward.config import make_config
    from selfreward.launch import start

    safe = "".join(c if c.isalnum() else "-" for c in name)
    path = folder / f"{safe}.json"
    if not path.is_file():
        values = {
            "recipe": "signal",
            "options": {"signal": name},
            "model": f"embedded:{base}",
            "seed": SEED,
            "out": str(folder / safe),
            **SETTINGS,
            **settings,
        }
        _clear(folder / safe)
        summary = start(make_config(values)).fit()
        metric = str(summary.get("metric") or "pass@1")
        kept = {k: summary[k][metric] for k in ("before", "after")}
        path.write_text(json.dumps({"metric": metric, **kept, "wall_s": summary["wall_s"]}), encoding="utf-8")
        _clear(folder / safe)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _clear(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _case(base: str, name: str, audited: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    measures = {**audited["label_free"], **audited["labelled"]}
    return {
        "base": base,
        "signal": name,
        "yardstick": bool(audited["control"]),
        "call": _call(audited),
        **{s: (measures.get(s) or {}).get("value") for s in SCORES},
        "metric": found["metric"],
        "before": round(found["before"], 4),
        "after": round(found["after"], 4),
        "change": round(found["after"] - found["before"], 4),
    }


def _call(audited: Mapping[str, Any]) -> str:
    return str(audited["verdict"])


def _line(case: Mapping[str, Any]) -> str:
    pairs = "   –" if case["pairs"] is None else f"{case['pairs']:.2f}"
    return f"{case['base']:10} {case['signal']:36} pairs {pairs}  {case['call']:12} {case['change']:+.3f}"


def summarise(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What ``evidence/audit.json`` says of the cases."""

    def correlation(score: str, chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        known = [c for c in chosen if c[score] is not None]
        e = spearman_interval([c[score] for c in known], [c["change"] for c in known])
        return {"cases": len(known), **_estimate(e)}

    bases = list(dict.fromkeys(c["base"] for c in cases))
    main = correlation("pairs", cases)
    calls = {}
    for call in ("use", "cannot tell", "avoid"):
        changes = [c["change"] for c in cases if c["call"] == call]
        if changes:
            calls[call] = {
                "cases": len(changes),
                "rose_by_2_points": sum(c >= 0.02 for c in changes),
                "fell_by_2_points": sum(c <= -0.02 for c in changes),
                "mean_change": round(sum(changes) / len(changes), 4),
            }
    within = [_inside([c for c in cases if c["base"] == b]) for b in bases]
    return {
        "claim": "The audit's within-group pairwise accuracy before training ranks signals by what training on them "
        "then does to the held-out truth.",
        "cases": main["cases"],
        "spearman": main["value"],
        "interval": main["interval"],
        "holds": main["cases"] >= 30 and main["interval"] is not None and main["interval"][0] > 0,
        "by_score": {s: correlation(s, cases) for s in SCORES},
        "without_yardsticks": correlation("pairs", [c for c in cases if not c["yardstick"]]),
        "inside_each_base": {b: w for b, w in zip(bases, within, strict=True) if w is not None},
        "calls": calls,
        "data": list(cases),
    }


def _inside(cases: Sequence[Mapping[str, Any]]) -> float | None:
    known = [c for c in cases if c["pairs"] is not None]
    value = spearman([c["pairs"] for c in known], [c["change"] for c in known])
    return None if math.isnan(value) else round(value, 4)


def _estimate(e: Estimate) -> dict[str, Any]:
    if math.isnan(e.value):
        return {"value": None, "interval": None}
    return {"value": round(e.value, 4), "interval": [round(e.low, 4), round(e.high, 4)]}


def figure(found: Mapping[str, Any], path: Path) -> Path:
    """Change after training against the audit's score before it, a dot per case."""
    from selfreward.report.static import CONTROL, INK, LINE, METHOD, MUTED, PAPER, SELF, _save

    colours = {"use": METHOD, "avoid": SELF, "cannot tell": MUTED, "yardstick": CONTROL}
    markers = dict(zip(dict.fromkeys(c["base"] for c in found["data"]), "osD^v", strict=False))

    def draw(fig: Any) -> None:
        ax = fig.add_subplot()
        ax.axhline(0, color=MUTED, lw=1)
        ax.axvline(0.5, color=LINE, lw=1)
        ax.axvline(0.6, color=LINE, lw=1, ls=(0, (3, 2)))
        for c in found["data"]:
            if c["pairs"] is not None:
                dot = {"color": colours[c["call"]], "marker": markers[c["base"]], "mec": PAPER, "ms": 8, "ls": ""}
                ax.plot(100 * c["pairs"], 100 * c["change"], **dot)
        for base, marker in markers.items():
            ax.plot([], [], marker=marker, color=INK, ls="", label=base)
        for call, colour in colours.items():
            ax.plot([], [], marker="s", color=colour, ls="", label=call)
        ax.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
        ax.set_xlabel("before training: pairs in the right order (%)")
        ax.set_ylabel("change of held-out truth by training (points)")
        low, high = found["interval"] or (math.nan, math.nan)
        ax.set_title(f"{found['cases']} cases, rank correlation {found['spearman']:.2f} ({low:.2f} to {high:.2f})")
        ax.grid(color=LINE, lw=0.5)
        ax.set_axisbelow(True)

    return _save(draw, (7.2, 4.6), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/audit-evidence"))
    parser.add_argument("--evidence", type=Path, default=Path("evidence"))
    parser.add_argument("--figure", type=Path, default=Path("docs/audit-cases.svg"))
    parser.add_argument("--bases", default=",".join(BASES))
    given = parser.parse_args()
    import torch

    from selfreward.proofs.base import machine

    torch.set_num_threads(1)
    found = summarise(gather(given.out, [b for b in given.bases.split(",") if b]))
    found |= {
        "command": "python -m selfreward.auditing.evidence",
        "settings": {**SETTINGS, "prompts": PROMPTS, "samples": SAMPLES, "seed": SEED},
        "machine": machine(),
    }
    given.evidence.mkdir(parents=True, exist_ok=True)
    path = given.evidence / "audit.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path}: {found['cases']} cases, Spearman {found['spearman']} {found['interval']}")
    print(figure(found, given.figure))


if __name__ == "__main__":
    main()
