r"""Answer spaces: what counts as the answer of a completion, and when two answers are the same.

A vote is only as good as its equality. Every space is built on a *canonical form*, so equality is
symmetric and transitive by construction; :class:`Math` adds a symbolic check between different
forms, and :func:`cluster` closes it with union-find. A missing answer (None) equals nothing, not
even another missing answer.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from selfreward.data.math_answers import DECIMAL, canonical_math, number, plain_signs, symbolically_equal
from selfreward.errors import ConfigError, nearest

# A minus after a digit, a letter or a closing bracket is a subtraction, not a sign.
_SIGN = r"(?:(?<![\w)\]}])-)?"
_NUMBER = re.compile(
    rf"{_SIGN}\\[dtc]?frac\{{-?{DECIMAL}\}}\{{-?{DECIMAL}\}}"
    rf"|{_SIGN}(?:\\?\$-?)?[0-9]+ [0-9]+/[0-9]+"
    rf"|{_SIGN}(?:\\?\$-?)?{DECIMAL}(?:\s?/\s?{DECIMAL})?"
)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_MARKER = re.compile(r"\\(?:boxed|fbox)|####|<answer>")
_STATED = re.compile(r"answer(?: is)?:?([^\n]+)", re.IGNORECASE)
# Pandoc's rule for formulas: no space inside the dollars, no digit behind, so prices are not formulas.
_DOLLARS = re.compile(r"\$(?=[^\s$])([^$\n]*[^\s$\\])\$(?![0-9])")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


# ---- reading an answer out of a text -------------------------------------------------------------


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last non-overlapping match."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def last_boxed(text: str) -> str | None:
    r"""Content of the last complete ``\boxed{...}``, nested braces included; one pass over the text."""
    open_at: list[tuple[int, bool]] = []
    best: tuple[int, str] | None = None
    for m in _BRACES.finditer(text):
        token = m[0]
        if token.endswith("{") and token != "\\{":
            open_at.append((m.end(), len(token) > 1))
        elif token == "}" and open_at:
            start, is_box = open_at.pop()
            if is_box and (best is None or start > best[0]):
                best = (start, text[start : m.start()].strip())
    return best[1] or None if best else None


def last_tagged(text: str, tag: str) -> str | None:
    """Content of the last complete ``<tag>...</tag>``, None when absent or empty."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, end) if end >= 0 else -1
    if start < 0:
        return None
    return text[start + len(tag) + 2 : end].strip() or None


def last_number(text: str) -> str | None:
    r"""The last number of a text as it is written: ``-5``, ``1,000``, ``3/4``, ``\frac{3}{4}``, ``$18``."""
    found = last_match(_NUMBER, plain_signs(text))
    return found[0] if found else None


def after_hashes(text: str) -> str | None:
    """What follows the last ``####`` on its line, the convention of GSM8K."""
    found = _HASHES.findall(text)
    return found[-1].strip() or None if found else None


_MARKS: tuple[Callable[[str], str | None], ...] = (last_boxed, after_hashes, lambda t: last_tagged(t, "answer"))


def marked_answer(text: str) -> str | None:
    r"""The answer behind an explicit marker: ``\boxed{}``, then ``####``, then ``<answer>``."""
    return next((found for mark in _MARKS if (found := mark(text)) is not None), None)


def _unmarked_number(text: str) -> str | None:
    """The last number of a text that opens no marker: an empty or cut-off marker is a missing answer."""
    return None if _MARKER.search(text) else last_number(text)


def number_or_text(answer: str) -> str:
    """Canonical form for mixed data: an exact number where it is one, else text without case, padding and final dots.

    The form of a form is itself. Examples: ``"5.0 ."`` is ``"5"``, ``"Yes ."`` is ``"yes"``.
    """
    bare = " ".join(answer.split()).rstrip(". ")
    value = next((v for v in map(number, (answer, bare)) if v is not None), None)
    return str(value) if value is not None else bare.casefold()


# ---- spaces --------------------------------------------------------------------------------------


class AnswerSpace(ABC):
    """How answers are found and compared. Subclasses give :meth:`extract` and perhaps :meth:`canonical`.

    A subclass may override :meth:`equivalent` with a finer check than equal canonical forms;
    :func:`cluster` then tries it in both directions and closes it transitively.
    """

    @abstractmethod
    def extract(self, text: str) -> str | None:
        """The final answer of a completion, or None where it has none."""

    def canonical(self, answer: str) -> str:
        """The normal form: equal answers have equal forms. An empty form equals nothing."""
        return answer.strip()

    def equivalent(self, a: str, b: str) -> bool:
        """Whether two answers are the same; symmetric."""
        form = self.canonical(a)
        return bool(form) and form == self.canonical(b)

    def from_reference(self, reference: str) -> str:
        """The answer in a reference, which may be a whole solution such as GSM8K's ``... #### 18``."""
        found = self.extract(reference)
        return reference if found is None else found

    def correct(self, completion: str, reference: str) -> bool:
        """Whether the completion's answer equals the reference; a missing answer never does."""
        answer = self.extract(completion)
        if answer is None:
            return False
        wanted = self.from_reference(reference)
        return self.equivalent(answer, wanted) or self.equivalent(wanted, answer)


@dataclass(frozen=True)
class Exact(AnswerSpace):
    """The whole completion is the answer, compared as it is written except for outer white space."""

    def extract(self, text: str) -> str | None:
        return text.strip() or None


@dataclass(frozen=True)
class Regex(AnswerSpace):
    """The last match of ``pattern``: its first group where it has one. Compared as written."""

    pattern: str
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "_compiled", re.compile(self.pattern))
        except re.error as error:
            raise ConfigError(f"Answer pattern {self.pattern!r} is not a regular expression: {error}.") from None

    def extract(self, text: str) -> str | None:
        found = last_match(self._compiled, text)
        if found is None:
            return None
        answer = found[1] if self._compiled.groups else found[0]
        return (answer or "").strip() or None


@dataclass(frozen=True)
class Number(AnswerSpace):
    r"""A number behind ``\boxed{}``, ``####`` or ``<answer>``, else the last number of the text.

    A marker that is empty, cut off or without a number is a missing answer, never a guess from the
    rest of the text.
    """

    def extract(self, text: str) -> str | None:
        marked = marked_answer(text)
        if marked is None:
            return _unmarked_number(text)
        return marked if number(marked) is not None else last_number(marked)

    def canonical(self, answer: str) -> str:
        return number_or_text(answer)

    def from_reference(self, reference: str) -> str:
        return reference if number(reference) is not None else super().from_reference(reference)


@dataclass(frozen=True)
class Boxed(AnswerSpace):
    r"""The last ``\boxed{}``, nothing else; compared by its mathematical normal form."""

    def extract(self, text: str) -> str | None:
        return last_boxed(text)

    def canonical(self, answer: str) -> str:
        return canonical_math(answer)


@dataclass(frozen=True)
class Tagged(AnswerSpace):
    """The last ``<tag>...</tag>``; numbers compare by value, other text without case."""

    tag: str = "answer"

    def extract(self, text: str) -> str | None:
        return last_tagged(text, self.tag)

    def canonical(self, answer: str) -> str:
        return number_or_text(answer)


@dataclass(frozen=True)
class MultipleChoice(AnswerSpace):
    """One of a few options (``A``, ``B``, ... or ``yes``, ``no``).

    Looked for behind a marker, then after "answer is", then as the last option that stands alone.
    Options of one letter are matched with case, so that the article "a" is not an answer.
    """

    options: tuple[str, ...]
    _alone: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(set(self.options)) < 2 or not all(o.strip() for o in self.options):
            raise ConfigError(
                f"A choice needs at least two different options, got {list(self.options)}: 'choice:A,B,C'."
            )
        ordered = sorted(self.options, key=len, reverse=True)
        parts = (re.escape(o) if len(o) == 1 else f"(?i:{re.escape(o)})" for o in ordered)
        object.__setattr__(self, "_alone", re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)"))

    def extract(self, text: str) -> str | None:
        marked = marked_answer(text)
        if marked is not None:
            return self._last(marked)
        stated = _STATED.findall(text)
        found = self._alone.search(stated[-1]) if stated else None
        return self.canonical(found[0]) if found else self._last(text)

    def _last(self, text: str) -> str | None:
        found = self._alone.findall(text)
        return self.canonical(found[-1]) if found else None

    def canonical(self, answer: str) -> str:
        answer = answer.strip()
        same = (o for o in self.options if o == answer or (len(o) > 1 and o.casefold() == answer.casefold()))
        return next(same, answer)


@dataclass(frozen=True)
class Auto(AnswerSpace):
    r"""For data of unknown kind: ``\boxed{}``, ``####``, ``<answer>``, the last number, the last line.

    A reference without a marker is used as it is: guessing inside a reference would change the task.
    """

    def extract(self, text: str) -> str | None:
        found = marked_answer(text)
        if found is None:
            found = _unmarked_number(text)
        if found is None and not _MARKER.search(text):
            found = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)
        return found

    def canonical(self, answer: str) -> str:
        return number_or_text(answer)

    def from_reference(self, reference: str) -> str:
        marked = marked_answer(reference)
        return reference if marked is None else marked


@dataclass(frozen=True)
class Math(AnswerSpace):
    r"""Mathematical answers: behind a marker, after "answer is", the last ``$...$``, or the last number.

    Compared by normal form; different forms are handed to math-verify where it is installed.
    """

    symbolic: bool = True

    def extract(self, text: str) -> str | None:
        found = marked_answer(text)
        if found is not None or _MARKER.search(text):
            return found
        if stated := _STATED.findall(text):
            inline = _DOLLARS.search(stated[-1])
            found = inline[1].strip() if inline else last_number(stated[-1])
        if found is None and (formulas := _DOLLARS.findall(text)):
            found = formulas[-1].strip()
        return (last_number(text) if found is None else found) or None

    def canonical(self, answer: str) -> str:
        return canonical_math(answer)

    def equivalent(self, a: str, b: str) -> bool:
        x, y = self.canonical(a), self.canonical(b)
        if not x or not y:
            return False
        return x == y or (self.symbolic and symbolically_equal(x, y))

    def from_reference(self, reference: str) -> str:
        marked = marked_answer(reference)
        return reference if marked is None else marked


# ---- classes of equal answers --------------------------------------------------------------------


def cluster(answers: Sequence[str | None], space: AnswerSpace) -> list[int | None]:
    """Class ids of a group's answers, numbered in first-seen order; None stays None.

    Example: ``["18", None, "18.0", "7"]`` in :class:`Number` gives ``[0, None, 0, 1]``.

    Equal canonical forms share a class. Where the space has a pairwise check of its own, every two
    different forms are compared in both directions and joined by union-find, so the classes do not
    depend on the order of the answers.
    """
    forms = [None if a is None else space.canonical(a) or None for a in answers]
    first: dict[str, str] = {}
    for answer, form in zip(answers, forms, strict=True):
        if form is not None and answer is not None:
            first.setdefault(form, answer)
    distinct = list(first)
    parent = {form: form for form in distinct}

    def root(form: str) -> str:
        while parent[form] != form:
            parent[form] = parent[parent[form]]
            form = parent[form]
        return form

    if type(space).equivalent is not AnswerSpace.equivalent:
        for i, a in enumerate(distinct):
            for b in distinct[:i]:
                x, y = first[a], first[b]
                if root(a) != root(b) and (space.equivalent(x, y) or space.equivalent(y, x)):
                    parent[root(a)] = root(b)

    ids: dict[str, int] = {}
    return [None if form is None else ids.setdefault(root(form), len(ids)) for form in forms]


_PLAIN: dict[str, Callable[[], AnswerSpace]] = {
    "auto": Auto,
    "boxed": Boxed,
    "exact": Exact,
    "math": Math,
    "number": Number,
}


def answer_space(name: str) -> AnswerSpace:
    """The space that a configuration names.

    ``auto``, ``number``, ``boxed``, ``math``, ``exact``, ``tag:answer``, ``choice:A,B,C`` or
    ``regex:PATTERN``.

    Raises:
        ConfigError: on an unknown name or a missing or broken argument.
    """
    kind, colon, argument = name.partition(":")
    if kind in _PLAIN and not colon:
        return _PLAIN[kind]()
    if kind in ("tag", "choice", "regex"):
        if not argument:
            example = {"tag": "tag:answer", "choice": "choice:A,B,C", "regex": r"regex:#(\d)"}[kind]
            raise ConfigError(f"Answer space {name!r} needs an argument, for example {example!r}.")
        if kind == "tag":
            return Tagged(argument.strip("<>/ "))
        if kind == "regex":
            return Regex(argument)
        return MultipleChoice(tuple(option.strip() for option in argument.split(",")))
    raise ConfigError(f"Unknown answer space {name!r}." + nearest(kind, [*_PLAIN, "tag", "choice", "regex"]))


_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)


def strip_thinking(text: str) -> str:
    """The response without its thinking part, which is not what is graded.

    Example: ``"<think>hm</think> Yes."`` is ``"Yes."``; an unclosed block is dropped to the end.
    """
    return _THINKING.sub("", text).strip()
