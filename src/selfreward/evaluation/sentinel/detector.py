"""The detector: a run's records in, alarms by name out. Pure: it reads live runs and ``metrics.jsonl`` alike.

Rules compare smoothed statistics of the steps with the run's own first steps, and probes with the first
probe. A rule is *severe* when it says that the truth is probably falling or about to, and a *note* when it
says that something changed that may be harmless. Three ideas carry most of the weight:

* *What is paid for is what will be learned.* The differences in reward inside a group are held against another
  view of the same completions. A reward that no view confirms moves the model somewhere, and probably not up:
  the direction of the step and the truth may then lie more than a right angle apart, which is where Goodhart
  early stopping (Karwowski et al. 2023, arXiv 2310.09144) ends a run.
* *Views part.* Agreement with oneself that another wording of the question does not share, and independent
  views that fall below their best (the fall of a gold score under optimisation: Gao et al. 2022, arXiv 2210.10760).
* *Strides.* Steps that move the policy far per token break it, whatever the reward.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Record = Mapping[str, Any]
Remedy = Literal["kl", "temperature", "group_size"]

# Mean difference of log-probabilities, nats per token; half precision gives hundredths. Plumbing, not collapse, so
# it is no threshold that the zoo chose.
SAMPLER_GAP = 0.1


@dataclass(frozen=True)
class Alarm:
    """One alarm: the statistic, its value, and what that usually means."""

    step: int
    name: str
    statistic: str
    value: float
    meaning: str
    severe: bool = False
    remedy: Remedy = "kl"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Thresholds:
    """When a rule fires. Chosen on the part of the collapse zoo that is there for choices.

    Attributes:
        smoothing: weight of the newest step in the running mean of a step's statistics.
        baseline: steps that define "the start".
        patience: probes in a row for which a rule on probes must hold.
        cross_gap: agreement with oneself beyond agreement with the twin.
        cross_rise: rise of that gap since the start, below which it is the base's and not the training's.
        shared: correlation from which the twin confirms the reward, so that a gap is no alarm.
        view_fall: fall of an independent view below its best, as a share of what it had gained, or, where it
            had gained nothing, in its own units (see ``view_noise``).
        view_noise: changes of a view that are nothing: a share for ``judge``, nats for ``back``.
        support: share of the start's support that is left.
        one_answer: share of the start's answer entropy that is left.
        silence: rise of the share of missing answers.
        reward_rise: in units of the reward's spread at the start.
        agreement_fall: relative.
        memory: how much of the older probes' weight a new one takes away, in the recent correlation of the
            reward with another view.
        against: standard errors below 0 at which the recent correlation contradicts the reward.
        confirmed: correlation over all probes that a reward must be able to have; the upper end of the
            estimate, ``sure`` standard errors above it, is compared.
        faded, drift: recent correlation below which, and KL to the start (nats per token) above which a
            reward that was confirmed once is an alarm.
        stride: KL that a step may add, nats per token.
    """

    smoothing: float = 0.3
    baseline: int = 3
    patience: int = 2
    cross_gap: float = 0.12
    cross_rise: float = 0.03
    shared: float = 0.4
    view_fall: float = 0.25
    view_noise: Mapping[str, float] = field(default_factory=lambda: {"judge": 0.04, "back": 0.1})
    support: float = 0.5
    one_answer: float = 0.5
    silence: float = 0.2
    reward_rise: float = 0.2
    agreement_fall: float = 0.05
    memory: float = 0.5
    against: float = 2.5
    confirmed: float = 0.2
    sure: float = 2.0
    faded: float = 0.05
    drift: float = 0.02
    stride: float = 0.02


class Detector:
    """Takes records in the order of their steps and returns alarms that were not raised before."""

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self.t = thresholds or Thresholds()
        self.seen = 0
        self.smooth: dict[str, float] = {}
        self.start: dict[str, float] = {}
        self.first: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.streak: dict[str, int] = {}
        self.confirmed: dict[str, list[float]] = {}
        self.moved: list[float] = []
        self.raised: list[dict[str, Any]] = []

    def observe(self, record: Record) -> list[Alarm]:
        """One record: ``step``, the statistics of a step, and, where one was taken, those of a probe."""
        step = int(record["step"])
        found: list[Alarm] = []
        probe = {k.removeprefix("probe/"): float(v) for k, v in record.items() if k.startswith("probe/")}
        if "reward/mean" in record:
            stats = {k: float(v) for k, v in record.items() if k in STEP}
            if "proposals/written" in stats:  # what was counted never is absent
                stats.setdefault("proposals/accepted", 0.0)
            found += self._step(step, stats)
        if probe:
            found += self._paid(step, probe)
        if "kl" in probe:
            found += self._stride(step, probe["kl"])
        if "missing" in probe:
            found += self._probe(step, probe)
        known = {r["name"] for r in self.raised}
        fresh = [a for a in found if a.name not in known]
        self.raised += [a.as_dict() for a in fresh]
        return fresh

    # ---------------------------------------------------------------- every step

    def _step(self, step: int, stats: Mapping[str, float]) -> list[Alarm]:
        for name, value in stats.items():
            old = self.smooth.get(name, value)
            self.smooth[name] = old + self.t.smoothing * (value - old)
        self.seen += 1
        if self.seen <= self.t.baseline:
            self.start = dict(self.smooth)
            return []
        now, start = self.smooth, self.start

        def alarm(name: str, statistic: str, meaning: str, severe: bool = False, remedy: Remedy = "kl") -> Alarm:
            return Alarm(step, name, statistic, round(now[statistic], 4), meaning, severe, remedy)

        found = []
        if self._earning() and now.get("agreement", 1) < (1 - self.t.agreement_fall) * start.get("agreement", 0):
            meaning = "the reward rises while samples agree less: the reward is probably being exploited"
            found.append(alarm("reward-against-agreement", "agreement", meaning, severe=True))
        if now.get("format", 1.0) < 0.5 * start.get("format", 0.0):
            meaning = "fewer than half as many completions are well formed as at the start"
            found.append(alarm("format-loss", "format", meaning))
        if start.get("answer_entropy", 0.0) > 0.2 and now["answer_entropy"] < 0.3 * start["answer_entropy"]:
            meaning = "different prompts are answered alike: the policy may have stopped reading the question"
            found.append(alarm("one-answer-for-all", "answer_entropy", meaning, severe=True))
        if start.get("length", 0.0) > 0 and not 0.5 < now["length"] / start["length"] < 2.0:
            meaning = "completions are half or twice as long as at the start: length may be the reward"
            found.append(alarm("length-shift", "length", meaning))
        if now.get("repetition", 0.0) > 0.3 and now["repetition"] > start["repetition"] + 0.2:
            found.append(alarm("repetition", "repetition", "completions repeat themselves", severe=True))
        if now.get("zero_signal", 0.0) > 0.9 > start.get("zero_signal", 1.0):
            meaning = "nine groups of ten have no signal left: there is little more to learn here"
            found.append(alarm("no-signal", "zero_signal", meaning, remedy="temperature"))
        if _usable(now) < 0.5 * _usable(start):
            meaning = (
                "less than half as many of the model's own problems can be used as at the start: it gives up asking"
            )
            found.append(alarm("proposer-gives-up", "proposals/accepted", meaning, remedy="temperature"))
        if now.get("judge/saturated", 0.0) > 0.9 > start.get("judge/saturated", 1.0):
            meaning = "the judge gives nearly everything its top score: it no longer tells better from worse"
            found.append(alarm("judge-saturated", "judge/saturated", meaning, remedy="group_size"))
        if now.get("sampler_gap", 0.0) > SAMPLER_GAP:
            meaning = (
                "sampler and trainer give the same tokens different probabilities before any update: another program, "
                "stale weights or another precision samples, or old rows are learned from again"
            )
            found.append(alarm("sampler-disagrees", "sampler_gap", meaning))
        return found

    def _earning(self) -> bool:
        """Whether the reward has risen by more than its own spread explains."""
        rise = self.smooth.get("reward/mean", 0.0) - self.start.get("reward/mean", 0.0)
        return rise > self.t.reward_rise * max(self.start.get("reward/std", 0.0), 1e-6)

    # ---------------------------------------------------------------- every probe

    def _paid(self, step: int, now: Mapping[str, float]) -> list[Alarm]:
        """Whether other views confirm the differences in reward; the most independent view that there is decides."""
        for name in CONFIRMING:
            if (value := now.get(f"reward_{name}")) is not None:
                n = now.get("compared", COMPARED)
                recent, weight, total, count = self.confirmed.get(name, (0.0, 0.0, 0.0, 0.0))
                keep = 1 - self.t.memory
                self.confirmed[name] = [keep * recent + n * value, keep * weight + n, total + n * value, count + n]
        view = next((v for v in CONFIRMING if v in self.confirmed), None)
        if view is None or f"reward_{view}" not in now:
            return []
        recent, weight, total, count = self.confirmed[view]
        mean, overall, t = recent / weight, total / count, self.t

        def alarm(name: str, value: float, meaning: str) -> list[Alarm]:
            if abs(self.smooth.get("reward/length", 0.0)) > 0.8:
                meaning += " (length alone would earn it)"
            return [Alarm(step, name, f"probe/reward_{view}", round(value, 4), meaning, severe=True)]

        if mean < -t.against / math.sqrt(weight):
            words = f"what {CONFIRMING[view]} thinks less of earns more: the model is paid for getting worse"
            return alarm("reward-contradicted", mean, words)
        if overall + t.sure / math.sqrt(count) < t.confirmed:
            words = f"{CONFIRMING[view]} does not confirm what is paid for: it has probably little to do with the truth"
            return alarm("reward-unconfirmed", overall, words)
        if mean < t.faded and now.get("kl", 0.0) > t.drift:
            words = f"{CONFIRMING[view]} no longer confirms what is paid for, and the policy moves on"
            return alarm("drift-unconfirmed", mean, words)
        return []

    def _recent(self, view: str) -> float:
        recent, weight = self.confirmed.get(view, [0.0, 1.0])[:2]
        return recent / weight

    def _stride(self, step: int, kl: float) -> list[Alarm]:
        before, self.moved = self.moved, [float(step), kl]
        if not before or step <= before[0]:
            return []
        pace = (kl - before[1]) / (step - before[0])
        if pace <= self.t.stride:
            return []
        words = "the policy moves far from the start with every step: the learning rate is too high for this reward"
        return [Alarm(step, "stride", "probe/kl", round(kl, 4), words, severe=True)]

    def _probe(self, step: int, now: Mapping[str, float]) -> list[Alarm]:
        if not self.first:
            self.first = dict(now)
        for name in VIEWS:
            if name in now:
                self.best[name] = max(now[name], self.best.get(name, now[name]))
        first, t = self.first, self.t
        rules: dict[str, tuple[bool, str, str]] = {}
        if "cross_gap" in now:
            rules["views-part"] = (
                now["cross_gap"] > max(t.cross_gap, first["cross_gap"] + t.cross_rise)
                and self._recent("twin") < t.shared,
                "cross_gap",
                "samples agree with each other but not with those for another wording of the same question: "
                "the consensus is about the wording, not about the answer",
            )
        for name, words in VIEWS.items():
            if name in now:
                noise = t.view_noise[name]
                allowed = max(noise, t.view_fall * max(0.0, self.best[name] - first[name]))
                rules[f"{name}-falls"] = (now[name] < self.best[name] - allowed, name, words)
        if first.get("start_support", 0.0) > 0.1:
            rules["start-forgotten"] = (
                now["start_support"] < t.support * first["start_support"],
                "start_support",
                "today's most frequent answers were rare at the start: training moved to answers that the model did "
                "not believe in",
            )
        if first.get("answer_entropy", 0.0) > 0.2:
            rules["one-answer"] = (
                now["answer_entropy"] < t.one_answer * first["answer_entropy"],
                "answer_entropy",
                "different prompts are answered alike: the policy may have stopped reading the question",
            )
        rules["silence"] = (
            now.get("missing", 0.0) > first.get("missing", 0.0) + t.silence,
            "missing",
            "answers can no longer be found in the completions",
        )
        found = []
        for name, (holds, statistic, meaning) in rules.items():
            self.streak[name] = self.streak.get(name, 0) + 1 if holds else 0
            if self.streak[name] >= (1 if name == "views-part" else t.patience):
                found.append(Alarm(step, name, f"probe/{statistic}", round(now[statistic], 4), meaning, severe=True))
        return found

    # ---------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        names = ("seen", "smooth", "start", "first", "best", "streak", "confirmed", "moved", "raised")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def _usable(stats: Mapping[str, float]) -> float:
    """Share of written problems that passed the filters; 1 where none are written."""
    written = stats.get("proposals/written", 0.0)
    return stats["proposals/accepted"] / written if written > 0 else 1.0


COMPARED = 100.0  # degrees of freedom of a correlation whose record does not say
CONFIRMING = {
    "twin": "another wording of the question",
    "back": "the way back to the source",
    "judge": "the start model as judge",
}
VIEWS = {
    "judge": "the judge that stood at the start thinks less of the samples than it once did: what is learned now is "
    "not what it meant",
    "back": "the source can be recovered less well from the outputs than it once could: meaning is being lost",
}
STEP = frozenset(
    (
        "reward/mean",
        "reward/std",
        "agreement",
        "format",
        "answer_entropy",
        "length",
        "repetition",
        "zero_signal",
        "judge/saturated",
        "sampler_gap",
        "reward/length",
        "proposals/written",
        "proposals/accepted",
    )
)


def evidence_of_health(probe: Record) -> float:
    """One label-free number per probe: the higher, the better the model probably is. For choosing where to roll back.

    Agreement with the twin's answers where there is a twin; else what independent views say, else how much
    of the start's belief is left and answered.
    """
    if "probe/cross_agreement" in probe:
        return float(probe["probe/cross_agreement"])
    views = [float(probe[f"probe/{v}"]) for v in VIEWS if f"probe/{v}" in probe]
    if views:
        return sum(views) / len(views)
    return float(probe.get("probe/start_support", probe["probe/start_agreement"])) * (1 - float(probe["probe/missing"]))


def replay(records: Iterable[Record], thresholds: Thresholds | None = None) -> list[Alarm]:
    """The alarms that a run with these records raises."""
    detector = Detector(thresholds)
    return [alarm for record in records for alarm in detector.observe(record)]
