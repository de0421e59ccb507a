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

import numpy as np

from selfreward.lab.proofs.common.rounds import in_round
from selfreward.lab.proofs.preference.self_rewarding_lm import SCORE
from selfreward.lab.proofs.proof import Proof, fingerprint
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import leads, measured, not_below
from selfreward.statistics import Estimate
from selfreward.training.comparison import Arm

Q, TAU = SCORE.name, "agreement/tau"
WARM_UP, ROUNDS, EACH = 6, 3, 10
STEPS = WARM_UP + ROUNDS * EACH
FIXED = ("fixed-0.85", "fixed-0.7")


def decay(results: Results) -> Values:
    """How far plain self-rewarding ends below its best evaluation, or how far its tau falls from its first round to
    its last, whichever is more."""
    drop = [max(looks) - looks[-1] for looks in results.steps("plain", f"eval/{Q}")]
    return np.maximum(drop, in_round(results, "plain", TAU, 1) - in_round(results, "plain", TAU, ROUNDS))


def above_best_fixed(results: Results) -> Estimate:
    best = max(FIXED, key=lambda arm: results.mean(arm, Q).value)
    return results.lead("cream", best, Q)


def tau_lead(results: Results) -> Values:
    return in_round(results, "cream", TAU, ROUNDS) - in_round(results, "plain", TAU, ROUNDS)


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
    curves=(f"eval/{Q}", "eval/greedy_score", TAU, "confidence", "pairs/gap"),
    rules=(
        measured(
            "plain degrades",
            "the fall of plain's score from its best evaluation to the end, or of its tau from the first round to the "
            "last, per seed whichever is larger,",
            decay,
            above=0.02,
            note="tau: how far two generations agree about answers; plain: confidence 1",
        ),
        not_below("no worse than plain", "cream", "plain", SCORE),
        measured(
            "as good as the best fixed confidence",
            f"the lead of cream over the better of two fixed confidences in {SCORE.words}",
            above_best_fixed,
            at_least=0,
            end="high",
        ),
        measured(
            "generations agree",
            "the lead of cream over plain in the tau of the last round",
            tau_lead,
            above=0,
            end="low",
        ),
        leads(
            "above shuffled rewards", "cream", "shuffled", SCORE, note="shuffled: rewards dealt at random within groups"
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
