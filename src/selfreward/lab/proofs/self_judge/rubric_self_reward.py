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
from selfreward.lab.proofs.rules import POINTS, Metric, closes, does_not_gain, gains, leads, not_below, retains
from selfreward.training.comparison import Arm

SCORE = Metric("score", "the held-out true rubric score", POINTS)
ONE_SCORE = "the one grades by criterion, the other gives one score for the whole rubric"
GRADER = Metric("grader_f1", "the F1 of its own grades on a fixed bank")


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
        gains("improves", "self", SCORE),
        not_below("no worse than a separate grader", "self", "separate-grader", SCORE, note="of the same size"),
        leads("criteria beat one score", "separate-grader", "holistic", SCORE, end="mean", note=ONE_SCORE),
        closes("near the ceiling", "self", "true-rubric", SCORE, at_least=0.6),
        retains("the grader stays", "self", GRADER, at_least=0.99),
        retains("the grader does not break", "self", GRADER, at_least=0.9, end="low"),
        does_not_gain(
            "permuted rubrics do not help",
            "permuted-rubrics",
            SCORE,
            end="low",
            note="permuted-rubrics: graded by another prompt's rubric",
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
