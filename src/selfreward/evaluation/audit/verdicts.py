"""From measures to plain words: use this, avoid that, cannot tell; because.

The gates are those under which rewards of these families are known to collapse: a vote teaches what most
samples already say, so the label must be right for more than half of the prompts; a score must order more
than 60 % of the pairs inside a group rightly, and differ inside at least half of the groups. A label from another
view is gated as a score: where it is wrong, hardly anybody in the group gives that answer, and nobody is paid.
A gate passes or fails only where its whole interval lies on one side; otherwise nobody can tell yet, and the
verdict says how many labelled prompts would settle it. Passing is necessary, not sufficient: a
reward can pass here and be gamed later, so train with an independent check.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from selfreward.statistics import UNKNOWN, Estimate

Call = Literal["use", "avoid", "cannot tell", "yardstick", "not scored"]
# What a label-free comparison is made with: answers to another wording (errors in common only where they do not
# depend on the wording), another ability of the same model (judging against answering), or the same samples.
Independence = Literal["view", "ability", "samples"]

LABEL_RIGHT, PAIRS_RIGHT, FLAT_GROUPS = 0.5, 0.6, 0.5
CHANCE = 0.5
MOSTLY_LENGTH, NOTHING_LEFT = 0.5, 0.1
SATURATED = 0.9
MATTERS = 0.05
OVERSHOOT = 0.03
FEWEST_LABELS = 5


@dataclass(frozen=True)
class Gate:
    """One go/no-go rule. ``passed`` is None where the interval holds the threshold, or nothing was measured."""

    name: str
    statement: str
    value: Estimate
    threshold: float
    passed: bool | None
    labelled: bool


@dataclass(frozen=True)
class Verdict:
    call: Call
    because: str
    gates: list[Gate] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        return "; ".join([self.because, *self.cautions]) + "."


def above(value: Estimate, threshold: float) -> bool | None:
    """True, False, or None where the interval holds the threshold."""
    if math.isnan(value.value):
        return None
    low = value.value if math.isnan(value.low) else value.low
    high = value.value if math.isnan(value.high) else value.high
    return True if low > threshold else False if high < threshold else None


def judge_signal(
    *,
    elects: bool,
    labelled: Mapping[str, Estimate],
    blind: Mapping[str, Estimate],
    labels: int = 0,
    against: str = "",
    independence: Independence = "samples",
    certainty: bool = False,
    reads_labels: bool = False,
) -> Verdict:
    """The verdict on one signal.

    Args:
        elects: it elects one answer per group (a vote), so the gate is on the label; otherwise on pairs.
        labelled: measures with truth: ``label_right``, ``pairs``, ``gain``, ``overshoot``, ``partial``.
        blind: measures without: ``flat``, ``explained``, ``saturated``, ``probability``, ``view_pairs``.
        labels: labelled prompts behind ``labelled``.
        against: what ``view_pairs`` was measured against, in words; empty where nothing independent exists.
        independence: of what the label-free measure was taken against.
        reads_labels: it is no self-reward: it reads the reference answers.
        certainty: it is made of the model's own token probabilities.
    """
    name = "label_right" if elects else "pairs"
    case = _Case(
        elects,
        labelled,
        blind,
        labels,
        against,
        independence,
        with_labels=labelled.get(name, UNKNOWN) if labels >= FEWEST_LABELS else UNKNOWN,
        without=blind.get("probability" if elects else "view_pairs", UNKNOWN),
        flat=blind.get("flat", UNKNOWN),
    )
    cautions = _cautions(labelled, blind, certainty)
    if reads_labels:
        cautions.insert(0, "it reads the reference answers, also in training")
    call, because = _call(case)
    return Verdict(call, because, _gates(case), cautions)


@dataclass(frozen=True)
class _Case:
    """What is known about one signal: the arguments of :func:`judge_signal`, and of them what the gates look at.

    Attributes:
        with_labels: what the gate is on, measured with truth; unknown below :data:`FEWEST_LABELS`.
        without: the same as far as it can be told without a label.
        flat: share of groups in which all values are the same.
    """

    elects: bool
    labelled: Mapping[str, Estimate]
    blind: Mapping[str, Estimate]
    labels: int
    against: str
    independence: Independence
    with_labels: Estimate
    without: Estimate
    flat: Estimate


def _call(case: _Case) -> tuple[Call, str]:
    """The call and its reason: nothing to learn, then labels, then what can be told without."""
    if case.flat.value >= 1:
        return "avoid", "it gives every completion of a group the same value, so nothing can be learned from it"
    if above(case.flat, FLAT_GROUPS) and not case.elects:
        return "avoid", f"in {_percent(case.flat)} of the groups it tells nothing apart"
    if not math.isnan(case.with_labels.value):
        return _call_with_labels(case)
    if not math.isnan(case.without.value):
        return _call_without_labels(case)
    return "cannot tell", "there is neither a label nor an independent view to hold it against"


def _call_with_labels(case: _Case) -> tuple[Call, str]:
    elects, with_labels = case.elects, case.with_labels
    gate_at = LABEL_RIGHT if elects else PAIRS_RIGHT
    passed, measured = above(with_labels, gate_at), _measured(elects, with_labels)
    gain = case.labelled.get("gain", UNKNOWN)
    if passed and not elects and gain.low <= 0 and gain.value < MATTERS:
        favourite = f"what it likes best is no better than a random completion ({100 * gain.value:+.0f} points)"
        return "cannot tell", f"{measured}, but {favourite}, and that is where training goes"
    if passed:
        return "use", measured
    if passed is False and elects and gain.low > 0:
        better = f"what it elects is still {100 * gain.value:.0f} points better than a random completion"
        return (
            "cannot tell",
            f"{measured}, so a collapse onto wrong answers is likely where its errors have a pattern; yet "
            f"{better}, and errors without a pattern are not learned",
        )
    if passed is False:
        return "avoid", measured + _what_follows(elects, with_labels)
    if _only_length(case.labelled, case.blind):
        return "avoid", measured + ", and that is length in disguise"
    if _support(case) == "use" and with_labels.value > gate_at:
        return "use", f"{measured}, and {_blind_words(case)}"
    return "cannot tell", measured + _how_many(with_labels, gate_at, case.labels)


def _call_without_labels(case: _Case) -> tuple[Call, str]:
    support, words = _support(case), _blind_words(case)
    if support == "avoid":
        return "avoid", words + _what_follows(case.elects, case.without)
    if support == "use":
        return "use", words
    if not case.elects and case.independence == "ability" and above(case.without, CHANCE) is False:
        words += ", so one of the two misleads, and nothing says which"
    elif not case.elects and case.independence == "samples":
        words += ", which both would do if they were wrong together"
    return "cannot tell", f"{words}; a few dozen labelled prompts would tell"


def _support(case: _Case) -> Call:
    """What agreement without labels speaks for."""
    elects, without, independence = case.elects, case.without, case.independence
    if elects:
        # Halves of the same samples say too little: they elect among fewer, and are wrong together.
        side = None if independence == "samples" else above(without, LABEL_RIGHT)
        return "avoid" if side is False else "use" if side else "cannot tell"
    if independence == "samples":
        return "cannot tell"
    if above(without, PAIRS_RIGHT):
        return "use"
    # The view's own mistakes pull this towards one half, so only what lies clearly below is a no.
    return "avoid" if independence == "view" and above(without, CHANCE) is False else "cannot tell"


def _gates(case: _Case) -> list[Gate]:
    with_labels, without, flat = case.with_labels, case.without, case.flat
    blind = {"use": True, "avoid": False}.get(_support(case))
    if case.elects:
        right = above(with_labels, LABEL_RIGHT)
        return [
            Gate("label", "the elected answer is right on most prompts", with_labels, LABEL_RIGHT, right, True),
            Gate("label, estimated", "the same, estimated from agreement", without, LABEL_RIGHT, blind, False),
        ]
    ordered, constant = above(with_labels, PAIRS_RIGHT), above(flat, FLAT_GROUPS)
    return [
        Gate("pairs", "over 60% of the pairs in a group are rightly ordered", with_labels, PAIRS_RIGHT, ordered, True),
        Gate("pairs, estimated", "the same against another view", without, PAIRS_RIGHT, blind, False),
        Gate("spread", "values differ in most groups", flat, FLAT_GROUPS, _not(constant), False),
    ]


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _measured(elects: bool, e: Estimate) -> str:
    if elects:
        return f"its answer is right on {_percent(e)} of the labelled prompts"
    return f"it puts the right completion above the wrong one in {_percent(e)} of the pairs"


def _blind_words(case: _Case) -> str:
    e = case.without
    if not case.elects:
        return f"it agrees with {case.against} on {_percent(e)} of the pairs"
    if case.independence == "samples":
        return (
            f"its two halves agree as if an election among half as many were right in {_percent(e)} of cases, which "
            "misses what more samples add and what both halves get wrong together"
        )
    return f"agreement between {case.against} puts the chance that its answer is right at {_percent(e)}"


def _what_follows(elects: bool, e: Estimate) -> str:
    if elects:
        return ": training would make the wrong answer unanimous"
    if e.value < CHANCE:
        return ": training on it would reward what is wrong"
    return f": below the {PAIRS_RIGHT:.0%} under which such rewards collapse"


def _how_many(e: Estimate, gate: float, labels: int) -> str:
    distance = abs(e.value - gate)
    if math.isnan(e.low) or distance < 0.02:
        return f", too close to the gate of {gate:.0%} to call"
    # Half widths shrink with the root of the number of prompts.
    needed = math.ceil(labels * ((e.high - e.low) / 2 / distance) ** 2 / 10) * 10
    needed = max(needed, labels // 10 * 10 + 20)
    return f", which does not settle the gate of {gate:.0%}; about {needed} labelled prompts would"


def _cautions(labelled: Mapping[str, Estimate], blind: Mapping[str, Estimate], certainty: bool) -> list[str]:
    said = []
    flat, explained = blind.get("flat", UNKNOWN), blind.get("explained", UNKNOWN)
    if 0.25 < flat.value < 1:
        said.append(f"{flat.value:.0%} of the groups give no gradient")
    if explained.value > MOSTLY_LENGTH:
        longer = "longer" if blind.get("length", UNKNOWN).value > 0 else "shorter"
        what = f"{explained.value:.0%} of it is length alone ({longer} is better)"
        if _only_length(labelled, blind):
            what += ", and at equal length it says nothing of the truth: it is spent once all are that long"
        said.append(what)
    if blind.get("saturated", UNKNOWN).value > SATURATED:
        said.append(f"{blind['saturated'].value:.0%} of its values are at the top of its range already")
    if labelled.get("gain", UNKNOWN).high < 0:
        said.append("choosing by it is worse than choosing at random")
    over = labelled.get("overshoot", UNKNOWN)
    if over.low > 0 and over.value >= OVERSHOOT:
        said.append(
            f"choosing among all is {100 * over.value:.0f} points worse than among fewer, so what it likes most is "
            "wrong, and training may rise and then fall: keep the best checkpoint"
        )
    if certainty:
        said.append("a model can become surer without becoming right, so stop when another view turns")
    return said


def _only_length(labelled: Mapping[str, Estimate], blind: Mapping[str, Estimate]) -> bool:
    """Whether length explains most of a signal, and nothing clear of the truth is left when it is held fixed."""
    left = labelled.get("partial", UNKNOWN)
    return blind.get("explained", UNKNOWN).value > MOSTLY_LENGTH and left.value < NOTHING_LEFT


def _percent(e: Estimate) -> str:
    if math.isnan(e.low) or math.isnan(e.high):
        return f"{e.value:.0%}"
    return f"{e.value:.0%} ({100 * e.low:.0f} to {100 * e.high:.0f})"
