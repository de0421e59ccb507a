"""Moved out of recipes.ssr_zero."""

from __future__ import annotations

FIELDS = ("source", "source_language", "target_language", "source_code", "target_code")
