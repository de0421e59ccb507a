"""Writes reports: one HTML file each, without a script and without a request to anywhere.

Everything that a model or a user wrote reaches the page through Jinja's autoescape; only our own
figures are marked as markup. A content security policy in the page forbids scripts and requests, so
that a mistake here would still not run anything.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from selfreward.errors import DataError
from selfreward.evaluation.report import figures
from selfreward.evaluation.report.digest import VERDICTS, Comparison, curve, digest, is_share, measured
from selfreward.evaluation.report.drawing import Pen
from selfreward.evaluation.report.drawing import pens as pen_of_each
from selfreward.evaluation.report.folder import Record, RunFolder, number, read_object, read_run
from selfreward.evaluation.report.gap import gap_figure
from selfreward.evaluation.report.words import (
    METRICS,
    headline,
    printable,
    rows,
    show,
    show_change,
    show_count,
    show_duration,
    show_interval,
)
from selfreward.runtime.files import write_text

PANELS = {
    "reward": ("own reward", "rise since the start, in starting spreads"),
    "agreement": ("agreement", "share of a group behind its most frequent answer"),
    "entropy": ("entropy", "nats per sampled token"),
    "length": ("length", "tokens per completion"),
    "unique_answers": ("unique answers", "per group"),
    "format": ("format", "share of well-formed completions"),
}
RUN_SECTIONS = {
    "What it was paid, and how it changed": [
        ("reward/mean", "reward"),
        ("agreement", "agreement"),
        ("entropy", "entropy"),
        ("length", "length (tokens)"),
        ("unique_answers", "unique answers per group"),
        ("format", "well formed"),
        ("zero_signal", "groups without signal"),
        ("finished", "finished completions"),
    ],
    "What other views say": [
        ("probe/cross_agreement", "agreement with another wording"),
        ("probe/cross_gap", "self-agreement beyond that"),
        ("probe/judge", "the start model as judge"),
        ("probe/back", "way back to the source (nats)"),
        ("probe/start_support", "the start's belief in today's answers"),
        ("probe/reward_twin", "reward confirmed by another wording"),
        ("probe/reward_judge", "reward confirmed by the start's judge"),
        ("probe/reward_start", "reward confirmed by the start's answers"),
        ("probe/kl", "KL to the start (nats per token)"),
    ],
    "The optimiser": [
        ("loss", "loss"),
        ("grad_norm", "gradient norm"),
        ("kl", "KL to the start"),
        ("lr", "learning rate"),
    ],
}
SHOWN_COMPLETIONS = 6


def write_report(run_folder: str | Path) -> Path:
    """Write ``report.html`` into a run folder from whatever is in it; returns its path.

    Raises:
        DataError: if there is no such folder.
    """
    folder = Path(run_folder)
    if not folder.is_dir():
        raise DataError(f"There is no run folder at {folder}.")
    run = read_run(folder)
    summary = run.summary
    before, after = _sides(run)
    metric = str(summary.get("metric") or next((m for m in METRICS if m in after or m in before), "pass@1"))
    truth = curve([run.metrics], f"eval/{metric}")
    alarms = [a.step for a in run.alarms if isinstance(a.step, int)]
    paid = curve([run.metrics], "reward/mean", max(1, len(run.metrics) // 40))
    sections = []
    for title, panels in RUN_SECTIONS.items():
        drawn = [
            (
                label,
                figures.run_figure(
                    c, label, share=key in ("agreement", "format", "zero_signal", "finished"), alarms=alarms
                ),
            )
            for key, label in panels
            if (c := curve([run.metrics], key, max(1, len(run.metrics) // 40)))
        ]
        if drawn:
            sections.append((title, [(label, Markup(svg)) for label, svg in drawn]))
    html = (
        environment()
        .get_template("run.html.j2")
        .render(
            title=f"{summary.get('recipe', folder.name)} · selfreward",
            name=str(summary.get("recipe", folder.name)),
            metric=metric,
            before=measured(before, metric),
            after=measured(after, metric),
            rows=rows(before, after),
            hero=Markup(
                figures.run_figure(truth, f"held-out {metric}", share=is_share(metric), alarms=alarms, big=True)
            )
            if truth
            else None,
            gap=Markup(gap_figure(truth, paid, metric)) if truth.steps.size > 1 and paid else None,
            sections=sections,
            samples=_samples(run),
            alarms=run.alarms,
            facts=_run_facts(run),
            steps=max((r["step"] for r in run.metrics), default=0),
            finished=bool(summary),
            summary=summary,
            config=run.config,
            notes=run.notes,
        )
    )
    return write_text(folder / "report.html", html, errors="replace")


def write_comparison(compare: Mapping[str, Any] | None, out: str | Path) -> Path:
    """Write ``report.html`` of a comparison into its folder; returns its path.

    Args:
        compare: the content of ``compare.json``; None to read it from ``out``.
        out: the folder that holds the arms' runs as ``ARM/seed-N``. What is missing there is left out.
            Further comparisons in folders of it are shown on the same page.

    Raises:
        DataError: if ``compare`` is None and ``out/compare.json`` cannot be read.
    """
    folder = Path(out)
    if compare is None:
        compare, notes = read_object(folder / "compare.json")
        if notes:
            raise DataError(f"No comparison to report in {folder}: {notes[0]}")
    c = digest(compare, folder)
    pen = pen_of_each(c.arms)
    drawn = [a for a in c.arms if any(run.metrics for run in a.runs)]
    beside, pens = _beside(folder, len(c.arms))
    panels = [
        (title, caption, Markup(svg))
        for key, (title, caption) in PANELS.items()
        if (svg := figures.panel_figure(c.arms, key, title))
    ]
    moved = [a for a in drawn if a.reward_curve]
    html = (
        environment()
        .get_template("comparison.html.j2")
        .render(
            title=f"{c.task or 'comparison'} · selfreward",
            c=c,
            pens=pen | pens,
            beside=beside,
            headline=headline(c),
            hero=Markup(figures.truth_figure(drawn, c.truth)) if drawn else None,
            compass=Markup(figures.compass_figure(moved, c.truth)) if moved else None,
            duels=[(a, Markup(figures.duel_figure(a, pen[a.index], c.truth))) for a in moved],
            panels=panels,
            second=next((m for m in ("accuracy", "maj@k", "pass@1") if m != c.truth and _has(c, m)), None),
            samples=[(a, _samples(a.runs[0])) for a in c.arms if a.runs and (a.runs[0].first or a.runs[0].last)],
            facts=_comparison_facts(c),
            folder_note=""
            if drawn
            else "The arms' run folders were not found beside this comparison, so there are no curves.",
        )
    )
    return write_text(folder / "report.html", html, errors="replace")


def _beside(folder: Path, taken: int) -> tuple[list[dict[str, Any]], dict[int, Pen]]:
    """The comparisons in folders of ``folder``; arms are numbered from ``taken``, so that each has its own pen."""
    found: list[dict[str, Any]] = []
    pens: dict[int, Pen] = {}
    for path in sorted(folder.glob("*/compare.json")):
        record, notes = read_object(path)
        if notes:
            continue
        c = digest(record, path.parent)
        for i, arm in enumerate(c.arms):
            arm.index = taken + i
        taken += len(c.arms)
        pens |= pen_of_each(c.arms)
        drawn = [a for a in c.arms if any(run.metrics for run in a.runs)]
        moved = [a for a in drawn if a.reward_curve]
        found.append(
            {
                "title": str(record.get("title") or path.parent.name),
                "c": c,
                "headline": headline(c),
                "hero": Markup(figures.truth_figure(drawn, c.truth)) if drawn else None,
                "compass": Markup(figures.compass_figure(moved, c.truth)) if moved else None,
            }
        )
    return found, pens


@cache
def environment() -> Environment:
    env = Environment(
        loader=PackageLoader("selfreward.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "show": show,
        "change": show_change,
        "interval": show_interval,
        "duration": show_duration,
        "count": show_count,
        "printable": printable,
        "percent": lambda x: f"{100 * min(1.0, max(0.0, x)):.2f}%",
        "is_share": is_share,
    }
    env.tests["nan"] = math.isnan
    env.globals |= {"verdicts": VERDICTS, "meanings": METRICS}
    return env


def _has(c: Comparison, metric: str) -> bool:
    return any(not math.isnan(a.after(metric).value) for a in c.arms)


def _sides(run: RunFolder) -> tuple[Record, Record]:
    """Before and after; a run that was cut short has its last evaluation in place of the final one."""
    evaluated = [
        {k.removeprefix("eval/"): v for k, v in r.items() if k.startswith("eval/")} | {"_step": r["step"]}
        for r in run.metrics
    ]
    evaluated = [e for e in evaluated if len(e) > 1]
    before, after = run.summary.get("before"), run.summary.get("after")
    if not isinstance(before, Mapping):
        before = evaluated[0] if evaluated and evaluated[0]["_step"] == 0 else {}
    if not isinstance(after, Mapping):
        after = evaluated[-1] if evaluated and evaluated[-1]["_step"] > 0 else {}
    return dict(before), dict(after)


def _samples(run: RunFolder) -> list[dict[str, Any]]:
    """One prompt early and one late (the same one where the log has it twice), with merged completions."""
    late = {g.get("prompt"): g for g in run.last}
    early = next((g for g in run.first if g.get("prompt") in late), run.first[0] if run.first else None)
    end = late.get(early.get("prompt")) if early else None
    end = end or (run.last[-1] if run.last else None)
    return [_group(g) for g in (early, end) if g is not None]


def _group(group: Record) -> dict[str, Any]:
    completions = group.get("completions")
    completions = [c for c in completions if isinstance(c, Mapping)] if isinstance(completions, Sequence) else []
    counts = Counter(str(c.get("text", "")) for c in completions)
    seen = {str(c.get("text", "")): c for c in reversed(completions)}
    vote = group.get("vote")
    shown = [
        {
            "text": text,
            "times": times,
            "reward": number(seen[text].get("reward")),
            "answer": seen[text].get("answer"),
            "finished": bool(seen[text].get("finished", True)),
        }
        for text, times in counts.most_common(SHOWN_COMPLETIONS)
    ]
    return {
        "step": group.get("step"),
        "prompt": group.get("prompt", ""),
        "completions": shown,
        "more": len(completions) - sum(c["times"] for c in shown),
        "total": len(completions),
        "vote": vote if isinstance(vote, Mapping) else None,
    }


def _run_facts(run: RunFolder) -> list[tuple[str, str]]:
    s = run.summary
    facts = [(k, str(s[k])) for k in ("recipe", "labels", "model", "data", "seed", "steps") if s.get(k) is not None]
    tokens = s.get("tokens")
    if isinstance(tokens, Mapping):
        facts.append(("tokens", ", ".join(f"{k} {show_count(number(v))}" for k, v in tokens.items())))
    if not math.isnan(wall := number(s.get("wall_s"))):
        facts.append(("training time", show_duration(wall)))
    mechanism = s.get("mechanism")
    if isinstance(mechanism, Mapping) and "count" in mechanism:
        facts.append((str(mechanism.get("name", "mechanism")), show_count(number(mechanism["count"]))))
    return [*facts, ("report written", datetime.now().strftime("%Y-%m-%d %H:%M"))]


def _comparison_facts(c: Comparison) -> list[tuple[str, str]]:
    record = c.record
    budget = record.get("budget") if isinstance(record.get("budget"), Mapping) else {}
    assert isinstance(budget, Mapping)
    facts = [
        ("command", str(record.get("command") or "")),
        ("task", c.task),
        ("start", c.base),
        ("steps", str(budget.get("steps") or "")),
        ("token budget", show_count(number(budget.get("tokens"))) if budget.get("tokens") else ""),
        ("seeds", ", ".join(map(str, c.seeds))),
        ("machine", _flat(record.get("machine"))),
        ("settings", _flat(record.get("settings"))),
        ("report written", datetime.now().strftime("%Y-%m-%d %H:%M")),
    ]
    return [(k, v) for k, v in facts if v]


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return " · ".join(
            f"{k} {json.dumps(v) if isinstance(v, (dict, list)) else v}" for k, v in value.items() if v is not None
        )
    return "" if value is None else str(value)
