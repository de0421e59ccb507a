"""Results in words and numbers for people: the headline, metrics, intervals, and hostile text made safe."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from selfreward.evaluation.report.digest import ComparedArm, Comparison, is_share, measured, subtract
from selfreward.statistics import Estimate

# Metrics that evaluations report, in the order of reading, with what they mean.
METRICS = {
    "pass@1": "share of sampled completions that are correct",
    "accuracy": "share of prompts whose greedy completion is correct",
    "maj@k": "share of prompts whose most frequent answer is correct",
    "pass@k": "share of prompts with at least one correct completion in k",
    "agreement": "share of the samples behind the most frequent answer",
    "format": "share of well-formed completions",
    "unique_answers": "different answers per prompt",
    "length": "tokens per completion",
    "entropy": "uncertainty, nats per token",
    "ece": "calibration error of the vote share as a confidence (lower is better)",
    "brier": "squared error of the vote share as a confidence (lower is better)",
    "auroc": "how well the vote share tells right votes from wrong ones (0.5: not at all)",
}
# The direction that is good; the other metrics are neither good nor bad.
BETTER = dict.fromkeys(("pass@1", "accuracy", "maj@k", "pass@k", "format", "auroc", "chrf", "bleu", "exact"), 1)
BETTER |= {"ece": -1, "brier": -1}
SHOWN_CHARACTERS = 1200


def headline(c: Comparison) -> list[tuple[str, ComparedArm | None]]:
    """The result in two sentences, as parts that are plain text or the name of an arm."""
    said: list[tuple[str, ComparedArm | None]] = []

    def say(*parts: str | ComparedArm) -> None:
        said.extend((p.name, p) if isinstance(p, ComparedArm) else (p, None) for p in parts)

    n = len(c.seeds)
    runs = f"mean of {n} seeds" if n > 1 else "one seed"
    best = c.winner
    if best:
        start, end = show(best.before(c.truth).value, c.truth), show(best.after(c.truth).value, c.truth)
        say("Without a single label, ", best, f" took held-out {c.truth} from {start} to {end} ({runs})")
        ceiling = c.ceiling
        if ceiling and not math.isnan(gap := ceiling.after(c.truth).value - best.after(c.truth).value):
            size = abs(100 * gap) if is_share(c.truth) else abs(gap)
            where = (
                "level with "
                if size < 0.5
                else f"{size:.1f} {'points ' if is_share(c.truth) else ''}{'below' if gap > 0 else 'above'} "
            )
            say(f", {where}", ceiling, ", which reads the answers")
        say(". ")
    elif c.methods:
        say(f"No label-free reward improved held-out {c.truth} beyond doubt ({runs}). ")
    if wrong := c.misled:
        for i, arm in enumerate(wrong):
            say(("" if i == 0 else " and " if i == len(wrong) - 1 else ", "), arm)
        say(f" earned ever more of {'its' if len(wrong) == 1 else 'their'} own reward while the truth fell.")
    return said


def way(change: Estimate, better: int) -> str:
    """ "up" for a clear change to the better, "down" for one to the worse, else empty."""
    if math.isnan(change.low) or change.low <= 0 <= change.high or not better:
        return ""
    return "up" if change.value * better > 0 else "down"


def show(value: float, metric: str) -> str:
    """A metric for people: shares as percentages, the rest with three digits."""
    if math.isnan(value):
        return "–"
    if is_share(metric):
        return f"{100 * value:.1f}%"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def show_change(value: float, metric: str) -> str:
    if math.isnan(value):
        return "–"
    text = f"{100 * value:+.1f}" if is_share(metric) else f"{value:+.3g}"
    return text.replace("-", "−")


def show_interval(e: Estimate, metric: str) -> str:
    if math.isnan(e.low) or math.isnan(e.high):
        return ""
    if is_share(metric):
        return f"{100 * e.low:.1f} to {100 * e.high:.1f}".replace("-", "−")
    return f"{e.low:.3g} to {e.high:.3g}".replace("-", "−")


def show_duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m} min" if hours else f"{m} min {s} s"


def show_count(n: float) -> str:
    if math.isnan(n):
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.0f}"


def printable(text: Any) -> str:
    """Model text as it may be shown: no half characters, controls made visible, a bounded length."""
    text = str(text).encode("utf-8", "replace").decode("utf-8")
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", lambda m: chr(0x2400 + ord(m[0])) if m[0] != "\x7f" else "\u2421", text)
    # Direction overrides could make a line read as something that it is not.
    text = re.sub(r"[\u202a-\u202e\u2066-\u2069]", "\ufffd", text)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"


def rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Estimate, Estimate, Estimate, str]]:
    """``(metric, before, after, change, way)`` for every metric that either side has.

    The way is "up" for better, "down" for worse, and empty where the interval of the change holds zero or
    neither direction is better.
    """
    skip = {"prompts", "unlabelled", "k", "samples", "_step"}
    names = [m for m in METRICS if m in before or m in after]
    names += sorted(m for m in {**before, **after} if m not in METRICS and m not in skip)
    found = [(m, measured(before, m), measured(after, m)) for m in names]
    kept = [(m, b, a, subtract(a, b)) for m, b, a in found if not (math.isnan(b.value) and math.isnan(a.value))]
    return [(m, b, a, d, way(d, BETTER.get(m, 0))) for m, b, a, d in kept]
