"""Distilling rewards (104) on CHAIN: the base of ``chain`` teaches a more careless student of the same size.

Rules are those of the method card, written down before the run. Every arm takes the same number of steps
and prompts; after the warm-up the method samples the student, the direct-vote arm the teacher and the
student, and the supervised arms the teacher alone. ``teacher-sft`` gives the teacher the very data of the
warm-up, for as many steps as the others train: the fair control that a reviewer of the paper asked for. Steps and sizes
were looked at once, on development prompts, and left as they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import PASS_AT_1, leads, measured
from selfreward.training.comparison import Arm

NARROW = {"warmup": 8, "student_samples": 16, "updates": 80, "group_size": 8}


def gate() -> dict[str, Any]:
    """Teacher and student on development prompts, before any training: accuracy, and that of the teacher's vote."""
    from selfreward.evaluation.held_out import evaluate
    from selfreward.lab.embedded import load_task
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams

    task = load_task("chain-student")
    found: dict[str, Any] = {}
    for name in ("chain", "chain-student"):
        policy = load_policy(f"embedded:{name}", device="cpu")
        params = SamplingParams(task.settings["max_new_tokens"])
        metrics = evaluate(policy, task.train[-100:], task.answers, k=10, params=params, greedy=False).metrics
        found |= {f"{name}/pass@1": round(metrics["pass@1"], 3), f"{name}/maj@10": round(metrics["maj@k"], 3)}
    return found


def reward_model_auroc(results: Results, arm: str) -> Values:
    """``[S]``: AUROC of the last reward model on answers of the warmed-up student to test prompts."""
    from selfreward.lab.embedded import load_task
    from selfreward.policy.loading import load_policy
    from selfreward.policy.reward_model import RewardModel
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.policy.snapshots.frozen import snapshot_with
    from selfreward.runtime.checkpoint import load_newest

    task, values = load_task("chain-student"), []
    for seed in results.seeds(arm):
        _, state, _ = load_newest(results.run(arm, seed) / "checkpoints")
        policy = load_policy("embedded:chain-student", device="cpu")
        student = snapshot_with(policy, state["recipe"]["warm"])
        model = RewardModel(policy)
        model.model.load_weights(state["recipe"]["model"])
        groups = student.sample(task.test[:150], 4, SamplingParams(task.settings["max_new_tokens"]), seed=0)
        truth = [task.answers.correct(c, str(g.prompt.answer)) for g in groups for c in g.completions]
        values.append(model.auroc([t.tokens for g in groups for t in g], truth))
    return np.array(values)


PROOF = Proof(
    slug="distill-rewards",
    id="104",
    claim="A student that is trained on a teacher's consensus and then climbs a reward model of it beats "
    "supervised distillation, and the reward model must have read the student's own text.",
    task="embedded:chain-student",
    main="method",
    gate=gate,
    arms=(
        Arm("method", "distill-rewards", NARROW),
        Arm("sft-one", "distill-rewards", {**NARROW, "reward": "none", "sft": "one"}),
        Arm("sft-vote", "distill-rewards", {**NARROW, "reward": "none"}),
        Arm("direct-vote", "distill-rewards", {**NARROW, "reward": "vote"}),
        Arm("gold", "distill-rewards", {**NARROW, "reward": "gold"}),
        Arm("teacher-text", "distill-rewards", {**NARROW, "model_data": "teacher"}),
        Arm("permuted", "distill-rewards", {**NARROW, "corrupt": "permuted"}),
        Arm("teacher-sft", "distill-rewards", {**NARROW, "reward": "none"}, {"model": "embedded:chain"}),
    ),
    settings={
        "model": "embedded:chain-student",
        "data": "embedded:chain-student",
        "steps": 24,
        "prompts_per_step": 12,
        "eval_every": 24,
        "eval_prompts": 150,
        "eval_samples": 4,
        "checkpoint_every": 24,
    },
    reason="What fails is what would make the reward model necessary. GRPO on the teacher's vote itself ends "
    "where PPO on the reward model does, with less machinery. The teacher after the same supervised data "
    "stays ahead: here it has the student's size and only better habits. The student's text does make the "
    "reward model see more (AUROC +0.03 on the student's answers), but too little to show in accuracy: "
    "teacher and student write alike here. Supervised training on the vote already comes within seven "
    "points of gold in these 24 steps, which leaves little to be gained.",
    rules=(
        leads(
            "above supervised distillation",
            "method",
            "sft-vote",
            PASS_AT_1,
            note="sft-vote: supervised training on answers filtered by the teacher's vote",
        ),
        leads(
            "the student's text matters",
            "method",
            "teacher-text",
            PASS_AT_1,
            note="teacher-text: the reward model reads the teacher alone",
        ),
        measured(
            "the reward model sees students",
            "the AUROC on the student's answers of the reward model taught on both texts, minus that of the one taught "
            "on the teacher's,",
            lambda r: reward_model_auroc(r, "method") - reward_model_auroc(r, "teacher-text"),
            above=0,
            end="low",
        ),
        leads(
            "above permuted labels",
            "method",
            "permuted",
            PASS_AT_1,
            note="permuted: the reward model learns permuted labels",
        ),
        leads(
            "surpasses the teacher",
            "method",
            "teacher-sft",
            PASS_AT_1,
            note="teacher-sft: the teacher after the same supervised training",
        ),
        leads(
            "worth its machinery",
            "method",
            "direct-vote",
            PASS_AT_1,
            note="direct-vote: GRPO on the teacher's vote, without a reward model",
        ),
    ),
)
