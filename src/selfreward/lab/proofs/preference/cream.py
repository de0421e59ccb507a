"""CREAM (066) on CON: implicit rewards from a weak start, with labels trusted as far as two generations agree.

Rules are those of the method card, written down before the run. Every arm has the same few updates on the 64
demonstrations of the seed and then three iterations on the same prompts; arms differ in how far they trust the label
of a pair.

The learning rate was chosen by two looks at the plain arm on development prompts, with a seed that the proof does not
use: at the task's 6e-4 plain self-rewarding goes on rising (.90 after 36 steps) and has nothing to be kept from; at
2e-3 it rises to .87 and then falls to .11.

``dynamic`` trusts each prompt's own C instead of their mean, the paper's second variant; it was added after the rules
had been judged, and none reads it.
"""

from __future__ import annotations

from dataclasses import replace

from selfreward.lab.proofs.common.rounds import in_round, measured
from selfreward.lab.proofs.proof import Proof, fingerprint
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

Q = "score"


WARM_UP, ROUNDS, EACH = 6, 3, 10


STEPS = WARM_UP + ROUNDS * EACH


FIXED = ("fixed-0.85", "fixed-0.7")


def degrades(results: Results) -> Estimate:
    """Of plain self-rewarding: how far it ends below its best evaluation, or how far tau falls from its first to its
    last round, whichever is more."""
    best = [max(values) - values[-1] for values in measured(results, "plain", Q)]
    first, last = (in_round(results, "plain", "agreement/tau", k) for k in (1, ROUNDS))
    return mean_interval([max(fall, a - b) for fall, a, b in zip(best, first, last, strict=True)])


def above_best_fixed(results: Results) -> Estimate:
    best = max(FIXED, key=lambda arm: results.mean(arm, Q).value)
    return results.lead("cream", best, Q)


def tau_lead(results: Results) -> Estimate:
    ours, theirs = (in_round(results, arm, "agreement/tau", ROUNDS) for arm in ("cream", "plain"))
    return mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])


def trace() -> dict[str, list[float]]:
    """The fingerprint's three steps with one of supervised tuning, so that the mechanism is in them."""
    short = {**PROOF.settings, "options": {**PROOF.settings["options"], "warm_up": 1}}
    return fingerprint(replace(PROOF, trace=None, settings=short))


PROOF = Proof(
    slug="cream",
    id="066",
    claim="Self-rewarding on implicit rewards drifts; trusting a label only as far as the previous generation agrees "
    "keeps it from drifting, without a confidence that somebody must choose.",
    task="embedded:con",
    main="cream",
    trace=trace,
    arms=(
        Arm("cream", "cream"),
        Arm("plain", "cream", {"confidence": "fixed", "fixed": 1.0}),
        Arm("fixed-0.85", "cream", {"confidence": "fixed", "fixed": 0.85}),
        Arm("fixed-0.7", "cream", {"confidence": "fixed", "fixed": 0.7}),
        Arm("shuffled", "cream", {"scores": "shuffled"}),
        Arm("dynamic", "cream", {"confidence": "dynamic"}),
    ),
    settings={
        "model": "embedded:con",
        "steps": STEPS,
        "lr": 2e-3,
        "eval_every": EACH,
        "probe_every": 0,
        "checkpoint_every": STEPS,
        "options": {"warm_up": WARM_UP, "iterations": ROUNDS, "group_size": 5},
    },
    curves=(f"eval/{Q}", "eval/greedy_score", "agreement/tau", "confidence", "pairs/gap"),
    rules=(
        Rule(
            "plain degrades",
            "plain self-rewarding (confidence 1) ends more than .02 below its own best score, or its tau falls by more "
            "than .02 from its first to its last round (mean over seeds)",
            degrades,
            lambda e: e.value > 0.02,
        ),
        Rule(
            "no worse than plain",
            "cream ends with at least the score of plain self-rewarding (mean over seeds)",
            lambda r: r.lead("cream", "plain", Q),
            lambda e: e.value >= 0,
        ),
        Rule(
            "as good as the best fixed confidence",
            "cream ends no lower than the better of two fixed confidences, within noise (upper end of the paired "
            "interval at "
            "least 0)",
            above_best_fixed,
            lambda e: e.high >= 0,
        ),
        Rule(
            "generations agree",
            "in the last iteration tau is higher than under plain self-rewarding (lower end of the paired interval "
            "above 0)",
            tau_lead,
            lambda e: e.low > 0,
        ),
        Rule(
            "above shuffled rewards",
            "cream ends above rewards that are shuffled within each group (lower end of the paired interval above 0)",
            lambda r: r.lead("cream", "shuffled", Q),
            lambda e: e.low > 0,
        ),
    ),
    reason="The regulariser does what it is for: plain self-rewarding ends at .01, cream at .79, the better "
    "of two fixed confidences at .48. Two rules fail. Agreement of generations is not what sets cream apart: in the "
    "last round tau is .47 with cream and .45 without, because consecutive generations drift together and so agree "
    "about the drift; cream is saved by its first round, where tau is 0 and hardly any label is trusted (.52), and by "
    "softer labels later. And shuffled rewards end higher (.86): the seed alone brings the start to .87 in ten steps, "
    "so little is left to win (.91 at best), while at this learning rate the implicit reward, unbounded for strings "
    "that the base finds impossible, comes to prefer malformed ones (well formed at the end: plain .01, cream .91, "
    "shuffled .98). The dynamic variant, which trusts each prompt's own agreement and not the mean, ends at .52 (no "
    "rule reads it): that of five answers scatters, and as none counts less than one half, labels of the first round "
    "are trusted to .58.",
)
