"""How much effort? A number in the prompt that says what share of the usual length to spend.

1 is the usual length, 0.5 half of it. A task may bring its own words for some numbers (templates
``effort R``) or for any number (template ``effort``); every other prompt gets a sentence. Training
and use must put the number in the same way, so a run's own words are looked up beside its model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from selfreward.errors import ConfigError
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

TEMPLATE = "{prompt}\n\nReasoning effort: {effort} (1 is your usual length, 0.5 half of it)."


def effort_template(effort: float, templates: Mapping[str, str] | None = None) -> str:
    """The template that puts ``effort`` into a prompt, with the field ``{prompt}``.

    Raises:
        ConfigError: for an effort that is not positive, or that a task with a sign per number has no sign for.
    """
    if not effort > 0:
        raise ConfigError(f"The effort is {effort:g}; it must be above 0 (1 is the usual length).")
    known = templates or {}
    name = f"effort {effort:g}"
    if name in known:
        return known[name]
    signs = sorted(float(k.removeprefix("effort ")) for k in known if k.startswith("effort "))
    if signs and "effort" not in known:
        raise ConfigError(
            f"This task has no sign for the effort {effort:g}; it has {', '.join(f'{s:g}' for s in signs)}."
        )
    return known.get("effort", TEMPLATE).replace("{effort}", f"{effort:g}")


def put_effort(prompt: Prompt, effort: float, templates: Mapping[str, str] | None = None) -> Prompt:
    """The prompt with the effort in it: in its text, or in its last user message. Everything else stays.

    Example: ``"2+2?"`` with the template ``"[{effort}] {prompt}"`` and effort .5 is ``"[0.5] 2+2?"``.
    """
    template = effort_template(effort, templates)
    # Not str.format: the prompt and the template may hold braces of their own.
    asked = template.replace("{prompt}", prompt.question)
    if prompt.messages is None:
        return replace(prompt, text=asked)
    at = max(i for i, m in enumerate(prompt.messages) if m["role"] == "user")
    changed = [{**m, "content": asked} if i == at else m for i, m in enumerate(prompt.messages)]
    return replace(prompt, messages=tuple(changed))


def with_effort(policy: Policy, effort: float, templates: Mapping[str, str] | None = None) -> Policy:
    """The same policy, asked for this effort in every prompt; groups keep the prompts as they were."""
    effort_template(effort, templates)
    asked = copy.copy(policy)
    encode = policy.encode
    asked.encode = lambda prompt: encode(put_effort(prompt, effort, templates))  # type: ignore[method-assign]
    return asked


def parse_efforts(text: str) -> list[float]:
    """``"0.5,1"`` to ``[0.5, 1.0]``, ascending.

    Raises:
        ConfigError: for anything but two or more different positive numbers.
    """
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise ConfigError(f"efforts is {text!r}; it must be numbers with commas, such as 0.5,1,1.5.") from None
    if len(found) < 2 or found[0] <= 0:
        raise ConfigError(f"efforts is {text!r}; it must be two or more different numbers above 0.")
    return found


def known_efforts(templates: Mapping[str, str], wanted: Sequence[float]) -> None:
    """Check that every effort can be put into a prompt.

    Raises:
        ConfigError: for the first that cannot.
    """
    for effort in wanted:
        effort_template(effort, templates)
