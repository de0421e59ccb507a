"""``selfreward show``: one published system."""

from __future__ import annotations

from typing import Annotated

import typer

from selfreward.cli.lab.systems import replayed


def show(
    slug: Annotated[str, typer.Argument(help="System slug or id.")],
    replay: Annotated[bool, typer.Option("--replay", help="Replay the fingerprint.")] = False,
) -> None:
    """Show one system: idea, needs, formulas, parameters, evidence."""
    from rich.console import Console

    from selfreward.lab.catalogue.systems import assess, find_system, show_text

    system = find_system(slug)
    Console().print(show_text(system, assess(system, replay=replayed if replay else None)))
