"""What translation recipes read of a prompt."""

from __future__ import annotations

# Columns of a translation task: the sentence, and its two languages by name and by code.
FIELDS = ("source", "source_language", "target_language", "source_code", "target_code")
