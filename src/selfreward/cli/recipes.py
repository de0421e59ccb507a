"""``selfreward recipes``: what can be trained by."""

from __future__ import annotations


def recipes() -> None:
    """List the recipes with their labels and hyperparameters."""
    from rich.console import Console

    from selfreward.cli.tables import recipes_table

    Console().print(recipes_table())
