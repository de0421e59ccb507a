"""``selfreward systems`` and ``selfreward show``: all published systems, and one of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def systems(
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print what was tested, as a page.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Replay every fingerprint (seconds each).")] = False,
) -> None:
    """All published systems with their status, computed from evidence."""
    from rich.console import Console

    from selfreward.registry import systems_json, systems_rows, systems_table

    rows = systems_rows(replay=_replay if replay else None)
    if json_:
        print(systems_json(rows))
    elif markdown:
        from selfreward.results_page import further_evidence, results_page

        print(results_page(rows, further_evidence(rows)), end="")
    else:
        Console().print(systems_table(rows))


def show(
    slug: Annotated[str, typer.Argument(help="System slug or id.")],
    replay: Annotated[bool, typer.Option("--replay", help="Replay the fingerprint.")] = False,
) -> None:
    """One system: idea, needs, formulas, parameters, evidence."""
    from rich.console import Console

    from selfreward.registry import assess, find_system, show_text

    system = find_system(slug)
    Console().print(show_text(system, assess(system, replay=_replay if replay else None)))


def _replay(evidence: Any) -> bool:
    from selfreward.proofs.base import replays

    return replays(evidence)
