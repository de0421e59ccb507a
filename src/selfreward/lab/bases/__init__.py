"""Small models that come with the package, a folder each. ``selfreward pretrain NAME`` makes one again."""

from __future__ import annotations

from pathlib import Path

HOME = Path(__file__).parent


def shipped() -> list[str]:
    """Names of the bases that are here."""
    return sorted(p.parent.name for p in HOME.glob("*/config.json"))
