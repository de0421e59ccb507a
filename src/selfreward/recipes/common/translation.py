"""What recipes for translation share: the columns of a prompt that they read."""

from __future__ import annotations

FIELDS = ("source", "source_language", "target_language", "source_code", "target_code")
