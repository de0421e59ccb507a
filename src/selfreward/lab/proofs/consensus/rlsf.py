"""RLSF (166) on CHAIN-SURE: a base that is over-confident in a shortcut and sure, with reason, where it reasons.

Rules are those of the method card, written down before the run. The alphabet of the task leaves three
beginnings of an answer, so k is 3 and not 10: from any further first token a character model goes on with
nonsense that it is as sure of as of reasoning (on the base of ``chain`` 0.99 sure, right one time in seven).
Random and confidence pairs are equal in number; vote pairs come from 8 samples per prompt, not 3 traces.
Steps, rates and the size of the reward model were looked at once, on development prompts, and left as they were.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import ACCURACY, Metric, does_not_gain, gains, leads, measured, trails
from selfreward.statistics import auroc
from selfreward.training.comparison import Arm, Study

ECE = Metric("ece", "the expected calibration error")
K = {"k": 3}
PPO = {"group_size": 8, "reward_steps": 8, "reward_updates": 80}


def certainty_sees_truth(seed: int, folder: Path) -> dict[str, Any]:
    """AUROC of the answer's gap and of the whole text's mean log-probability, on the base's own traces."""
    from selfreward.lab.embedded import load_task
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.cot_decoding import branch
    from selfreward.signals.scorers.answer_span import answer_confidences

    task, policy = load_task("chain-sure"), load_policy("embedded:chain-sure", device="cpu")
    prompts = task.train[-600 + 200 * (seed % 3) :][:200]
    groups = branch(policy, prompts, K["k"], SamplingParams(task.settings["max_new_tokens"]))
    gaps, means, truth = [], [], []
    for group, own in zip(groups, answer_confidences(policy, groups, task.answers), strict=True):
        for trajectory, confidence in zip(group, own, strict=True):
            if confidence is not None and trajectory.last.logprobs is not None:
                gaps.append(confidence)
                means.append(float(trajectory.last.logprobs.mean()))
                truth.append(task.answers.correct(trajectory.completion, str(group.prompt.answer)))
    return {
        "after": {"auroc/gap": auroc(gaps, truth), "auroc/mean_logprob": auroc(means, truth), "traces": len(truth)},
        "mechanism": {"name": "traces", "count": len(truth)},
    }


def span_above_text(results: Results) -> Values:
    """AUROC of the answer's gap minus that of the text's mean log-probability, per seed."""
    return results.values("certainty", "auroc/gap") - results.values("certainty", "auroc/mean_logprob")


PROOF = Proof(
    slug="rlsf",
    id="166",
    claim="Preferring the traces whose answer the model is surest of raises accuracy and does not cost calibration.",
    task="embedded:chain-sure",
    main="dpo",
    arms=(
        Arm("dpo", "rlsf", K),
        Arm("random-pairs", "rlsf", {**K, "pairs": "random"}),
        Arm("vote-pairs", "rlsf", {**K, "pairs": "vote", "group_size": 8}),
        Arm("sft", "rlsf", {**K, "learn": "sft"}),
        Arm("rm-ppo", "rlsf", {**K, "learn": "ppo", **PPO}),
        Study("certainty", certainty_sees_truth),
    ),
    settings={"model": "embedded:chain-sure", "data": "embedded:chain-sure", "eval_every": 30},
    rules=(
        measured(
            "the answer's certainty sees the truth",
            "the AUROC, for being right, of the answer's gap minus that of the text's mean log-probability, on the "
            "base's traces,",
            span_above_text,
            above=0,
            end="low",
        ),
        gains("accuracy rises", "dpo", ACCURACY),
        does_not_gain(
            "calibration does not suffer", "dpo", ECE, note="accuracy bought with a larger error falsifies the claim"
        ),
        leads("accuracy above random pairs", "dpo", "random-pairs", ACCURACY),
        trails("calibration above random pairs", "dpo", "random-pairs", ECE),
    ),
)
