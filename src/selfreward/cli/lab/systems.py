"""``selfreward systems``: all published systems with their status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from selfreward.lab.evidence.record import Evidence


def systems(
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print what was tested, as a page.")] = False,
    blocks: Annotated[bool, typer.Option("--blocks", help="Print which blocks every recipe wires.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Replay every fingerprint (seconds each).")] = False,
) -> None:
    """List all published systems with their status, computed from evidence."""
    from rich.console import Console

    if blocks:
        _blocks(json_, markdown)
        return

    from selfreward.lab.catalogue.systems import systems_json, systems_rows, systems_table

    rows = systems_rows(replay=replayed if replay else None)
    if json_:
        print(systems_json(rows))
    elif markdown:
        from selfreward.lab.catalogue.results_page import further_evidence, results_page

        print(results_page(rows, further_evidence(rows)), end="")
    else:
        Console().print(systems_table(rows))


def _blocks(json_: bool, markdown: bool) -> None:
    """Recipes with their length and blocks, as a table, a page or JSON."""
    from selfreward.lab.catalogue.blocks_page import blocks_page, wirings

    found = wirings()
    if json_:
        import json
        from dataclasses import asdict

        print(json.dumps([asdict(w) for w in found], indent=1))
    elif markdown:
        print(blocks_page(found), end="")
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("recipe", "id", "lines", "code", "blocks")
        for w in found:
            table.add_row(", ".join(w.recipes), ", ".join(w.ids), str(w.lines), str(w.code), ", ".join(w.blocks))
        Console().print(table)


def replayed(evidence: Evidence) -> bool:
    """Whether the recorded fingerprint comes out again on this machine."""
    from selfreward.lab.proofs.registry import replays

    return replays(evidence)
