"""Self-certainty (056) at test time on STEPS.

STEPS is CHAIN's arithmetic with a base (0.6 right) whose wrong style is as long as its right one and less sure of
itself; that a model is less sure when it is wrong is what the paper assumes, and here it is built in. What
is tested is whether this score finds it, against the other ways to read the same distributions, and whether it
adds to a vote. Samples are drawn at temperature 0.6. Base and temperature were chosen on 100 development
prompts, where it also showed that

* at temperature 1 the best of 64 by self-certainty is right for 22 % (of 4: 76 %): the score looks at
  distributions and not at the token that was drawn, so that a slip at a sure position costs it nothing, and the
  maximum over many samples collects such slips. The Borda vote does not suffer from it (1.00 against 0.76);
* on the shipped CHAIN base it ranks truth backwards (AUROC 0.18, correlation with length -0.64): there the wrong
  styles are short and built of fixed words, and the average over the vocabulary is ruled by its unlikely end.

The power of the Borda vote is chosen per N on development prompts. As a reward, self-certainty fails: that is
an arm of the proof of the vote, and a test of the alarms.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from selfreward.lab.proofs.common.pools import SIZES, Pool, draw, kept
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import POINTS, Metric, leads, measured, weakest
from selfreward.signals.selection import select
from selfreward.statistics import Estimate, auroc, mean_interval
from selfreward.training.comparison import Study

POWERS = (0.25, 0.5, 0.75, 1.0, 1.25, 2.0, 4.0)
SIGNALS = ("self_certainty", "mean_logprob", "negative_entropy", "gini")
PROMPTS, DEVELOPMENT, TEMPERATURE = 150, 75, 0.6
BASE = "embedded:steps"
SC = "self_certainty"


def prompts(n: int, name: str, split: Any = "test") -> list[Any]:
    """Fresh prompts of a split: every seed grades on others."""
    from selfreward.lab.tasks.arithmetic import steps

    return steps.prompts_of(split, n, f"-selection-{name}")


def pool(folder: Path, seed: int, split: Any = "test") -> Pool:
    """The samples that all arms of this seed share."""
    size = PROMPTS if split == "test" else DEVELOPMENT
    file = folder.parent.parent / "pools" / f"steps-{TEMPERATURE:g}-{split}-{seed}.json"
    asked = prompts(size, f"{split}-{seed}", split)
    return kept(file, lambda: draw(BASE, asked, SIGNALS, temperature=TEMPERATURE, seed=seed))


def best(classes: Any, scores: Any) -> int | None:
    return select(classes, scores, "best").index


def majority(classes: Any, scores: Any) -> int | None:
    return select(classes).index


def borda(power: float, classes: Any, scores: Any) -> int | None:
    return select(classes, scores, "borda", power=power).index


def after(curve: dict[int, float], name: str = "accuracy") -> dict[str, float]:
    return {f"{name}@{n}": value for n, value in curve.items()}


def by_score(seed: int, folder: Path, signal: str = SC, with_borda: bool = False) -> dict[str, Any]:
    """Best-of-N by one score, and the Borda vote with it at the power that development prompts prefer."""
    test = pool(folder, seed)
    found = after(test.curve(best, signal))
    if with_borda:
        found |= after(test.curve(majority), "majority")
        powers = chosen_powers(pool(folder, seed, "train"), signal)
        graded = {p: test.curve(partial(borda, p), signal) for p in {*powers.values(), 0.5}}
        for n in SIZES:
            found[f"borda@{n}"], found[f"power@{n}"] = graded[powers[n]][n], powers[n]
            found[f"borda-half@{n}"] = graded[0.5][n]
    values, truth, length = (test.flat(x) for x in (test.scores[signal], test.right, test.length))
    found["auroc"] = auroc(values, truth)
    found["length correlation"] = float(np.corrcoef(values, length)[0, 1]) if len(set(length)) > 1 else 0.0
    found["pass@1"] = float(np.mean(truth))
    return {
        "after": found,
        "tokens": {"generated": test.tokens},
        "mechanism": {"name": "samples ranked by a score", "count": len(values)},
    }


def chosen_powers(development: Pool, signal: str) -> dict[int, float]:
    """Per N, the power whose Borda vote is right most often on development prompts."""
    tried = {p: development.curve(partial(borda, p), signal) for p in POWERS}
    return {n: max(POWERS, key=lambda p: tried[p][n]) for n in SIZES}


def permuted(seed: int, folder: Path) -> dict[str, Any]:
    """The control: every score belongs to another sample of the same prompt; powers as the true scores chose."""
    shuffled = pool(folder, seed).permuted(SC, seed)
    powers = chosen_powers(pool(folder, seed, split="train"), SC)
    found = after(shuffled.curve(best, SC))
    graded = {p: shuffled.curve(partial(borda, p), SC) for p in set(powers.values())}
    return {"after": found | {f"borda@{n}": graded[powers[n]][n] for n in SIZES}}


def without_score(seed: int, folder: Path, kind: str = "majority") -> dict[str, Any]:
    """The vote; a random sample; or any right sample, which is the ceiling."""
    test = pool(folder, seed)
    if kind == "majority":
        curve = test.curve(majority)
    elif kind == "random":
        curve = test.curve(lambda classes, scores: 0)
    else:
        test.scores["gold"] = [[float(r) for r in row] for row in test.right]
        curve = test.curve(best, "gold")
    return {"after": after(curve)}


def trace() -> dict[str, list[float]]:
    """Certainties and choices on eight samples of four prompts."""
    small = draw(BASE, prompts(4, "trace"), (SC,), n=8)
    return {
        "scores": [v for row in small.scores[SC] for v in row if v is not None],
        "best": [float(best(c, s) or 0) for c, s in zip(small.classes, small.scores[SC], strict=True)],
        "borda": [float(borda(1.0, c, s) or 0) for c, s in zip(small.classes, small.scores[SC], strict=True)],
    }


SC_ARM = "self-certainty"
BEST_OF_64 = Metric("accuracy@64", "accuracy of the one chosen out of 64 samples", POINTS)


def growth(results: Results) -> Estimate:
    """The less certain of two rises: from one sample to 16, and from 4 to 64."""
    few, many = ([results.values(SC_ARM, f"accuracy@{n}") for n in sizes] for sizes in ((1, 4), (16, 64)))
    return weakest((mean_interval(b - a) for a, b in zip(few, many, strict=True)), end="low")


def borda_lead(results: Results) -> Estimate:
    """The least certain lead of the Borda vote over the majority at N = 16, 32 and 64."""
    votes = ([results.values(SC_ARM, f"{vote}@{n}") for n in (16, 32, 64)] for vote in ("borda", "majority"))
    return weakest((mean_interval(a - b) for a, b in zip(*votes, strict=True)), end="low")


def permuted_lead(results: Results) -> Values:
    """The Borda vote with permuted scores minus the majority, at N = 64, per seed."""
    return results.values("permuted", "borda@64") - results.values("majority", "accuracy@64")


PROOF = Proof(
    slug="self-certainty",
    id="056",
    claim="The best of N samples by self-certainty gets better with N, beats the likeliest sample, and a Borda vote "
    "weighted by it is no worse than a majority.",
    task=BASE,
    main=SC_ARM,
    arms=(
        Study(SC_ARM, partial(by_score, with_borda=True)),
        Study("mean-logprob", partial(by_score, signal="mean_logprob")),
        Study("negative-entropy", partial(by_score, signal="negative_entropy")),
        Study("gini", partial(by_score, signal="gini")),
        Study("majority", without_score),
        Study("random", partial(without_score, kind="random"), control=True),
        Study("gold-best", partial(without_score, kind="gold"), labels="outcome", control=True),
        Study("permuted", permuted, control=True),
    ),
    settings={"model": BASE},
    trace=trace,
    reason="All comparisons hold: best-of-N by self-certainty goes from 0.65 to 0.96 at 16 samples, and the Borda "
    "vote is 25 points above the majority. But from 16 to 64 samples best-of-N falls by 3 to 5 points, so that the "
    "rise from 4 to 64 is no longer certain. The score looks at the distributions and not at the token that was "
    "drawn: a slip at a sure position costs it nothing, some slips are followed by surer steps than the truth, and "
    "the maximum over more samples finds them. At temperature 1, where slips are common, the fall is steep; negative "
    "entropy and Gini fall alike, and the Borda vote, which counts, does not.",
    rules=(
        measured(
            "grows with N",
            "the less certain of two rises in the accuracy of best-of-N by self-certainty, from 1 sample to 16 and "
            "from 4 to 64,",
            growth,
            above=0,
            end="low",
        ),
        leads("above a random sample", SC_ARM, "random", BEST_OF_64, note="random: any one of them"),
        leads("above mean log-probability", SC_ARM, "mean-logprob", BEST_OF_64),
        measured(
            "Borda is no worse than the majority",
            "the least certain of the Borda vote's leads over the majority at 16, 32 and 64 samples",
            borda_lead,
            at_least=0,
            end="low",
        ),
        measured(
            "permuted scores do not help",
            "the lead over the majority, at 64 samples, of the Borda vote with scores permuted inside each prompt",
            permuted_lead,
            at_most=0,
            end="low",
            note="so the vote is not surely better",
        ),
    ),
)
