"""Pass rules in words: each maker writes the sentence of a rule from the numbers that decide it.

A rule measures one number over seeds, with its 95 % interval, and holds it against a :class:`Bound`. The bound is data
(which end of the interval, which side, which limit), so that no rule decides by anything but what its sentence says.

An arm against its own start: :func:`gains`, :func:`falls`, :func:`keeps`, :func:`does_not_gain`, :func:`stays`,
:func:`retains`. Against another arm: :func:`leads`, :func:`trails`, :func:`not_below`, :func:`not_above`,
:func:`closes`. Against its best evaluation: :func:`lasts`, :func:`fades`. By itself: :func:`ends_with`. Any other
number: :func:`measured`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypedDict, Unpack

from selfreward.lab.proofs.results import Results, Values
from selfreward.statistics import Estimate, mean_interval

End = Literal["low", "mean", "high"]
Sign = Literal[">", ">=", "<", "<=", "=", "within"]

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "within": lambda value, limit: abs(value) <= limit,
}


class Unit(NamedTuple):
    """How a number is written: ``0.05`` in :data:`POINTS` is "5 points"."""

    scale: float = 1.0
    name: str = ""
    one: str = ""

    def write(self, value: float) -> str:
        text = f"{value * self.scale:g}"
        return f"{text} {self.one if text == '1' and self.one else self.name}".rstrip()


PLAIN = Unit()
POINTS = Unit(100, "points", "point")
PERCENT = Unit(100, "%")


class Metric(NamedTuple):
    """A metric by its key in a run, with the words and the unit in which sentences speak of it."""

    name: str
    words: str
    unit: Unit = PLAIN


PASS_AT_1 = Metric("pass@1", "held-out pass@1", POINTS)
ACCURACY = Metric("accuracy", "held-out greedy accuracy", POINTS)


@dataclass(frozen=True)
class Bound:
    """What is asked of a measured number: that one end of its interval, or its mean, lies on one side of a limit.

    ``sign`` says on which: ``>``, ``>=``, ``<``, ``<=``, ``=``, or ``within`` (no further than the limit from 0).

    Example: ``Bound("low", ">", 0)`` asks that the whole 95 % interval lies above 0.
    """

    end: End
    sign: Sign
    limit: float

    def __call__(self, estimate: Estimate) -> bool:
        """Whether the estimate meets it; a missing interval (NaN, a single seed) meets no end."""
        value = {"low": estimate.low, "mean": estimate.value, "high": estimate.high}[self.end]
        return bool(_HOLDS[self.sign](value, self.limit))

    def phrase(self, unit: Unit = PLAIN) -> str:
        """The limit in words, such as "at least 60 %"."""
        words = {">": "above", ">=": "at least", "<": "below", "<=": "at most", "=": "exactly", "within": "within"}
        return f"{words[self.sign]} {unit.write(self.limit)}" + (" of 0" if self.sign == "within" else "")

    def judged_by(self, over: str = "seeds") -> str:
        """The end in words, in brackets; nothing for the mean over nothing."""
        if self.end == "mean":
            return f"(mean over {over})" if over else ""
        return f"({'lower' if self.end == 'low' else 'upper'} end of the 95 % interval over {over})"


class Limit(TypedDict, total=False):
    """How a maker is told its bound: exactly one of these."""

    above: float
    at_least: float
    below: float
    at_most: float
    within: float
    exactly: float


_SIGNS: dict[str, Sign] = {
    "above": ">",
    "at_least": ">=",
    "below": "<",
    "at_most": "<=",
    "within": "within",
    "exactly": "=",
}


@dataclass(frozen=True)
class Rule:
    """A pass or falsification rule: ``statement`` in words, ``measure`` the number, ``holds`` the verdict on it."""

    name: str
    statement: str
    measure: Callable[[Results], Estimate]
    holds: Bound


# ---------------------------------------------------------------- an arm against its own start


def gains(
    name: str, arm: str, metric: str | Metric, *, by: float = 0.0, end: End = "low", best: bool = False, note: str = ""
) -> Rule:
    """``arm`` ends above its own start, by at least ``by``; with ``best``, its best evaluation does."""
    key, words, unit = _metric(metric)
    bound = _beyond(end, by)
    verb = f"the best evaluation of {arm} lies" if best else f"{arm} ends"
    distance = f"at least {unit.write(by)} above" if by else "above"
    when = "best" if best else "after"
    return _rule(name, f"{verb} {distance} its own start in {words}", lambda r: r.gain(arm, key, when), bound, note)


def falls(name: str, arm: str, metric: str | Metric, *, end: End = "high", note: str = "") -> Rule:
    """``arm`` ends below its own start."""
    key, words, _ = _metric(metric)
    return _rule(
        name, f"{arm} ends below its own start in {words}", lambda r: r.gain(arm, key), Bound(end, "<", 0.0), note
    )


def keeps(name: str, arm: str, metric: str | Metric, *, within: float = 0.0, end: End = "mean", note: str = "") -> Rule:
    """``arm`` ends no lower than its own start, or at most ``within`` below."""
    key, words, unit = _metric(metric)
    text = f"{arm} {_no_lower(within, unit)} its own start in {words}"
    return _rule(name, text, lambda r: r.gain(arm, key), Bound(end, ">=", -within), note)


def does_not_gain(
    name: str, arm: str, metric: str | Metric, *, within: float = 0.0, end: End = "mean", note: str = ""
) -> Rule:
    """``arm`` ends no higher than its own start, or at most ``within`` above."""
    key, words, unit = _metric(metric)
    text = f"{arm} {_no_higher(within, unit)} its own start in {words}"
    return _rule(name, text, lambda r: r.gain(arm, key), Bound(end, "<=", within), note)


def stays(name: str, arm: str, metric: str | Metric, *, within: float, note: str = "") -> Rule:
    """``arm`` ends within ``within`` of its own start, in the mean."""
    key, words, unit = _metric(metric)
    text = f"{arm} ends within {unit.write(within)} of its own start in {words}"
    return _rule(name, text, lambda r: r.gain(arm, key), Bound("mean", "within", within), note)


def retains(
    name: str, arm: str, metric: str | Metric, *, end: End = "mean", note: str = "", **limit: Unpack[Limit]
) -> Rule:
    """What ``arm`` ends with, as a share of what it started with: ``retains(..., at_least=0.9)``."""
    key, words, _ = _metric(metric)
    bound = _bound(end, limit)
    text = f"{arm} ends with {bound.phrase(PERCENT)} of what it started with in {words}"
    return _rule(name, text, lambda r: r.values(arm, key) / r.values(arm, key, "before"), bound, note)


# ---------------------------------------------------------------- an arm against another


def leads(
    name: str,
    arm: str,
    other: str,
    metric: str | Metric,
    *,
    by: float = 0.0,
    end: End = "low",
    apart: bool = False,
    note: str = "",
) -> Rule:
    """``arm`` ends above ``other``, paired by seed, by at least ``by``.

    With ``apart`` seeds are not paired: the two intervals must not meet.
    """
    key, words, unit = _metric(metric)
    distance = f"at least {unit.write(by)} above" if by else "above"
    text = f"{arm} ends {distance} {other} in {words}"
    return _rule(name, text, _difference(arm, other, key, apart), _beyond(end, by), note, apart)


def trails(
    name: str,
    arm: str,
    other: str,
    metric: str | Metric,
    *,
    end: End = "high",
    apart: bool = False,
    note: str = "",
) -> Rule:
    """``arm`` ends below ``other``, paired by seed; with ``apart`` as in :func:`leads`."""
    key, words, _ = _metric(metric)
    text = f"{arm} ends below {other} in {words}"
    return _rule(name, text, _difference(arm, other, key, apart), Bound(end, "<", 0.0), note, apart)


def not_below(
    name: str, arm: str, other: str, metric: str | Metric, *, within: float = 0.0, end: End = "mean", note: str = ""
) -> Rule:
    """``arm`` ends no lower than ``other``, or at most ``within`` below, paired by seed."""
    key, words, unit = _metric(metric)
    text = f"{arm} {_no_lower(within, unit)} {other} in {words}"
    return _rule(name, text, lambda r: r.lead(arm, other, key), Bound(end, ">=", -within), note)


def not_above(
    name: str, arm: str, other: str, metric: str | Metric, *, within: float = 0.0, end: End = "mean", note: str = ""
) -> Rule:
    """``arm`` ends no higher than ``other``, or at most ``within`` above, paired by seed."""
    key, words, unit = _metric(metric)
    text = f"{arm} {_no_higher(within, unit)} {other} in {words}"
    return _rule(name, text, lambda r: r.lead(arm, other, key), Bound(end, "<=", within), note)


def closes(
    name: str,
    arm: str,
    ceiling: str,
    metric: str | Metric,
    *,
    at_least: float,
    floor: str = "",
    end: End = "mean",
    note: str = "",
) -> Rule:
    """The share of the way to ``ceiling`` that ``arm`` goes, per seed.

    The way begins at ``floor``'s end; without a floor, each of the two is measured from its own start.
    """
    key, words, _ = _metric(metric)
    bound = Bound(end, ">=", at_least)

    def share(results: Results) -> Values:
        if not floor:
            return results.gains(arm, key) / results.gains(ceiling, key)
        bottom = results.values(floor, key)
        return (results.values(arm, key) - bottom) / (results.values(ceiling, key) - bottom)

    way = f"of the way from {floor} to {ceiling}" if floor else f"of what {ceiling} gains"
    text = f"{arm} {'closes' if floor else 'gains'} {bound.phrase(PERCENT)} {way} in {words}"
    return _rule(name, text, share, bound, note)


# ---------------------------------------------------------------- an arm against its best evaluation, and by itself


def lasts(name: str, arm: str, metric: str | Metric, *, within: float, note: str = "") -> Rule:
    """``arm`` ends at most ``within`` below its best evaluation, in the mean."""
    key, words, unit = _metric(metric)
    text = f"{arm} ends at most {unit.write(within)} below its best evaluation in {words}"
    return _rule(name, text, _fall(arm, key), Bound("mean", "<=", within), note)


def fades(name: str, arm: str, metric: str | Metric, *, by: float, note: str = "") -> Rule:
    """``arm`` ends at least ``by`` below its best evaluation, in the mean."""
    key, words, unit = _metric(metric)
    text = f"{arm} ends at least {unit.write(by)} below its best evaluation in {words}"
    return _rule(name, text, _fall(arm, key), Bound("mean", ">=", by), note)


def ends_with(
    name: str, arm: str, metric: str | Metric, *, end: End = "mean", note: str = "", **limit: Unpack[Limit]
) -> Rule:
    """What ``arm`` ends with, against a limit: ``ends_with("hardly hacked", "self-judge", HACK, below=0.1)``."""
    key, words, unit = _metric(metric)
    bound = _bound(end, limit)
    return _rule(name, f"{arm} ends with {words} {bound.phrase(unit)}", lambda r: r.mean(arm, key), bound, note)


# ---------------------------------------------------------------- any other number


def measured(
    name: str,
    says: str,
    measure: Callable[[Results], Estimate | Values | Sequence[float]],
    *,
    end: End = "mean",
    unit: Unit = PLAIN,
    over: str = "seeds",
    note: str = "",
    **limit: Unpack[Limit],
) -> Rule:
    """A number of the proof's own: ``says`` names it, and the sentence goes on with "is at least ...".

    Args:
        measure: the number per seed, ``[S]``, or its estimate.
        over: what the mean is taken over, where that is not seeds; empty for a single number.
    """
    bound = _bound(end, limit)
    return _rule(name, f"{says} is {bound.phrase(unit)}", measure, bound, note, over=over)


def weakest(estimates: Iterable[Estimate], end: End = "mean") -> Estimate:
    """The smallest of several estimates, by their means or by one end: what holds for it holds for all of them."""
    return min(estimates, key=lambda e: {"low": e.low, "mean": e.value, "high": e.high}[end])


# ---------------------------------------------------------------- what the makers are made of


def _rule(
    name: str,
    text: str,
    measure: Callable[[Results], Estimate | Values | Sequence[float]],
    bound: Bound,
    note: str,
    apart: bool = False,
    over: str = "seeds",
) -> Rule:
    def estimate(results: Results) -> Estimate:
        found = measure(results)
        return found if isinstance(found, Estimate) else mean_interval(found)

    judged = "(95 % intervals over seeds apart)" if apart else bound.judged_by(over)
    return Rule(name, f"{text} {judged}".rstrip() + (f"; {note}" if note else ""), estimate, bound)


def _metric(metric: str | Metric) -> Metric:
    return Metric(metric, metric) if isinstance(metric, str) else metric


def _beyond(end: End, by: float) -> Bound:
    return Bound(end, ">=", by) if by else Bound(end, ">", 0.0)


def _no_lower(within: float, unit: Unit) -> str:
    return f"ends at most {unit.write(within)} below" if within else "ends no lower than"


def _no_higher(within: float, unit: Unit) -> str:
    return f"ends at most {unit.write(within)} above" if within else "ends no higher than"


def _bound(end: End, limit: Limit) -> Bound:
    """
    Raises:
        ValueError: for no limit, or for two.
    """
    if len(limit) != 1:
        raise ValueError(f"A rule has one limit out of {', '.join(_SIGNS)}; it was given {len(limit)}.")
    ((side, value),) = limit.items()
    assert isinstance(value, int | float)
    return Bound(end, _SIGNS[side], value)


def _difference(arm: str, other: str, key: str, apart: bool) -> Callable[[Results], Estimate]:
    """``arm`` minus ``other``: paired by seed, or from the near end of one interval to the near end of the other."""

    def measure(results: Results) -> Estimate:
        if not apart:
            return results.lead(arm, other, key)
        a, b = results.mean(arm, key), results.mean(other, key)
        return Estimate(a.value - b.value, a.low - b.high, a.high - b.low)

    return measure


def _fall(arm: str, key: str) -> Callable[[Results], Values]:
    return lambda results: results.values(arm, key, "best") - results.values(arm, key)
