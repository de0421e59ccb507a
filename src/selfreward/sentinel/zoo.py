"""The collapse zoo: runs that go wrong in different ways, and healthy runs that look alarming.

Every species is a recipe with settings; every animal a species at a seed and a learning rate. Seeds
decide the part: even seeds are there for choices (thresholds), odd ones are never looked at before the
verdict. Whether a run collapsed is read from its held-out truth alone, never from its name, and the
detector reads the records alone, never the truth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from selfreward.compare import Arm, Progress, compare
from selfreward.errors import ConfigError
from selfreward.proofs.base import machine
from selfreward.sentinel.detector import Thresholds, evidence_of_health, replay
from selfreward.statistics import wilson

Part = Literal["choice", "unseen"]
FALL, HEALTHY_FALL, POINTS = 0.05, 0.03, 0.03


@dataclass(frozen=True)
class Species:
    """One way to go wrong, or to look as if.

    Attributes:
        expects: what is believed to happen, for the reader; no verdict uses it.
        rates: learning rates, each an animal of its own.
    """

    name: str
    recipe: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    expects: str = ""
    rates: tuple[float, ...] = (6e-4,)


TRANS = {"model": "embedded:trans", "steps": 80}
WEAK = {"model": "embedded:trans-weak-judge", "steps": 140}
TRAP, LOW, VIEW = ({"model": f"embedded:view{kind}"} for kind in ("-trap", "-low", ""))
SURE, WRITER = {"model": "embedded:chain-sure"}, {"model": "embedded:chain-writer", "limit": 200}
BARE = {"model": "embedded:chain-reserved"}
BOLD: dict[str, Any] = {"adam_eps": 1e-8}  # every rare gradient becomes a full step
FREE: dict[str, Any] = {"kl": 0.0}
SPECIES: tuple[Species, ...] = (
    # a consensus on what is wrong
    Species("wrong-consensus", "vote", settings=TRAP, expects="votes settle on a shortcut", rates=(3e-4, 6e-4)),
    Species("soft-consensus", "signal", {"signal": "cluster_share"}, TRAP, "every sharer is paid: the same shortcut"),
    Species("seldom-right", "vote", settings=LOW, expects="the vote is rarely right", rates=(6e-4, 2e-3)),
    Species("mixed-vote", "flawed", expects="one answer to everything", rates=(6e-4, 1.5e-3)),
    # certainty
    Species("certain-and-wrong", "certainty", expects="certainty rises, guesses win", rates=(3e-4, 6e-4)),
    Species(
        "low-entropy", "certainty", {"statistic": "entropy", **FREE}, expects="helps, then hurts", rates=(6e-4, 2e-3)
    ),
    Species("sure-shortcut", "certainty", {"statistic": "entropy"}, TRAP, "the shortcut is the surer text"),
    Species("likely-text", "signal", {"signal": "mean_logprob"}, SURE, "right solutions are improbable as texts"),
    Species("entropy-collapse", "format-only", {"entropy_bonus": -0.5, **FREE}, expects="only entropy is pushed"),
    # judges
    Species("naive-judge", "judge", {"template": "naive-judge"}, expects="believes guesses", rates=(3e-4, 6e-4)),
    Species("terse-judge", "flawed", {"flaw": "terse-judge"}, expects="pays for brevity beside truth"),
    Species("own-and-naive", "self-judging", {"problems": "own", "template": "naive-judge"}, WRITER, "on own problems"),
    Species("hacked-judge", "ssr-zero", settings=WEAK, expects="first helps, then is hacked"),
    Species("hacked-frozen-judge", "ssr-zero", {"judge": "frozen"}, WEAK, "freezing is no cure"),
    Species("wrong-source", "ssr-zero", {"corrupt": "swapped"}, TRANS, "the judge sees another sentence"),
    Species("permuted-scores", "ssr-zero", {"corrupt": "permuted"}, TRANS, "scores without meaning"),
    # length and form
    Species("shortest", "signal", {"signal": "relative_length"}, expects="short is a guess"),
    Species(
        "longest", "signal", {"signal": "length"}, expects="long is worked, until it is too long", rates=(6e-4, 2e-3)
    ),
    # the optimiser
    Species("too-fast-vote", "vote", FREE, BOLD, "right, then adrift", (2e-3, 4e-3)),
    Species("too-fast-view", "vote", FREE, {**VIEW, **BOLD}, "the same elsewhere", (4e-3,)),
    Species("too-fast-gold", "gold", FREE, BOLD, "even the truth does not help at this rate", (6e-3,)),
    Species("random-walk", "random", FREE, BOLD, "noise wears the model down", (6e-4, 2e-3)),
    Species("random-words", "random", FREE, {**TRANS, **BOLD}, "noise elsewhere", (2e-3,)),
    # proposers
    Species("easy-proposer", "easy-proposer", FREE, WRITER, "ever easier problems, then none", (6e-4, 2e-3)),
    # healthy, and alarming to look at
    Species("healthy-vote", "vote", expects="entropy halves, agreement doubles, and all is well", rates=(3e-4, 6e-4)),
    Species("healthy-sharp", "vote", {"entropy_bonus": -0.3}, expects="entropy is punished, and truth rises"),
    Species("healthy-bare", "vote", settings=BARE, expects="a task without a judge"),
    Species("healthy-view", "vote", settings=VIEW, expects="a mild shortcut that loses the vote"),
    Species("healthy-sure", "vote", settings=SURE, expects="votes on the base that is too sure"),
    Species("healthy-gold", "gold", expects="the ceiling looks as alarming as any"),
    Species("healthy-quality", "true-quality", settings=TRANS, expects="the ceiling of the other task"),
    Species("healthy-co-reward", "co-reward", settings=TRAP, expects="the trap with a way out"),
    Species("healthy-judge", "judge", expects="a judge that has read the base's own errors"),
    Species("healthy-flat", "format-only", expects="nothing to learn, nothing lost"),
    Species("healthy-noise", "random", expects="noise that the KL term and a large epsilon keep harmless"),
    Species("healthy-serl", "serl", settings=WRITER, expects="own problems inside the band"),
    Species("healthy-own", "self-judging", {"problems": "own"}, WRITER, "own problems, a careful judge"),
    Species("healthy-ssr", "ssr-zero", settings=TRANS, expects="scores saturate while truth rises"),
    Species("healthy-cycle", "cycle", settings=TRANS, expects="likelihood of the source"),
    Species("healthy-mbr", "mbr", settings=TRANS, expects="agreement of similar strings"),
    Species("shared-string", "vote", settings=TRANS, expects="one frequent string beats many near-right ones"),
    Species("certain-words", "certainty", settings=TRANS, expects="certain is not right"),
)
COMMON: dict[str, Any] = {"steps": 60, "eval_prompts": 100, "sentinel": "warn", "checkpoint_every": 0}
GROUP = 8
LOOKS = 20


def arms(species: Sequence[Species] = SPECIES) -> list[Arm]:
    """One arm per species and learning rate. Truth is measured at every probe."""
    found = []
    for s in species:
        steps = int(s.settings.get("steps", COMMON["steps"]))
        every = {"eval_every": steps // LOOKS, "probe_every": steps // LOOKS}
        for rate in s.rates:
            label = s.name if len(s.rates) == 1 else f"{s.name}-{rate:g}"
            found.append(
                Arm(
                    label,
                    s.recipe,
                    {"group_size": GROUP, **s.options},
                    {"model": "embedded:chain", **s.settings, **every, "lr": rate},
                )
            )
    return found


def run(part: Part, n: int, out: str | Path, jobs: int = 1, progress: Progress | None = None, only: str = "") -> Path:
    """Run ``n`` seeds of a part, each in ``OUT/ARM/seed-N``; finished runs are kept.

    Args:
        only: a regular expression for the names of the species to run; empty runs all.

    Raises:
        ConfigError: if no species has such a name.
    """
    chosen = [s for s in SPECIES if re.search(only, s.name)]
    if not chosen:
        raise ConfigError(f"No species is called like {only!r}. There are: {', '.join(s.name for s in SPECIES)}.")
    seeds = range(0 if part == "choice" else 1, 2 * n, 2)
    compare(arms(chosen), COMMON, seeds=list(seeds), out=out, jobs=jobs, progress=progress)
    return Path(out)


# ---- the verdict ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What a run's records say, and what its truth says.

    Attributes:
        kind: ``collapsing`` ended :data:`FALL` below its best; ``healthy`` was never :data:`HEALTHY_FALL` below
            its best so far; the rest is ``unclear`` and counts for nothing.
        fell: first step at which truth was :data:`POINTS` below its best so far; None if never.
        called: step of the first severe alarm; None if none.
        kept: truth at the step that a roll-back at the alarm would have gone to.
    """

    name: str
    kind: str
    best: float
    last: float
    fell: int | None
    called: int | None
    alarm: str
    kept: float | None


def judge(name: str, records: Sequence[Mapping[str, Any]], thresholds: Thresholds | None = None) -> Verdict:
    """The verdict on one run's records (``metrics.jsonl``), with ``truth`` in [0, 1]."""
    truths = [(int(r["step"]), float(r["truth"])) for r in records if "truth" in r]
    high, fell, worst = truths[0][1], None, 0.0
    for step, truth in truths:
        high = max(high, truth)
        worst = max(worst, high - truth)
        if fell is None and high - truth >= POINTS:
            fell = step
    best, last = max(t for _, t in truths), truths[-1][1]
    kind = "collapsing" if best - last >= FALL else "healthy" if worst < HEALTHY_FALL else "unclear"
    severe = [a for a in replay(records, thresholds) if a.severe]
    called = severe[0].step if severe else None
    kept = None
    if called is not None:
        looks = [r for r in records if "probe/missing" in r and int(r["step"]) < called]
        target = int(max(looks, key=evidence_of_health)["step"]) if looks else 0
        kept = dict(truths).get(target)
    return Verdict(name, kind, best, last, fell, called, severe[0].name if severe else "", kept)


def summarise(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """The numbers of ``evidence/sentinel.json`` for one part."""
    found = list(verdicts)
    bad = [v for v in found if v.kind == "collapsing"]
    good = [v for v in found if v.kind == "healthy"]
    early = [v for v in bad if v.called is not None and v.fell is not None and v.called < v.fell]
    alarms = [v for v in good if v.called is not None]
    gaps = [100 * (v.best - v.kept) for v in bad if v.kept is not None]
    return {
        "collapsing_runs": len(bad),
        "called_before_3_points": len(early),
        "called_interval": _interval(len(early), len(bad)),
        "called_at_all": sum(v.called is not None for v in bad),
        "healthy_runs": len(good),
        "false_alarms": len(alarms),
        "false_alarm_interval": _interval(len(alarms), len(good)),
        "unclear_runs": sum(v.kind == "unclear" for v in found),
        "median_lead_steps": median([v.fell - v.called for v in early if v.fell and v.called is not None])
        if early
        else None,
        "rollback_gap_points": fmean(gaps) if gaps else None,
        "missed": sorted(v.name for v in bad if v not in early),
        "wrongly_called": sorted(f"{v.name}: {v.alarm}" for v in alarms),
    }


def _interval(count: int, n: int) -> list[float] | None:
    estimate = wilson(count, n)
    return [round(estimate.low, 4), round(estimate.high, 4)] if n else None


def read(folder: str | Path, thresholds: Thresholds | None = None) -> dict[Part, list[Verdict]]:
    """Verdicts of all finished runs under ``folder``, by part."""
    result: dict[Part, list[Verdict]] = {"choice": [], "unseen": []}
    for path in sorted(Path(folder).glob("*/seed-*/metrics.jsonl")):
        if not (path.parent / "summary.json").is_file():
            continue
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        seed = int(path.parent.name.removeprefix("seed-"))
        part: Part = "unseen" if seed % 2 else "choice"
        result[part].append(judge(f"{path.parent.parent.name}/{seed}", records, thresholds))
    return result


def write_evidence(folder: str | Path, path: str | Path) -> dict[str, Any]:
    """``evidence/sentinel.json``: the summary of both parts, every verdict, and the command."""
    found = read(folder)
    result = {
        "unseen": summarise(found["unseen"]),
        "choice": summarise(found["choice"]),
        "species": {s.name: s.expects for s in SPECIES},
        "verdicts": {part: [asdict(v) for v in verdicts] for part, verdicts in found.items()},
        "command": "selfreward zoo --part choice && selfreward zoo --part unseen",
        "machine": machine(),
    }
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(target)
    return result
