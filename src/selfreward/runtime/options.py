"""Options as users write them: ``KEY=VALUE`` texts, names and types of a dataclass's fields, and bounds beside them.

A bound is a constraint of :mod:`annotated_types` in the field's type, ``steps: Annotated[int, Ge(1)] = 100``. A text
beside it, read after "it must", replaces the words that are made from the number:
``Annotated[float, Ge(0), "be 0 (no limit) or more"]``.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from selfreward.errors import ConfigError, nearest


def parse_settings(texts: Iterable[str]) -> dict[str, str]:
    """``["lr=1e-5", "steps = 20"]`` as ``{"lr": "1e-5", "steps": " 20"}``; the later of two equal keys counts.

    Raises:
        ConfigError: for a text without ``=`` or without a key.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set takes KEY=VALUE, not {text!r}.")
        found[key.strip()] = value
    return found


def coerce_fields(cls: type, values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Check names and types of ``values`` against the fields of a dataclass; texts become what the field holds.

    Args:
        where: what the values belong to, for the message.

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


def check_bounds(cls: type, values: Mapping[str, Any], *, where: str = "") -> None:
    """Hold ``values`` against the bounds in the types of a dataclass's fields; None is never out of bounds.

    Args:
        where: what the values belong to; the message begins with it.

    Raises:
        ConfigError: naming the field, its value, and what would be right.
    """
    for name, constraints, words in _bounds(cls):
        value = values.get(name)
        if value is not None and not all(_holds(value, c) for c in constraints):
            raise ConfigError(f"{where}{': ' if where else ''}{name} is {value}; it must {words}.")


@cache
def _bounds(cls: type) -> list[tuple[str, list[Any], str]]:
    """Per bounded field: its name, its constraints, and what would be right."""
    found = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        metadata = list(_metadata(hint))
        constraints = [m for m in metadata if isinstance(m, Ge | Gt | Le | Lt)]
        if constraints:
            told = [m for m in metadata if isinstance(m, str)]
            found.append((name, constraints, told[0] if told else " and ".join(map(_in_words, constraints))))
    return found


def _metadata(hint: Any) -> Iterator[Any]:
    """What stands beside the type in every ``Annotated`` of a field, also inside ``... | None``."""
    if get_origin(hint) is Annotated:
        yield from get_args(hint)[1:]
    elif get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _metadata(part)


def _holds(value: Any, constraint: Ge | Gt | Le | Lt) -> bool:
    """False for NaN, whatever the constraint."""
    match constraint:
        case Ge(ge=low):
            return bool(value >= low)
        case Gt(gt=low):
            return bool(value > low)
        case Le(le=high):
            return bool(value <= high)
        case Lt(lt=high):
            return bool(value < high)


def _in_words(constraint: Ge | Gt | Le | Lt) -> str:
    match constraint:
        case Ge(ge=low):
            return f"be {low} or more"
        case Gt(gt=low):
            return f"be above {low}"
        case Le(le=high):
            return f"be {high} or less"
        case Lt(lt=high):
            return f"be below {high}"
