"""Rubric self-reward (176) on RUB: outlines with checkable properties, and a base that writes and grades.

The rules are those of the method card, written down before the run. Every arm starts from the same base, sees the same
prompts and writes the same number of samples; the grades come on top and are counted. A look at development prompts
with one seed (self .32 to .75, true rubric to .84 in 40 steps of 16 prompts and 8 samples) left the task's settings as
they were, but for fewer samples. No rule reads the
frozen grader; it was added after the others had run.
"""

from __future__ import annotations

from typing import Any

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

S, F1 = "score", "grader_f1"


def gate() -> dict[str, Any]:
    """The base before training: it should write badly, grade usefully, and differ from the separate grader."""
    from selfreward.lab.embedded import base_path
    from selfreward.lab.tasks.writing.rub import RubricEvaluator, dev_prompts
    from selfreward.policy.loading import load_policy

    base_path("rub-other")  # built once, before an arm asks for it
    measured = {name: RubricEvaluator(dev_prompts())(load_policy(f"embedded:{name}")) for name in ("rub", "rub-other")}
    found = {
        f"{name} {key}": measured[name][key]
        for name in measured
        for key in ("score", "grader_f1", "grader_accuracy", "likelier_accuracy")
    }
    return {**found, "passed": found["rub score"] <= 0.45 and 0.75 <= found["rub grader_accuracy"] <= 0.9}


def closed(results: Results, arm: str) -> Estimate:
    """Gain of ``arm`` as a share of the gain of the true rubric, per seed."""
    own, top = results.values(arm, S), results.values("true-rubric", S)
    start = results.values(arm, S, "before")
    return mean_interval([(a - b) / (t - b) for a, b, t in zip(own, start, top, strict=True)])


def kept(results: Results, arm: str) -> Estimate:
    """Grader F1 on the fixed bank after training, as a share of its start, per seed."""
    pairs = zip(results.values(arm, F1), results.values(arm, F1, "before"), strict=True)
    return mean_interval([after / before for after, before in pairs])


PROOF = Proof(
    slug="rubric-self-reward",
    id="176",
    claim="A model that grades its own responses against written criteria, one by one, improves by GRPO on its own "
    "grades at least as much as with a separate grader, and remains as good a grader.",
    task="embedded:rub",
    main="self",
    gate=gate,
    arms=(
        Arm("self", "rubric-self-reward"),
        Arm("frozen-grader", "rubric-self-reward", {"grader": "frozen"}),
        Arm("separate-grader", "rubric-self-reward", {"grader": "embedded:rub-other"}),
        Arm("holistic", "rubric-self-reward", {"mode": "holistic"}),
        Arm("true-rubric", "true-rubric"),
        Arm("permuted-rubrics", "rubric-self-reward", {"rubrics": "permuted"}),
    ),
    settings={
        "model": "embedded:rub",
        "steps": 40,
        "options": {"group_size": 8},
        "eval_every": 20,
        "checkpoint_every": 40,
    },
    rules=(
        Rule(
            "improves",
            "self ends above the base in held-out true rubric score (lower end of the interval above 0)",
            lambda r: r.gain("self", S),
            lambda e: e.low > 0,
        ),
        Rule(
            "no worse than a separate grader",
            "self ends no lower than with a separate grader of the same size (mean over seeds)",
            lambda r: r.lead("self", "separate-grader", S),
            lambda e: e.value >= 0,
        ),
        Rule(
            "criteria beat one score",
            "the separate grader, criterion by criterion, ends above the holistic score (mean over seeds)",
            lambda r: r.lead("separate-grader", "holistic", S),
            lambda e: e.value > 0,
        ),
        Rule(
            "near the ceiling",
            "self reaches at least 60 % of the gain of the true rubric (mean over seeds)",
            lambda r: closed(r, "self"),
            lambda e: e.value >= 0.6,
        ),
        Rule(
            "the grader stays",
            "grader F1 on a fixed bank is no lower after training (mean over seeds, within 1 %)",
            lambda r: kept(r, "self"),
            lambda e: e.value >= 0.99,
        ),
        Rule(
            "the grader does not break",
            "grader F1 on a fixed bank stays above 0.9 of its start (lower end of the interval)",
            lambda r: kept(r, "self"),
            lambda e: e.low >= 0.9,
        ),
        Rule(
            "permuted rubrics do not help",
            "with another prompt's rubric the score does not rise (lower end of the interval not above 0)",
            lambda r: r.gain("permuted-rubrics", S),
            lambda e: e.low <= 0,
        ),
    ),
    reason="The separate grader, a model of the same size from another pre-training seed, grades a little better than "
    "the base does from the start: on development prompts its sampled verdicts order 0.79 of pairs of the "
    "base's outlines right, the base's own 0.77. Its lead of 0.024 at the end is within the spread of three "
    "seeds. A part of what self misses to the ceiling is form: a verdict looks at one thing and not at the "
    "outline, and 6 to 12 % of the outlines end malformed (3 to 5 % with the true rubric). One score for the "
    "whole rubric is no worse a grader here (0.83 of pairs): it errs once per outline where a rubric errs once "
    "per criterion. A grader frozen at the start serves as well as the current one (0.77 and 0.75).",
)
