"""An audit for people: a table for the terminal, and one HTML file that opens offline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from selfreward.evaluation.report import audit_figures as figures
from selfreward.evaluation.report.pages import environment
from selfreward.evaluation.report.words import printable, show_count, show_duration
from selfreward.runtime.files import write_text
from selfreward.statistics import Estimate

if TYPE_CHECKING:
    from selfreward.evaluation.audit.record import AuditReport, SignalAudit

STYLES = {"use": "bold green", "avoid": "bold red", "cannot tell": "yellow", "yardstick": "dim", "not scored": "dim"}
FACTS = {
    "truth": "completions that are right",
    "best_possible": "prompts with a right completion",
    "answered": "completions with an answer",
    "well_formed": "well-formed completions",
    "vote_share": "of a group behind its most frequent answer",
    "different_answers": "different answers per prompt",
    "same_label_everywhere": "unrelated prompts with the same elected answer",
    "views_agree": "elected answers that another wording confirms",
}
SHOWN_GROUPS, SHOWN_COMPLETIONS = 4, 6


WIDE = 150


def audit_table(report: AuditReport, width: int = WIDE) -> Table:
    """One row per signal, best first, controls at the end. Below ``width`` 150 intervals go under their values."""
    labelled, narrow = report.labelled > 0, width < WIDE
    table = Table(
        title=f"{report.prompts} prompts, {report.completions} completions, "
        + (f"{report.labelled} prompts with a label" if labelled else "no labels"),
        title_style="bold",
        caption="95% intervals over prompts",
        caption_style="dim",
    )
    table.add_column("signal", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    if labelled:
        for column in ("label right", "pairs right", "choice gains"):
            table.add_column(column, justify="right")
    for column in ("label right, est.", "pairs, other view", "flat groups", "by length", "extra tokens"):
        table.add_column(column, justify="right")
    ranked = [s for s in report.ranked if s.scores]
    for i, s in enumerate(ranked):
        if s.control and i and not ranked[i - 1].control:
            table.add_section()
        cells = []
        if labelled:
            cells += [share(s.value("label_right")), share(s.value("pairs")), points(s.value("gain"))]
        cells += [
            estimated(s),
            share(s.value("view_pairs")),
            share(s.value("flat"), ends=False),
            share(s.value("explained"), ends=False),
            cost(s),
        ]
        table.add_row(
            Text(printable(s.name)),
            Text(s.verdict.call, STYLES[s.verdict.call]),
            *(_folded(c) if narrow else c for c in cells),
            style="dim" if s.control else None,
        )
    return table


def audit_words(report: AuditReport) -> list[str]:
    """What to print below the table: the verdicts, and what could not be scored."""
    said = [] if report.labelled else ["No labels were used. A few dozen labelled prompts make these verdicts sure."]
    said += report.words()
    missing = [f"{s.name} ({s.verdict.because})" for s in report.signals if s.verdict.call == "not scored"]
    if missing:
        said.append("Not scored: " + ", ".join(missing) + ".")
    return said


def write_audit(report: AuditReport, folder: str | Path) -> Path:
    """Write ``report.html`` into ``folder`` and return its path."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    candidates = [s for s in report.ranked if s.scores and not s.control]
    drawn = [
        (s, [Markup(svg) for svg in (figures.place_figure(s), figures.selection_figure(s, report)) if svg])
        for s in report.ranked
        if s.scores
    ]
    matrix = figures.matrix_figure(report)
    html = (
        environment()
        .get_template("audit.html.j2")
        .render(
            title=f"audit · {report.task} · selfreward",
            r=report,
            ranked=report.ranked,
            headline=headline(report),
            overview=Markup(figures.overview_figure(report)) if candidates else None,
            drawn=[(s, f) for s, f in drawn if f],
            matrix=Markup(matrix) if matrix else None,
            facts=[(words, share(report.facts[k]).plain) for k, words in FACTS.items() if k in report.facts],
            samples=_samples(report),
            run=_run_facts(report),
            share=lambda e: _html(share(e)),
            points=lambda e: _html(points(e)),
            estimated=lambda s: _html(estimated(s)),
            number=lambda e: "–" if math.isnan(e.value) else f"{e.value:.2f}",
            cost=lambda s: cost(s).plain,
        )
    )
    return write_text(out / "report.html", html, errors="replace")


def headline(report: AuditReport) -> str:
    """The result in one sentence."""
    groups = {call: [s.name for s in report.ranked if s.verdict.call == call] for call in ("use", "avoid")}
    believed, wrong = groups["use"], groups["avoid"]
    if believed:
        said = f"{believed[0]} can be believed here"
        said += f", as can {_and(_some(believed[1:]))}" if believed[1:] else ""
    else:
        said = "No reward that was looked at can be believed here yet"
    return said + (f"; avoid {_and(_some(wrong))}." if wrong else ".")


def _some(names: Sequence[str], shown: int = 3) -> list[str]:
    more = len(names) - shown
    return list(names) if more <= 1 else [*names[:shown], f"{more} more"]


def share(e: Estimate, ends: bool = True) -> Text:
    """``71% 58–81``; values above one (answers per prompt) as they are."""
    if math.isnan(e.value):
        return Text("–")
    text = Text(f"{100 * e.value:.0f}%" if e.value <= 1 else f"{e.value:.1f}")
    if ends and not math.isnan(e.low):
        text.append(f" {100 * e.low:.0f}–{100 * e.high:.0f}", "dim")
    return text


def points(e: Estimate) -> Text:
    """A difference of shares: ``+21 15…27``."""
    if math.isnan(e.value):
        return Text("–")
    text = Text(f"{100 * e.value:+.0f}".replace("-", "−"))
    if not math.isnan(e.low):
        text.append(f" {100 * e.low:.0f}…{100 * e.high:.0f}".replace("-", "−"), "dim")
    return text


def estimated(s: SignalAudit) -> Text:
    """The chance that its label is right, estimated without labels; ``~`` where only from the halves of each group."""
    e = s.value("probability")
    rough = s.from_halves and not math.isnan(e.value)
    return Text.assemble("~ " if rough else "", share(e))


def cost(s: SignalAudit) -> Text:
    """Tokens beyond the rollouts themselves."""
    tokens = s.cost.generated + s.cost.scored
    return Text(show_count(tokens) if s.cost.forwards else "–")


def _html(text: Text) -> Markup:
    """The value, and its interval in small print."""
    value, _, ends = text.plain.removeprefix("~ ").partition(" ")
    rough = "~ " if text.plain.startswith("~") else ""
    return Markup("{}{}{}").format(rough, value, Markup("<small>{}</small>").format(ends) if ends else "")


def _folded(text: Text) -> Text:
    """The interval under the value."""
    return Text("\n", justify="right").join(text.split(" ")) if " " in text.plain[2:] else text


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))


def _samples(report: AuditReport) -> list[dict[str, Any]]:
    """A few groups with their distinct completions, what the best candidate gives each, and whether it is right."""
    candidates = [s for s in report.ranked if s.scores and not s.control][:4]
    found = []
    step = max(1, len(report.groups) // SHOWN_GROUPS)
    for g in list(range(0, len(report.groups), step))[:SHOWN_GROUPS]:
        group = report.groups[g]
        counts = Counter(group.completions)
        rows: list[dict[str, Any]] = []
        for text, times in counts.most_common(SHOWN_COMPLETIONS):
            at = group.completions.index(text)
            truth = float(report.truths[g][at])
            rows.append(
                {
                    "text": text,
                    "times": times,
                    "truth": None if math.isnan(truth) else truth,
                    "values": [(s.name, float(s.scores[g][at])) for s in candidates],
                }
            )
        more = len(group) - sum(int(r["times"]) for r in rows)
        found.append({"prompt": group.prompt.question, "rows": rows, "more": more})
    return found


def _run_facts(report: AuditReport) -> list[tuple[str, str]]:
    total = sum(c.generated + c.scored for c in report.costs.values())
    forwards = sum(c.forwards for c in report.costs.values())
    facts = [
        ("model", report.model),
        ("data", report.data),
        ("seed", str(report.seed)),
        ("prompts", f"{report.prompts}, of which {report.labelled} with a label"),
        ("completions", str(report.completions)),
        ("other wording", "yes" if report.views else "no"),
        ("forwards of the model", str(forwards)),
        ("tokens, all signals", show_count(total)),
        ("time", show_duration(sum(c.seconds for c in report.costs.values()))),
        ("report written", datetime.now().strftime("%Y-%m-%d %H:%M")),
    ]
    return [(k, v) for k, v in facts if v]
