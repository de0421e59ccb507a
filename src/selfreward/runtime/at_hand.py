"""Objects under a name, so that what takes a spec ("a folder or a hub id") takes an object as well.

A configuration is text. An object that a caller hands over in memory stands in it as ``here:NAME``; whoever reads the
configuration in the same process finds the object, and in another process a sentence.
"""

from __future__ import annotations

from typing import Any

from selfreward.errors import ConfigError

SCHEME = "here:"
_OBJECTS: dict[str, Any] = {}


def hand_over(value: Any, name: str) -> str:
    """Keep ``value`` and return the spec that stands for it; a later value of the same name takes its place."""
    spec = SCHEME + name
    _OBJECTS[spec] = value
    return spec


def remember(value: Any, spec: str) -> str:
    """The same under a spec that means the object in other processes, too, such as the file in which it stands."""
    _OBJECTS[spec] = value
    return spec


def is_here(spec: str) -> bool:
    """Whether ``spec`` stands for an object that was handed over, to whichever process."""
    return spec.startswith(SCHEME) or spec in _OBJECTS


def at_hand(spec: str, what: str) -> Any:
    """The object behind ``spec``.

    Args:
        what: what it is, for the message ("model", "data", "recipe").

    Raises:
        ConfigError: in a process to which it was not handed over.
    """
    if spec not in _OBJECTS:
        raise ConfigError(
            f"The {what} {spec.removeprefix(SCHEME)!r} was handed over in memory and is no longer at hand. "
            f"Hand it over again: selfreward.resume(FOLDER, {what}=...)."
        )
    return _OBJECTS[spec]


def forget(spec: str) -> None:
    """Let go of the object behind ``spec``, if there is one."""
    _OBJECTS.pop(spec, None)
