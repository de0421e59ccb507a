"""The table of all systems, and the status that each one's evidence gives it.

Facts about the systems are package data: ``systems.csv`` (id, slug, family, title) and
``cards.json`` (idea, needs, formulas, parameters, claim, source). A status is never stored;
it is computed from the evidence file each time it is shown.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from selfreward.errors import ConfigError, DataError, UserError, nearest
from selfreward.lab.evidence.record import MINIMUM_SEEDS, Evidence, evidence_directories, find_evidence
from selfreward.recipes.registry import RECIPES

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Status = Literal["works", "falsified", "stale", "planned"]
Replay = Callable[[Evidence], bool]
Directories = Sequence[str | os.PathLike[str]]

SYSTEMS = Path(__file__).parent
NO_CARD = "card: not written yet"
STYLES: dict[Status, str] = {"works": "green", "falsified": "red", "stale": "yellow", "planned": "dim"}


@dataclass(frozen=True)
class System:
    """One published self-reward system.

    Attributes:
        recipe: name of the recipe that implements it (``selfreward train RECIPE``), or None. A recipe
            that carries the slug is its own; a card may name one that several systems share.
        labels: what kind of label the paper's training reads, see :data:`selfreward.types.Labels`; empty
            where no card says it.
        recipe_labels: what the recipe here reads at its defaults, where that is another kind.
        source: arXiv id, or empty.
    """

    id: str
    slug: str
    family: str
    title: str
    recipe: str | None = None
    labels: str = ""
    recipe_labels: str = ""
    needs: str = ""
    idea: str = ""
    formulas: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    claim: str = ""
    source: str = ""

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.source}" if self.source else ""

    @property
    def both_labels(self) -> str:
        """``seed; here none``: the paper's labels, and the recipe's where they differ."""
        return f"{self.labels}; here {self.recipe_labels}" if self.recipe_labels else self.labels

    @property
    def has_card(self) -> bool:
        return bool(self.idea)


@dataclass(frozen=True)
class Assessment:
    """A system's status, the evidence behind it, and a note that says why it is not more."""

    system: System
    status: Status
    note: str = ""
    evidence: Evidence | None = None


@cache
def load_systems() -> list[System]:
    """All systems in the order of their ids."""
    cards: dict[str, dict[str, Any]] = json.loads((SYSTEMS / "cards.json").read_text(encoding="utf-8"))
    with (SYSTEMS / "systems.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    systems = []
    for row in rows:
        card = dict(cards.get(row["slug"], {}))
        if row["slug"] in RECIPES:
            card["recipe"] = row["slug"]
        card["formulas"] = tuple(card.get("formulas", ()))
        systems.append(System(row["id"], row["slug"], row["family"], row["title"], **card))
    return systems


def find_system(name: str) -> System:
    """The system with this slug, or this id (``"9"`` and ``"009"`` are the same).

    Raises:
        ConfigError: with the nearest slug.
    """
    wanted = str(name).strip().lower().replace("_", "-")
    number = wanted.zfill(3) if wanted.isdecimal() else None
    systems = load_systems()
    for system in systems:
        if wanted == system.slug or number == system.id:
            return system
    if number is not None:
        raise ConfigError(f"There is no system {name!r}; ids go from {systems[0].id} to {systems[-1].id}.")
    hint = nearest(wanted, (s.slug for s in systems))
    if not hint.startswith(" Did you mean"):
        hint = " `selfreward systems` lists all of them."
    raise ConfigError(f"There is no system {name!r}.{hint}")


def assess(system: System, evidence_dirs: Directories | None = None, replay: Replay | None = None) -> Assessment:
    """Compute a system's status from its evidence file.

    ``replay`` runs the recipe's first steps and says whether they match the recorded fingerprint.
    That takes seconds, so without it the record is trusted. A verdict in either direction needs
    three seeds and a living mechanism; with less, the method was not tested yet.
    """
    path = find_evidence(system.slug, evidence_dirs)
    if path is None:
        return Assessment(system, "planned")
    try:
        evidence = Evidence.load(path)
    except DataError as error:
        return Assessment(system, "planned", f"evidence not usable: {error}")
    if evidence.id != system.id or evidence.slug != system.slug:
        other = f"{evidence.id} {evidence.slug}"
        return Assessment(system, "planned", f"evidence not usable: {path} is about {other!r}.")
    if len(evidence.seeds) < MINIMUM_SEEDS:
        note = f"evidence has {len(evidence.seeds)} of the {MINIMUM_SEEDS} seeds that a verdict needs"
        return Assessment(system, "planned", note, evidence)
    if not evidence.alive:
        note = f"the mechanism ({evidence.mechanism['name']}) touched nothing, so the method was not tested"
        return Assessment(system, "planned", note, evidence)
    if replay is not None:
        try:
            same, why = replay(evidence), "the recipe no longer does what the fingerprint recorded"
        except UserError as error:
            same, why = False, f"the fingerprint cannot be replayed: {error}"
        if not same:
            return Assessment(system, "stale", f"{why}; run `{evidence.command}` again", evidence)
    if not evidence.holds:
        names = ", ".join(check.name for check in evidence.failed)
        return Assessment(system, "falsified", evidence.reason or f"fails: {names}", evidence)
    return Assessment(system, "works", "", evidence)


def status(system: System, evidence_dirs: Directories | None = None, replay: Replay | None = None) -> Status:
    """``"works"``, ``"falsified"``, ``"stale"`` or ``"planned"``; see :func:`assess`."""
    return assess(system, evidence_dirs, replay).status


def systems_rows(evidence_dirs: Directories | None = None, replay: Replay | None = None) -> list[Assessment]:
    """One assessment per system, in the order of their ids."""
    directories = evidence_directories() if evidence_dirs is None else evidence_dirs
    return [assess(system, directories, replay) for system in load_systems()]


def systems_table(rows: Sequence[Assessment]) -> Table:
    """The table of ``selfreward systems``; notes on statuses stand below it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    counts = Counter(row.status for row in rows)
    caption = Text(f"{len(rows)} systems: {', '.join(f'{counts[s]} {s}' for s in STYLES if counts[s])}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True, caption_justify="left")
    for name in ("id", "slug", "family", "labels", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("title", ratio=1)
    for row in rows:
        s = row.system
        title = Text(s.title, no_wrap=True, overflow="ellipsis")
        table.add_row(
            s.id,
            s.slug,
            s.family,
            s.both_labels.replace("; ", "\n") or "-",
            Text(row.status, style=STYLES[row.status]),
            title,
        )
        if row.note:
            caption.append(f"\n{s.slug} is {row.status}: {row.note}")
    table.caption = caption
    return table


def systems_json(rows: Sequence[Assessment]) -> str:
    """The rows as JSON text: a list of objects, one per system."""
    return json.dumps([_plain(row) for row in rows], indent=2, ensure_ascii=False)


def _plain(row: Assessment) -> dict[str, Any]:
    s = row.system
    plain: dict[str, Any] = {
        "id": s.id,
        "slug": s.slug,
        "family": s.family,
        "title": s.title,
        "status": row.status,
        "recipe": s.recipe,
        "labels": s.labels or None,
        "recipe_labels": s.recipe_labels or (s.labels if s.recipe else None) or None,
        "needs": s.needs or None,
        "url": s.url or None,
    }
    if row.note:
        plain["note"] = row.note
    if row.evidence is not None:
        plain["evidence"] = {"path": str(row.evidence.path), "seeds": row.evidence.seeds, "holds": row.evidence.holds}
    return plain


def show_text(system: System, assessment: Assessment | None = None) -> RenderableType:
    """Everything known about one system; its status is looked up unless ``assessment`` is given."""
    from rich.console import Group
    from rich.text import Text

    found = assessment or assess(system)
    head = Text(f"{system.id} {system.slug}", style="bold")
    head.append(f"  {found.status}", style=STYLES[found.status])
    parts: list[RenderableType] = [head, Text(system.title), Text()]
    facts = {
        "family": system.family,
        "idea": system.idea or NO_CARD,
        "labels": system.both_labels,
        "needs": system.needs,
        "recipe": system.recipe or "none yet",
        "formulas": "\n".join(system.formulas),
        "parameters": "\n".join(f"{k} = {v}" for k, v in system.parameters.items()),
        "claim": system.claim,
        "paper": system.url,
        "note": found.note,
    }
    parts.append(_facts({name: value for name, value in facts.items() if value}))
    parts += _evidence_parts(found.evidence)
    return Group(*parts)


def _facts(facts: dict[str, str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column()
    for name, value in facts.items():
        grid.add_row(name, Text(value))
    return grid


def _evidence_parts(evidence: Evidence | None) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    if evidence is None:
        return [Text("\nevidence: none yet")]
    table = Table(title="Checks", title_justify="left")
    for name in ("check", "rule", "observed", "interval", "holds"):
        table.add_column(name)
    for check in evidence.checks:
        interval = "-" if check.interval is None else f"[{check.interval[0]:.4g}, {check.interval[1]:.4g}]"
        verdict = Text("yes", style="green") if check.holds else Text("no", style="red")
        table.add_row(Text(check.name), Text(check.statement), f"{check.observed:.4g}", Text(interval), verdict)
    facts = {
        "evidence": str(evidence.path or "not saved"),
        "claim tested": evidence.claim,
        "task": evidence.task,
        "arms": ", ".join(evidence.arms),
        "seeds": ", ".join(map(str, evidence.seeds)),
        "mechanism": f"{evidence.mechanism['name']}: {evidence.mechanism['count']}",
        "command": evidence.command,
        "took": f"{evidence.wall_s:.0f} s",
    }
    return [Text(), _facts(facts), table]
