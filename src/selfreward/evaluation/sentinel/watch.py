"""The sentinel of one run: takes probes when they are due, listens to the detector, and acts as it was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from selfreward.evaluation.sentinel.detector import Alarm, Detector, Thresholds, evidence_of_health
from selfreward.evaluation.sentinel.probe import Probe

if TYPE_CHECKING:
    from selfreward.data.task import Task
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.types import Group

EARLY = (1, 2)
KL_AT_LEAST, HOTTEST, LARGEST_GROUP = 0.05, 1.5, 64
RECIPE_REMEDIES = ("kl", "group_size")  # remedies that are options of the recipe, where it has them


class Watched(Protocol):
    """What a configuration says of the sentinel."""

    steps: int | None
    seed: int
    sentinel: Any
    probe_every: int | None
    probe_prompts: int
    probe_samples: int


@dataclass
class Sentinel:
    """Watches a run.

    Args:
        action: on a severe alarm: ``warn`` says so; ``stop`` ends the run; ``rollback`` ends it with the
            weights of the probe that looked healthiest before; ``adapt`` goes on with more KL, a higher
            temperature or larger groups, whichever fits the alarm. ``off`` neither probes nor listens.
        probe: takes the probes; None takes none.
        every: steps between two probes.
    """

    action: str = "warn"
    probe: Probe | None = None
    every: int = 0
    detector: Detector = field(default_factory=Detector)
    best: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def of(config: Watched, task: Task, reference: Any, sampling: SamplingParams) -> Sentinel:
        """The sentinel that a configuration asks for."""
        every = max(1, (config.steps or 1) // 10) if config.probe_every is None else config.probe_every
        prompts = task.train[: config.probe_prompts]
        probe = None
        if config.sentinel != "off" and every and len(prompts) > 1:
            probe = Probe(task, prompts, reference, sampling, config.probe_samples, config.seed)
        return Sentinel(config.sentinel, probe, every, Detector(Thresholds()))

    def look(self, policy: Any, step: int, trained: Sequence[Group] = ()) -> dict[str, float]:
        """Statistics of a probe, where one is due; ``trained`` are the groups of this step with their rewards.

        The first steps are looked at whatever ``every`` says: a bad reward costs most of the truth in few steps.
        """
        if self.probe is None or (step % self.every and step not in EARLY):
            return {}
        found = self.probe(policy, trained)
        score = evidence_of_health(found)
        found["probe/health"] = score
        # A model that something severe was said about is never the one to go back to.
        suspected = any(r["severe"] for r in self.detector.raised)
        if not suspected and score > self.best.get("score", float("-inf")):
            self.best = {"step": step, "score": score}
            if self.action == "rollback":
                self.best["weights"] = {k: v.clone() for k, v in policy.state_dict().items()}
        return found

    def observe(self, record: Mapping[str, Any]) -> list[Alarm]:
        """New alarms of a record; decides what they lead to."""
        if self.action == "off":
            return []
        fresh = self.detector.observe(record)
        severe = [a for a in fresh if a.severe]
        if severe and not self.ended and self.action in ("stop", "rollback"):
            self.ended = {"action": self.action, "step": severe[0].step, "alarm": severe[0].name}
            if self.action == "rollback":
                self.ended["to_step"] = self.best.get("step", 0)
        return fresh

    def adapt(self, alarms: list[Alarm], now: Mapping[str, float]) -> dict[str, float]:
        """What to change after these alarms, by name; nothing unless the action is ``adapt``.

        Args:
            now: the present ``temperature``, and ``kl`` and ``group_size`` as far as the recipe has them.
        """
        if self.action != "adapt":
            return {}
        found: dict[str, float] = {}
        for remedy in dict.fromkeys(a.remedy for a in alarms if a.severe or a.remedy != "kl"):
            if remedy not in now:
                continue
            if remedy == "kl":
                found["kl"] = max(2 * now["kl"], KL_AT_LEAST)
            elif remedy == "temperature":
                found["temperature"] = min(1.2 * now["temperature"], max(HOTTEST, now["temperature"]))
            else:
                found["group_size"] = min(2 * now["group_size"], max(LARGEST_GROUP, now["group_size"]))
        self.changes |= found
        return found

    @property
    def raised(self) -> list[dict[str, Any]]:
        return self.detector.raised

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "detector": self.detector.state_dict(),
            "best": self.best,
            "ended": self.ended,
            "changes": self.changes,
        }
        if self.probe is not None:
            state["start"] = [list(a) for a in self.probe.start]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.detector.load_state_dict(state["detector"])
        self.best, self.ended, self.changes = dict(state["best"]), dict(state["ended"]), dict(state["changes"])
        if self.probe is not None:
            self.probe.start = [tuple(a) for a in state.get("start", [])]
