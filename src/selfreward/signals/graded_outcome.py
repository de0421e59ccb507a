"""A ladder of three outcomes, for answers and for verdicts about answers alike (RISE, arXiv 2505.13445)."""

from __future__ import annotations

import re
from collections.abc import Sequence

RIGHT, WRONG, UNREAD = 1.0, -0.5, -1.0


def ladder(found: Sequence[bool], right: Sequence[bool]) -> list[float]:
    """+1 for a right answer, -0.5 for a wrong one, -1 where there is none to read.

    Example: found ``[1, 1, 0]``, right ``[1, 0, 0]`` is ``[1, -.5, -1]``.
    """
    return [UNREAD if not f else RIGHT if r else WRONG for f, r in zip(found, right, strict=True)]


def rating(text: str, pattern: re.Pattern[str], words: Sequence[str]) -> str | None:
    """Which of ``words`` the last match of ``pattern`` (its first group) says; None for anything else.

    Numbers are compared as numbers: ``1``, ``+1`` and ``1.0`` are one rating. Example: with ``\\boxed{...}`` and the
    words 1, -0.5, -1 the text ``"... \\boxed{-0.50}"`` is -0.5, and ``"\\boxed{2}"`` is None.
    """
    matches = list(pattern.finditer(text))
    if not matches:
        return None
    said = matches[-1][1].strip()
    return next((w for w in words if w == said or (_number(w) is not None and _number(w) == _number(said))), None)


def _number(text: str) -> float | None:
    try:
        return float(text.replace("\u2212", "-"))
    except ValueError:
        return None
