"""Moved out of config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from selfreward.errors import ConfigError, nearest


def coerce_fields(cls: type, values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Check names and types of ``values`` against the fields of a dataclass.

    Raises:
        ConfigError: naming the key, its place, and what would be right.
    """
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(cls)
    valid = [f.name for f in dataclasses.fields(cls) if f.init]
    result = {}
    for key, value in values.items():
        if key not in valid:
            raise ConfigError(f"{where} has no key {key!r}.{nearest(key, valid)}")
        text = value.strip() if isinstance(value, str) else value
        if text in ("none", "null", "None") and type(None) in getattr(hints[key], "__args__", ()):
            text = None
        try:
            result[key] = TypeAdapter(hints[key]).validate_python(text)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Input ")
            raise ConfigError(f"{where}: {key} is {value!r}, but it {reason}.") from None
    return result
