"""Was the audit right? Its score before training against what training on the signal then did.

A case is a (signal, task, base): the audit scores the signal on the base, then the base is trained on it, and
held-out truth is measured before and after. Where a proof has such an arm already, its seeds are the case; the
others are trained here by the recipe ``signal`` with the task's own settings, one seed. What is claimed, and was
written down before any case was put together: over at least 30 cases the rank correlation between ``pairs``
(within-group pairwise accuracy, 64 labelled prompts of the training split) and the change of the task's metric is
positive, with the lower end of its interval above zero. The label-free ``view_pairs``, the selection gain and
the calls (use, avoid) are reported beside it. Yardsticks (length, form, coin) are cases like others, and are also
left out once; gold and constant are no cases, their outcome is known.

    python -m selfreward.lab.validation.audit --out runs/audit-evidence --evidence evidence

Every finished case is kept in ``--out``, so a run that was stopped goes on where it was; ``--recorded`` trains nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfreward.errors import ConfigError
from selfreward.runtime.files import write_text
from selfreward.statistics import Estimate, spearman, spearman_interval

FEWEST_CASES = 30
NAIVE = "judge_expected:template=naive-judge"
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
    NAIVE,
    "length",
    "format_only",
    "random",
)
# Signals per base. Those with an arm in a proof: signal -> (evidence file, arm).
BASES: dict[str, tuple[str, ...]] = {
    "chain": LOGIC,
    "view-trap": LOGIC,
    "view": ("vote", "cross_vote"),
    "trans": ("judge_expected", "format_only", "vote", "mbr", "cycle", "negative_entropy", "self_certainty"),
    "trans-weak-judge": ("judge_expected", "cycle", "format_only"),
    "chain-paths": ("path_vector", "consistency", "vote"),
}
RECORDED: dict[str, dict[str, tuple[str, str]]] = {
    "chain": {
        "vote": ("vote", "vote"),
        "random": ("vote", "random"),
        "format_only": ("vote", "format-only"),
        NAIVE: ("vote", "naive-judge"),
        "self_certainty": ("vote", "self-certainty"),
    },
    "trans": {
        "judge_expected": ("ssr-zero", "ssr"),
        "format_only": ("ssr-zero", "format-only"),
        "vote": ("ssr-zero", "vote"),
        "mbr": ("ssr-zero", "mbr"),
        "cycle": ("ssr-zero", "cycle"),
        "negative_entropy": ("ssr-zero", "negative-entropy"),
        "self_certainty": ("ssr-zero", "self-certainty"),
    },
    "chain-paths": {
        "path_vector": ("covo", "covo"),
        "consistency": ("covo", "consistency-only"),
        "vote": ("covo", "vote"),
    },
    "view-trap": {"vote": ("co-reward", "vote"), "cross_vote": ("co-reward", "co-reward")},
    "view": {"vote": ("co-reward", "mild-own-both"), "cross_vote": ("co-reward", "mild-co-reward")},
    "trans-weak-judge": {
        "judge_expected": ("ssr-zero-weak-judge", "weak-judge"),
        "cycle": ("ssr-zero-weak-judge", "cycle"),
        "format_only": ("ssr-zero-weak-judge", "format-only"),
    },
}
METRICS = {"trans": "quality", "trans-weak-judge": "quality"}
# Two measurements per case, at its ends; what happens between them is not asked here.
SETTINGS = {"eval_every": 0, "eval_prompts": 150, "eval_samples": 4, "checkpoint_every": 0, "log_groups": 0}
PROMPTS, SAMPLES, SEED = 64, 16, 0
SCORES = ("pairs", "gain", "overshoot", "view_pairs", "probability")


def gather(out: Path, evidence: Path, bases: Sequence[str], train: bool = True) -> list[dict[str, Any]]:
    """Every case of ``bases``: from ``evidence``, from ``out``, or else (with ``train``) run now."""
    cases = []
    for base in bases:
        if base not in BASES:
            raise ConfigError(f"No cases are planned on base {base!r}; there are {', '.join(BASES)}.")
        recorded = {
            name: found
            for name, (slug, arm) in RECORDED.get(base, {}).items()
            if (found := _recorded(evidence / f"{slug}.json", arm, METRICS.get(base, "pass@1")))
        }
        ready = [n for n in BASES[base] if n in recorded or train or _kept(out / base, n).is_file()]
        if not ready:
            continue
        audited = _audited(out / base / "audit.json", base, BASES[base])
        for name in ready:
            if name not in audited or audited[name]["verdict"] == "not scored":
                continue
            found = recorded.get(name) or _trained(out / base, base, name)
            cases.append(_case(base, name, audited[name], found))
            print(_line(cases[-1]), flush=True)
    return cases


def _recorded(path: Path, arm: str, metric: str) -> dict[str, Any] | None:
    """Mean over seeds of an arm of a proof, or None where it has not been run."""
    if not path.is_file():
        return None
    seeds = json.loads(path.read_text(encoding="utf-8"))["arms"].get(arm, {})
    if not seeds or any(metric not in run or f"before/{metric}" not in run for run in seeds.values()):
        return None
    before, after = ([run[k] for run in seeds.values()] for k in (f"before/{metric}", metric))
    return {
        "metric": metric,
        "before": sum(before) / len(before),
        "after": sum(after) / len(after),
        "seeds": len(seeds),
        "source": f"{path.name}, arm {arm}",
    }


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _kept(folder: Path, name: str) -> Path:
    return folder / f"{_safe(name)}.json"


def _audited(path: Path, base: str, signals: Sequence[str]) -> dict[str, Any]:
    if not path.is_file():
        from selfreward.evaluation.audit.auditor import audit
        from selfreward.lab.embedded import load_task
        from selfreward.policy.loading import load_policy

        policy = load_policy(f"embedded:{base}", device="cpu")
        report = audit(policy, load_task(base), prompts=PROMPTS, n=SAMPLES, signals=signals, seed=SEED)
        report.save(path.parent)
    return {s["signal"]: s for s in json.loads(path.read_text(encoding="utf-8"))["signals"]}


def _trained(folder: Path, base: str, name: str) -> dict[str, Any]:
    from selfreward.training.config import make_config
    from selfreward.training.launch import start

    path = _kept(folder, name)
    if not path.is_file():
        scratch = folder / _safe(name)
        values = {
            "recipe": "signal",
            "options": {"signal": name},
            "model": f"embedded:{base}",
            "seed": SEED,
            "out": str(scratch),
            **SETTINGS,
        }
        _clear(scratch)
        summary = start(make_config(values)).fit()
        metric = METRICS.get(base, "pass@1")
        kept = {k: summary[k][metric] for k in ("before", "after")}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"metric": metric, **kept, "seeds": 1, "source": "recipe signal"}), encoding="utf-8")
        _clear(scratch)
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
        "seeds": found["seeds"],
        "source": found["source"],
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
        "holds": main["cases"] >= FEWEST_CASES and main["interval"] is not None and main["interval"][0] > 0,
        "reason": "" if main["cases"] >= FEWEST_CASES else f"{main['cases']} of the {FEWEST_CASES} cases so far",
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
    from selfreward.evaluation.report.static import CONTROL, INK, LINE, METHOD, MUTED, PAPER, SELF, save_figure

    colours = {"use": METHOD, "avoid": SELF, "cannot tell": MUTED, "yardstick": CONTROL}
    markers = dict(zip(dict.fromkeys(c["base"] for c in found["data"]), "osD^vPX", strict=False))

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

    return save_figure(draw, (7.2, 4.6), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/audit-evidence"))
    parser.add_argument("--evidence", type=Path, default=Path("evidence"))
    parser.add_argument("--figure", type=Path, default=Path("docs/audit-cases.svg"))
    parser.add_argument("--bases", default=",".join(BASES))
    parser.add_argument("--recorded", action="store_true", help="Train nothing: cases that are there already.")
    given = parser.parse_args()
    import torch

    from selfreward.lab.evidence.machine import machine

    torch.set_num_threads(1)
    found = summarise(
        gather(given.out, given.evidence, [b for b in given.bases.split(",") if b], train=not given.recorded)
    )
    found |= {
        "command": "python -m selfreward.lab.validation.audit",
        "settings": {**SETTINGS, "prompts": PROMPTS, "samples": SAMPLES, "seed": SEED},
        "machine": machine(),
    }
    path = write_text(given.evidence / "audit.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(f"{path}: {found['cases']} cases, Spearman {found['spearman']} {found['interval']}")
    print(figure(found, given.figure))


if __name__ == "__main__":
    main()
