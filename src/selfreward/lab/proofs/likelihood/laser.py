"""LaSeR (031) on CHAIN with a reserved token: does one token carry the verifier, at no cost to solving?

The score is read off a token that no text contains, so what a trained model says by it about its solutions
it learnt from the regression. beta follows the porting rule 2 / |c_ref|.

This is the second attempt. A first one (alpha 5, 30 steps) was stopped after two seeds and went against the claim:
laser ended at 0.74 of pass@1 where GRPO ended at 0.86, self-only at 0.75 and shuffled labels (one seed) at 0.76; the
score told right from wrong (AUROC 0.78) no better than length does (0.80), and among worked solutions not at all (0.50
over 1 200 development samples); the weighted vote of four was above the majority (0.97 to 0.95). At alpha 5 the norm of
the joint gradient is near 7, so clipping at 1 leaves the policy gradient a seventh of its size. The settings below
answer to that. As they were chosen after test prompts had been seen, this attempt is measured on test prompts that no
earlier run was measured on (:func:`selfreward.lab.tasks.arithmetic.chain_reserved.unseen`). The rules are those of
the first attempt. Its arms without mixing, with cross-entropy and with unbalanced weights are left out, as no rule
compares them.

Every trained model is asked about samples of its own for held-out prompts; F1 is the harmonic mean of the
shares of right and of wrong solutions that r_s > 0.5 tells (one of them alone can be had for free).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values, read_records
from selfreward.lab.proofs.rules import PASS_AT_1, POINTS, measured, not_below, trails, weakest
from selfreward.runtime.files import write_text
from selfreward.statistics import Estimate, auroc, mean_interval
from selfreward.training.comparison import Arm

BASE = "embedded:chain-reserved"
PROMPTS, SAMPLES, SIZES = 60, 32, (4, 8, 16, 32)
# A short run needs a larger weight and an earlier start than the published ones.
OURS = {"alpha": 0.5, "reasoning_warmup": 2, "score_warmup": 30}


def gate() -> dict[str, Any]:
    """How constant is the reserved token's log-probability after the end, on the base's own samples?"""
    c_ref, std = constant()
    return {"c_ref": c_ref, "c_ref_std": std, "passed": std < 0.1 * abs(c_ref)}


@cache
def constant() -> tuple[float, float]:
    from selfreward.lab.tasks.arithmetic.chain_reserved import development
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.scorers.last_token import measure_c_ref, reserved_token

    policy = load_policy(BASE, device="cpu")
    groups = policy.sample(development(50), 8, SamplingParams(20, stats=()), seed=0)
    return measure_c_ref(policy, groups, reserved_token(policy))


def verification(model: Path, seed: int, c_ref: float, beta: float) -> dict[str, float]:
    """What r_s says about the model's own samples for held-out prompts, and what a vote makes of it."""
    import torch

    from selfreward.data.answers import cluster
    from selfreward.lab.tasks.arithmetic import chain
    from selfreward.lab.tasks.arithmetic import chain_reserved as reserved
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.last_token import last_token_score
    from selfreward.signals.scorers.last_token import last_token_logprobs, reserved_token
    from selfreward.signals.selection import select

    policy, task = load_policy(str(model), device="cpu"), reserved.load()
    prompts = task.test[200 : 200 + PROMPTS]
    groups = policy.sample(prompts, SAMPLES, SamplingParams(20, stats=()), seed=seed)
    token = reserved_token(policy)
    logprobs = last_token_logprobs(policy, groups, token)
    known = torch.tensor([[float("nan") if v is None else v for v in row] for row in logprobs])
    scores = last_token_score(known, c_ref, beta).nan_to_num(0.0).numpy()
    right = np.array([[task.answers.correct(c, str(g.prompt.answer)) for c in g.completions] for g in groups])
    length = np.array([[float(len(t.last)) for t in g] for g in groups])
    worked = np.array([[chain.style(c) == "worked" for c in g.completions] for g in groups])
    verdict = scores > 0.5
    on_right = float(verdict[right].mean()) if right.any() else 0.0
    on_wrong = float((~verdict[~right]).mean()) if (~right).any() else 0.0
    by_length = auroc(length.ravel(), right.ravel())
    found = {
        "verified on right": on_right,
        "verified on wrong": on_wrong,
        "f1": 2 * on_right * on_wrong / max(1e-9, on_right + on_wrong),
        "score auroc": auroc(scores.ravel(), right.ravel()),
        "length auroc": max(by_length, 1 - by_length),
        "score auroc among worked": auroc(scores[worked], right[worked]),
        "wrong among worked": float((~right[worked]).mean()),
        "own pass@1": float(right.mean()),
    }
    for n in SIZES:
        plain: list[float] = []
        weighted: list[float] = []
        for group, own, truth in zip(groups, scores, right, strict=True):
            classes = cluster([task.answers.extract(c) for c in group.completions], task.answers)
            for s in range(0, SAMPLES, n):
                values = [float(min(1.0, max(0.0, v))) for v in own[s : s + n]]
                for rule, result in (("majority", plain), ("weighted", weighted)):
                    index = select(classes[s : s + n], values, rule).index
                    result.append(float(index is not None and truth[s + index]))
        found[f"majority@{n}"], found[f"weighted@{n}"] = float(np.mean(plain)), float(np.mean(weighted))
    return found


def verified_run(folder: Path, seed: int) -> dict[str, float]:
    """The verification of one trained model; measured once and kept beside it."""
    file = folder / "verification.json"
    if not file.is_file():
        records = read_records(folder)
        ours = [r for r in records if "laser/c_ref" in r]
        c_ref, beta = (ours[0]["laser/c_ref"], ours[0]["laser/beta"]) if ours else (constant()[0], 0.0)
        found = verification(folder / "model", seed, c_ref, beta or 2 / abs(c_ref))
        found["reserved token sampled"] = sum(r.get("laser/sampled", 0.0) for r in records)
        if ours:
            found["c_ref std"] = ours[0]["laser/c_ref_std"]
        write_text(file, json.dumps(found))
    kept: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def verified(results: Results) -> Results:
    """The results with every trained model's verification beside its accuracy."""
    for label, runs in results.arms.items():
        for seed, run in runs.items():
            if "score auroc" not in run["after"]:
                run["after"].update(verified_run(results.root / label / f"seed-{seed}", seed))
    return results


def f1_margin(results: Results) -> Values:
    """F1 above the better of the GRPO model's untrained read-out and a coin."""
    own, grpo = (verified(results).values(arm, "f1") for arm in ("laser", "grpo"))
    return own - grpo.clip(0.5)


def weighted_lead(results: Results) -> Estimate:
    """The smallest mean lead of the weighted vote over the majority at the sizes of a vote."""
    found = verified(results)
    return weakest(
        mean_interval(found.values("laser", f"weighted@{n}") - found.values("laser", f"majority@{n}")) for n in SIZES
    )


def beyond_length(results: Results) -> Values:
    found = verified(results)
    return found.values("laser", "score auroc") - found.values("laser", "length auroc")


def sampled(results: Results) -> list[float]:
    found = verified(results)
    return [v for label in found.arms for v in found.values(label, "reserved token sampled")]


PROOF = Proof(
    slug="laser",
    id="031",
    claim="Teaching one reserved token after the end to carry the verifier's reward makes the policy a verifier of its "
    "own solutions, and costs no accuracy.",
    task=BASE,
    main="laser",
    gate=gate,
    arms=(
        Arm("laser", "laser", OURS),
        Arm("grpo", "gold"),
        Arm("shuffled", "laser", {**OURS, "shuffle": True}),
        Arm("self-only", "laser", {**OURS, "self_only": True}),
    ),
    settings={"model": BASE, "steps": 80, "eval_every": 0, "eval_prompts": 200, "options": {"group_size": 12}},
    reason="The token learns which kind of solution it follows, not whether it is right. r_s > 0.5 accepts 99.8 % of "
    "right solutions and finds 28 to 48 % of wrong ones: guesses, which are rare by then and short. Among "
    "worked solutions, where what is wrong is a slip, its AUROC is 0.54 after 80 steps with 15,000 solutions, "
    "of which some 3 % of the worked ones are wrong; a model of two layers would have to recompute every step "
    "at one position. The AUROC is above that of length by 0.02 only. Shuffled targets give as much (0.70 to "
    "0.71): the regression raises the token after worked solutions, which are nearly all that it reads, more "
    "than after guesses. Accuracy is kept, the score alone drifts, and the weighted vote is no worse, but the "
    "majority of four is right on every prompt, so that nothing was left to weigh.",
    rules=(
        not_below("accuracy is kept", "laser", "grpo", PASS_AT_1, within=0.01),
        measured(
            "verifies far better",
            "F1 of r_s > 0.5, above both the GRPO model's own read-out and a coin,",
            f1_margin,
            at_least=0.15,
            unit=POINTS,
            end="low",
        ),
        measured(
            "weighted vote no worse",
            f"the smallest lead of the vote weighted by r_s over the majority, at N = {', '.join(map(str, SIZES))},",
            weighted_lead,
            at_least=0,
        ),
        measured(
            "more than length",
            "the AUROC of r_s minus that of length, whichever its sign,",
            beyond_length,
            above=0,
            end="low",
        ),
        measured(
            "shuffled labels teach nothing",
            "the AUROC of r_s with shuffled targets minus that of laser",
            lambda r: verified(r).lead("shuffled", "laser", "score auroc"),
            below=0,
            end="high",
        ),
        trails("the verifier is needed", "self-only", "laser", PASS_AT_1, note="self-only: its own score alone"),
        measured(
            "the token stays unused",
            "how often the reserved token is sampled in training, in any arm,",
            sampled,
            exactly=0,
            over="arms and seeds",
        ),
    ),
)
