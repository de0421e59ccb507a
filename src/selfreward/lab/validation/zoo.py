"""The collapse zoo: runs that go wrong in different ways, and healthy runs that look alarming.

Every species is a recipe with settings; every animal a species at a seed and a learning rate. Seeds
decide the part: even seeds are there for choices (thresholds), odd ones are never looked at before the
verdict (:mod:`selfreward.lab.validation.run_verdicts`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.errors import ConfigError
from selfreward.lab.validation.records import Part
from selfreward.training.comparison import Arm, Progress, compare


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


TRANS = {"model": "embedded:trans", "steps": 64}
WEAK = {"model": "embedded:trans-weak-judge", "steps": 96}
TRAP, LOW, VIEW = ({"model": f"embedded:view{kind}"} for kind in ("-trap", "-low", ""))
WRITER = {"model": "embedded:chain-writer", "limit": 200}
BOLD: dict[str, Any] = {"adam_eps": 1e-8}  # every rare gradient becomes a full step
FREE: dict[str, Any] = {"kl": 0.0}
SPECIES: tuple[Species, ...] = (
    # a consensus on what is wrong
    Species("wrong-consensus", "vote", settings=TRAP, expects="votes settle on a shortcut", rates=(3e-4, 6e-4)),
    Species("soft-consensus", "signal", {"signal": "cluster_share"}, TRAP, "every sharer is paid: the same shortcut"),
    Species(
        "seldom-right",
        "vote",
        settings=LOW,
        expects="the vote is rarely right",
    ),
    Species("mixed-vote", "flawed", expects="one answer to everything", rates=(6e-4, 1.5e-3)),
    # certainty
    Species("certain-and-wrong", "certainty", expects="certainty rises, guesses win"),
    Species(
        "low-entropy", "certainty", {"statistic": "entropy", **FREE}, expects="helps, then hurts", rates=(6e-4, 2e-3)
    ),
    Species("sure-shortcut", "certainty", {"statistic": "entropy"}, TRAP, "the shortcut is the surer text"),
    Species("entropy-collapse", "format-only", {"entropy_bonus": -0.5, **FREE}, expects="only entropy is pushed"),
    # judges
    Species("naive-judge", "judge", {"template": "naive-judge"}, expects="believes guesses", rates=(3e-4,)),
    Species("terse-judge", "flawed", {"flaw": "terse-judge"}, expects="pays for brevity beside truth"),
    Species("hacked-judge", "ssr-zero", settings=WEAK, expects="first helps, then is hacked"),
    Species("hacked-frozen-judge", "ssr-zero", {"judge": "frozen"}, WEAK, "freezing is no cure"),
    Species("wrong-source", "ssr-zero", {"corrupt": "swapped"}, TRANS, "the judge sees another sentence"),
    # length and form
    Species("shortest", "signal", {"signal": "relative_length"}, expects="short is a guess"),
    Species(
        "longest", "signal", {"signal": "length"}, expects="long is worked, until it is too long", rates=(6e-4, 2e-3)
    ),
    # the optimiser
    Species("too-fast-vote", "vote", FREE, BOLD, "right, then adrift", (2e-3, 4e-3)),
    Species("too-fast-gold", "gold", FREE, BOLD, "even the truth does not help at this rate", (6e-3,)),
    Species("random-walk", "random", FREE, BOLD, "noise wears the model down", (2e-3,)),
    # proposers
    Species("easy-proposer", "easy-proposer", FREE, WRITER, "ever easier problems, then none", (2e-3,)),
    # healthy, and alarming to look at
    Species("healthy-vote", "vote", expects="entropy halves, agreement doubles, and all is well", rates=(3e-4, 6e-4)),
    Species("healthy-view", "vote", settings=VIEW, expects="a mild shortcut that loses the vote"),
    Species("healthy-gold", "gold", expects="the ceiling looks as alarming as any"),
    Species("healthy-quality", "true-quality", settings=TRANS, expects="the ceiling of the other task"),
    Species("healthy-co-reward", "co-reward", settings=TRAP, expects="the trap with a way out"),
    Species("healthy-judge", "judge", expects="a judge that has read the base's own errors"),
    Species("healthy-flat", "format-only", expects="nothing to learn, nothing lost"),
    Species("healthy-noise", "random", expects="noise that the KL term and a large epsilon keep harmless"),
    Species("healthy-serl", "serl", settings=WRITER, expects="own problems inside the band"),
    Species("healthy-ssr", "ssr-zero", settings=TRANS, expects="scores saturate while truth rises"),
    Species("healthy-cycle", "cycle", settings=TRANS, expects="likelihood of the source"),
    Species("healthy-mbr", "mbr", settings=TRANS, expects="agreement of similar strings"),
)
COMMON: dict[str, Any] = {"steps": 48, "eval_prompts": 100, "sentinel": "warn", "checkpoint_every": 0}
GROUP = 8
LOOKS = 16


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
