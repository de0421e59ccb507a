r"""Normal forms of mathematical answers: numbers as fractions, LaTeX without its clothes.

Used by :mod:`selfreward.data.answers`. Completions are hostile input: a collapsed policy writes ten
thousand digits or ``1e999999999``, so lengths and exponents are bounded before anything is expanded.
"""

from __future__ import annotations

import logging
import re
import threading
from fractions import Fraction
from functools import lru_cache
from typing import Any

INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
DECIMAL = rf"(?:{INTEGER}(?:\.[0-9]+)?|(?<![.\w])\.[0-9]+)(?:[eE][+-]?[0-9]{{1,2}}(?!\w))?"

_WHOLE = re.compile(rf"([+-]?)({DECIMAL})(?:\s?/\s?([+-]?)({DECIMAL}))?")
_MIXED = re.compile(r"([+-]?)([0-9]+) ([0-9]+)/([0-9]+)")
_MIXED_FRAC = re.compile(r"([+-]?)([0-9]+) ?\\[dtc]?frac\{([0-9]+)\}\{([0-9]+)\}")
_FRAC = re.compile(rf"([+-]?)\\[dtc]?frac\{{\s?([+-]?)({DECIMAL})\s?\}}\{{\s?([+-]?)({DECIMAL})\s?\}}")
_LONGEST_NUMBER = 200
_LONGEST_MATH = 1000
_LONGEST_SYMBOLIC = 120


def plain_signs(text: str) -> str:
    """Typographic minus signs and the LaTeX ways to write a thousands separator, made plain."""
    return text.replace("\u2212", "-").replace("{,}", ",").replace(",\\!", ",")


def _decimal(sign: str, digits: str) -> Fraction:
    value = Fraction(digits.replace(",", ""))
    return -value if sign == "-" else value


def number(text: str) -> Fraction | None:
    r"""The exact value of a text that is one number, else None.

    ``1,000``, ``1000.0``, ``2000/2``, ``$1000`` and ``1e3`` are all 1000; ``3 1/2`` and
    ``3\frac{1}{2}`` are 7/2. A percentage is its number (``10%`` is 10), because reference answers
    carry the number alone.
    """
    if len(text) > _LONGEST_NUMBER:
        return None
    s = plain_signs(text).replace("\\$", "").replace("$", "").replace("\\%", "").replace("%", "")
    s = " ".join(s.split())
    if s.endswith("."):
        s = s[:-1]
    try:
        if m := _WHOLE.fullmatch(s):
            value = _decimal(m[1], m[2])
            return value / _decimal(m[3], m[4]) if m[4] else value
        if m := _FRAC.fullmatch(s):
            value = _decimal(m[2], m[3]) / _decimal(m[4], m[5])
            return -value if m[1] == "-" else value
        if m := _MIXED.fullmatch(s) or _MIXED_FRAC.fullmatch(s):
            value = int(m[2]) + Fraction(int(m[3]), int(m[4]))
            return -value if m[1] == "-" else value
    except ZeroDivisionError:
        return None
    return None


_SPACING = re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|\\[!,;: ]|~")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=[0-9}])\s*\\(?:text|textrm|mathrm|mbox)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?$")
_PLAIN_UNIT = re.compile(rf"([+-]?\\?\$?{DECIMAL}(?:/{DECIMAL})?) +[a-zA-Z]{{2,}}(?: [a-zA-Z]+)*")
_DEGREES = re.compile(r"\^\{?\s*\\circ\s*\}?|\u00b0")
_SHORT_FRAC = re.compile(r"\\frac\s*([0-9])\s*([0-9])")
_SHORT_SQRT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_ASSIGNED = re.compile(r"[a-zA-Z](?:\([a-zA-Z]\))?(?:=|\\in(?![a-zA-Z]))(.+)", re.DOTALL)
_UNICODE = {"\u03c0": "\\pi", "\u221e": "\\infty", "\u00d7": "\\times", "\u00b7": "\\cdot", "\u2264": "\\leq"}
_SETS = (("\\{", "\\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"))


def _undress(text: str) -> str:
    """LaTeX without layout, units and decoration; one spelling for every command; no spaces."""
    s = plain_signs(text).strip()
    for old, new in _UNICODE.items():
        s = s.replace(old, new)
    s = _SPACING.sub(" ", s).replace("\\(", " ").replace("\\)", " ").replace("\\[", " ").replace("\\]", " ")
    s = s.replace("\\$", "").replace("$", "").replace("\\%", "").replace("%", "").strip().rstrip(".").rstrip()
    s = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", _DEGREES.sub("", s))
    s = _TEXT.sub(r"\1", _UNIT.sub("", s))
    if m := _PLAIN_UNIT.fullmatch(s.strip()):
        s = m[1]
    s = _SHORT_SQRT.sub(r"\\sqrt{\1}", _SHORT_FRAC.sub(r"\\frac{\1}{\2}", s))
    if number(s) is not None:
        return s.strip()
    # A space that ends a command must stay: "\pi r" is not "\pir".
    s = re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", r"\1{}", s)
    return re.sub(r"\s+", "", s).replace("{}", " ")


def _split(text: str) -> list[str]:
    """The parts of ``text`` between commas that stand outside all brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def canonical_math(text: str) -> str:
    r"""A normal form of one mathematical answer.

    Numbers become fractions, ``\dfrac``, ``\left``, ``$``, units and spaces go, ``x = 5`` becomes
    ``5``. Sets and bare lists (``1, 2`` as in "the roots are 1, 2") are unordered; tuples and
    intervals keep their order and brackets. A text of words is compared without case.
    """
    if len(text) > _LONGEST_MATH:
        return " ".join(text.split())
    return _canonical(_undress(text), 0)


def _canonical(s: str, depth: int) -> str:
    if m := _ASSIGNED.fullmatch(s):
        s = m[1]
    value = number(s)
    if value is not None:
        return str(value)
    if depth < 4:
        for left, right in _SETS:
            inner = s[len(left) : -len(right)]
            if not (s.startswith(left) and s.endswith(right) and len(s) >= len(left) + len(right)):
                continue
            if not _balanced(inner):
                continue
            items = [_canonical(p, depth + 1) for p in _split(inner)]
            if left == "(" and right == ")" and len(items) == 1:
                return items[0]
            if left == "\\{":
                items = sorted(set(items))
            return left + ",".join(items) + right
        parts = _split(s)
        if len(parts) > 1 and all(parts):
            return "\\{" + ",".join(sorted({_canonical(p, depth + 1) for p in parts})) + "\\}"
    return s.casefold() if len(s) > 1 and s.isalpha() else s


def _balanced(text: str) -> bool:
    depth = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if depth < 0:
            return False
    return depth == 0


_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORD = re.compile(r"[a-zA-Z]{3,}")
# Powers whose evaluation would not end: towers, factorials, and exponents of four digits or more.
_EXPLOSIVE = re.compile(r"!|\^[^-+*/=,]*\^|\^\{?-?[0-9]{4,}|\*\*")


def _is_numeric(form: str) -> bool:
    items = _split(form.replace("\\{", "").replace("\\}", "").strip("()[]"))
    return all(number(i) is not None for i in items)


def _is_symbolic(form: str) -> bool:
    """Worth a symbolic comparison: short, safe to evaluate, and not made of words."""
    bare = _COMMAND.sub("", form)
    return (
        0 < len(form) <= _LONGEST_SYMBOLIC
        and not _WORD.search(bare)
        and not _EXPLOSIVE.search(form)
        and (len(bare) == 1 or bool(re.search(r"[0-9\\+\-*/^=<>]", form)))
    )


def symbolically_equal(a: str, b: str) -> bool:
    """Whether math-verify calls two canonical forms equal, in either direction.

    math-verify alone is neither symmetric nor transitive; this is symmetric, and the clustering
    closes it. Numbers, and tuples or sets of numbers, are decided by their canonical form, so that
    its leniency about percentages and rounding cannot join two numbers. False without math-verify.
    """
    if a == b:
        return bool(a)
    if not (_is_symbolic(a) and _is_symbolic(b)) or (_is_numeric(a) and _is_numeric(b)):
        return False
    names = [set(re.findall(r"[a-zA-Z]", _COMMAND.sub("", form))) for form in (a, b)]
    if names[0] != names[1] and {n.casefold() for n in names[0]} == {n.casefold() for n in names[1]}:
        return False  # math-verify ignores case, but a and A are two variables
    return _verified(*sorted((a, b)))


def _alarm() -> int | None:
    # math-verify's time limit is a signal alarm, which Python allows in the main thread only.
    return 3 if threading.current_thread() is threading.main_thread() else None


@lru_cache(maxsize=8192)
def _parsed(form: str) -> Any:
    from math_verify import LatexExtractionConfig, parse

    limit = _alarm()
    return parse(f"${form}$", [LatexExtractionConfig()], parsing_timeout=limit)  # type: ignore[arg-type]


@lru_cache(maxsize=8192)
def _verified(a: str, b: str) -> bool:
    try:
        from math_verify import verify
    except ImportError:
        return False
    quiet = logging.getLogger("math_verify")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        x, y = _parsed(a), _parsed(b)
        if not x or not y:
            return False
        limit = _alarm()
        return verify(x, y, timeout_seconds=limit) or verify(y, x, timeout_seconds=limit)
    except Exception:  # sympy raises nearly anything on nonsense, and nonsense equals nothing
        return False
    finally:
        quiet.setLevel(level)
