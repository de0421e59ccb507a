"""``docs/results.md``: what was tested and what came out, from the evidence files alone."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfreward.lab.catalogue.systems import Assessment, System
from selfreward.lab.evidence.record import Evidence, evidence_directories
from selfreward.lab.proofs.registry import PROOFS
from selfreward.recipes.registry import RECIPES, load_recipe, recipe_class
from selfreward.statistics import mean_interval

HEAD = """# Results

Made by `selfreward systems --markdown > docs/results.md` from `evidence/`; nothing here is written by hand. *Works*
means that every rule of the method's card held over at least three seeds, at the size of a laptop; *falsified* that one
did not, and why. Rules were written down before the runs. Values are means over seeds with 95 % t-intervals, which with
three seeds are wide.

"""
SKIP = ("before/", "best/", "tokens/")
FIRST = ("quality", "pass@1", "test/chrf++", "test/bleu", "accuracy")
COLUMNS = 4


def further_evidence(rows: Sequence[Assessment]) -> list[Evidence]:
    """Evidence beside that of the systems: building blocks, and further proofs of a system."""
    found: dict[str, Evidence] = {}
    slugs = {row.system.slug for row in rows}
    for folder in evidence_directories():
        for path in sorted(Path(folder).glob("*.json")):
            if path.stem in PROOFS and path.stem not in slugs:
                found.setdefault(path.stem, Evidence.load(path))
    return list(found.values())


def results_page(rows: Sequence[Assessment], further: Sequence[Evidence] = ()) -> str:
    """Markdown: a table of all systems with evidence, then the arms and rules of each, then ``further`` proofs."""
    tested = [(row, row.evidence) for row in rows if row.evidence is not None]
    lines = [
        "| id | system | labels: paper | labels: here | status | rules held | recipe |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, evidence in tested:
        s = row.system
        held = f"{sum(c.holds for c in evidence.checks)} of {len(evidence.checks)}"
        needs = f"{s.labels or '?'} | {_ours(s)}"
        lines.append(f"| {s.id} | [{s.slug}](#{s.id}-{s.slug}) | {needs} | {row.status} | {held} | {_recipe(s)} |")
    parts = [_section(f"{r.system.id} {r.system.slug}", r.status, evidence) for r, evidence in tested]
    parts += [_section(f"{e.id} {e.slug}", "works" if e.holds else "falsified", e) for e in further]
    return HEAD + "\n".join(lines) + "\n\n" + "\n".join(parts)


def _ours(system: System) -> str:
    """The labels that the recipe needs at its defaults."""
    return load_recipe(str(system.recipe)).needs() if system.recipe in RECIPES else "-"


def _recipe(system: System) -> str:
    """The recipe's file and its length."""
    if system.recipe not in RECIPES:
        return "test time"
    module = importlib.import_module(recipe_class(str(system.recipe)).__module__)
    return f"`{system.recipe}`, {len(inspect.getsource(module).splitlines())} lines"


def _section(title: str, status: str, evidence: Evidence) -> str:
    metrics = [m for m in _common(evidence) if not m.startswith(SKIP) and m not in ("mechanism", "alarms")]
    metrics = sorted(metrics, key=lambda m: FIRST.index(m) if m in FIRST else len(FIRST))[:COLUMNS]
    lines = [f"## {title}", "", f"**{status}.** {evidence.claim}"]
    if evidence.reason and status == "falsified":
        lines += ["", f"Why not: {evidence.reason}"]
    lines += [
        "",
        f"Task: {evidence.task}. Mechanism: {evidence.mechanism['name']}, {evidence.mechanism['count']:,} times. ",
    ]
    lines[-1] += f"`{evidence.command}` ({evidence.wall_s / 60:.0f} minutes on one core)."
    lines += ["", "| arm | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for arm, seeds in evidence.arms.items():
        lines.append(f"| {arm} | " + " | ".join(_cell([seeds[s][m] for s in seeds]) for m in metrics) + " |")
    lines += [""]
    for check in evidence.checks:
        interval = f" [{check.interval[0]:.3g}, {check.interval[1]:.3g}]" if check.interval else ""
        mark = "holds" if check.holds else "**fails**"
        lines.append(f"- {mark}: {check.statement}: {check.observed:.3g}{interval}")
    return "\n".join([*lines, ""])


def _common(evidence: Evidence) -> list[str]:
    """Metrics that every arm and seed has, in the order of the first."""
    runs: list[Mapping[str, Any]] = [m for seeds in evidence.arms.values() for m in seeds.values()]
    return [name for name in runs[0] if all(name in r for r in runs)]


def _cell(values: Sequence[float]) -> str:
    e = mean_interval(list(values))
    return f"{e.value:.3g}" if len(values) < 2 or e.high == e.low else f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}]"
