"""``selfreward doctor``: what this machine can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from selfreward.runtime.doctor import Finding


def doctor() -> None:
    """Say what this machine can do, and what is in the way."""
    from rich.console import Console

    from selfreward.runtime.doctor import diagnose

    findings = diagnose()
    Console().print(render(findings))
    if any(f.level == "error" for f in findings):
        raise typer.Exit(1)


def render(findings: Sequence[Finding]) -> RenderableType:
    """A table for the terminal, with a closing line that says whether training can start."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "error": ("ERROR", "bold red")}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in findings:
        text = Text(finding.message)
        if finding.fix:
            text.append(f"\n→ {finding.fix}", style="" if finding.level != "ok" else "dim")
        mark, style = marks[finding.level]
        table.add_row(Text(mark, style=style), finding.name, text)
    errors = sum(f.level == "error" for f in findings)
    warnings = sum(f.level == "warn" for f in findings)
    verdict = "Ready to train." if not errors else f"{errors} problem{'s' * (errors > 1)} to put right first."
    if warnings:
        verdict += f" {warnings} warning{'s' * (warnings > 1)}."
    return Group(table, Text(f"\n{verdict}", style="bold"))
