"""B-STaR (057) on CHAIN-LONG: is a configuration that follows the balance score worth its search?

Rules are those of the method card, written down before the run. All arms do online rejection fine-tuning from the
same start on the same questions, with as many updates; a noisy judge of single steps that belongs to the task
stands in for the process reward model. The search on development questions costs B-STaR two fifths of its
samples, so the arms with a fixed configuration draw as many more per question. The fixed pairs span the grid: cool
or hot, and a threshold that lets every right answer pass (0) or only those whose steps look right too (1). The
negative control draws its configuration from the grid without looking, at the same cost.

Every solution can be written in about a thousand ways (operators as symbols or letters), so that diversity can be
lost without losing a right answer: it is the chance that two right solutions of one question differ. Pass@32 is
measured on questions with two traps or more; on others the start has .95 already.

Tried on development questions, one seed: B-STaR and the pairs (0.6, 0) and (1.2, 0) at lr 6e-4, which ended at .54,
.57 and .46 in pass@1 and all at 1.00 in pass@32. The rate was then lowered to 4e-4, so that pass@32 has room to differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import POINTS, Metric, leads, measured
from selfreward.statistics import Estimate
from selfreward.training.comparison import Arm, Study

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

BASE = "embedded:chain-long"
P, PK, D = "fresh pass@1", "hard pass@32", "fresh diversity"
FRESH = Metric(P, "pass@1 on fresh questions", POINTS)
PAIRS = ((0.6, 0.0), (0.6, 1.0), (1.2, 0.0), (1.2, 1.0))
FIXED = tuple(f"fixed-{t:g}-{tau:g}" for t, tau in PAIRS)
COMMON = {"cycles": 5, "keep": 4}
GRID = {"coolest": 0.6, "hottest": 1.2, "by": 0.2, "lowest": -1.0, "highest": 1.5, "fine": 0.25}
SEARCHED = {**COMMON, **GRID, "dev": 16, "trials": 12, "wanted": 4, "group_size": 24}
PLAIN = {**COMMON, "choose": "fixed", "group_size": 40}


def exploration(policy: Policy, n: int = 80, seed: int = 0) -> dict[str, float]:
    """Pass@1 and diversity on fresh questions; pass@32 and distinct solutions on those with two traps or more.

    On the hard ones only solutions without a wrong step count: 32 samples often hold a right answer by luck.
    """
    from selfreward.lab.tasks.arithmetic import chain_long
    from selfreward.policy.sampling.params import SamplingParams

    answers = chain_long.load().answers
    params = SamplingParams(chain_long.SETTINGS["max_new_tokens"], stats=())
    easy = chain_long.prompts_of("test", n, "-fresh")
    hard = [p for p in chain_long.prompts_of("test", 8 * n, "-hard") if chain_long.traps(p.question) >= 2][:n]
    shares, differ, solved, distinct = [], [], [], []
    for group in policy.sample(easy, 32, params, seed=seed):
        right = [c for c in group.completions if answers.correct(c, str(group.prompt.answer))]
        shares.append(len(right) / len(group))
        if len(right) > 1:
            same = sum(right.count(c) - 1 for c in right)
            differ.append(1 - same / (len(right) * (len(right) - 1)))
    for group in policy.sample(hard, 32, params, seed=seed):
        clean = {c for c in group.completions if chain_long.clean(group.prompt.question, c)}
        solved.append(float(bool(clean)))
        distinct.append(len(clean))
    return {
        P: float(np.mean(shares)),
        PK: float(np.mean(solved)),
        "hard distinct": float(np.mean(distinct)),
        D: float(np.mean(differ)) if differ else 0.0,
    }


def final(folder: Path) -> dict[str, float]:
    from selfreward.policy.loading import load_policy

    return exploration(load_policy(str(folder), device="cpu"))


def start(seed: int, folder: Path) -> dict[str, Any]:
    """The same of the start."""
    from selfreward.policy.loading import load_policy

    return {"after": exploration(load_policy(BASE, device="cpu"), seed=seed)}


def over_best_fixed(results: Results, metric: str) -> Estimate:
    """The lead of B-STaR over the fixed pair whose mean pass@1 was highest, in hindsight."""
    best = max(FIXED, key=lambda arm: results.mean(arm, P).value)
    return results.lead("b-star", best, metric)


def lost_diversity(results: Results) -> Values:
    """``[S]``: how much of the start's diversity the fixed arms have lost, mean over them."""
    return results.values("start", D) - np.mean([results.values(arm, D) for arm in FIXED], axis=0)


def dominance(results: Results) -> Estimate:
    """Over fixed pairs, the largest of: how far the pair is ahead of B-STaR where it is ahead by least."""

    def course(arm: str) -> Values:
        """``[evaluations]``: mean pass@1 over seeds at every evaluation after the start."""
        return np.mean(results.steps(arm, "eval/pass@1", lambda r: r["step"] > 0), axis=0)

    value = max(float((course(arm) - course("b-star")).min()) for arm in FIXED)
    return Estimate(value, value, value)


PROOF = Proof(
    slug="b-star",
    id="057",
    claim="Choosing temperature and reward threshold by the balance score before each cycle keeps exploration alive "
    "and is at least as good as the best fixed pair.",
    task=BASE,
    main="b-star",
    arms=(
        Arm("b-star", "b-star", SEARCHED),
        Arm("random-choice", "b-star", {**SEARCHED, "choose": "random"}),
        *(
            Arm(label, "b-star", {**PLAIN, "temperature": t, "threshold": tau})
            for label, (t, tau) in zip(FIXED, PAIRS, strict=True)
        ),
        Arm("from-base", "b-star", {**PLAIN, "temperature": 1.0, "threshold": 0.0, "restart": True}),
        Study("start", start),
    ),
    settings={
        "model": BASE,
        "data": BASE,
        "steps": 15,
        "prompts_per_step": 16,
        "minibatches": 2,
        "lr": 4e-4,
        "eval_every": 6,
        "eval_prompts": 100,
        "eval_samples": 8,
        "checkpoint_every": 20,
    },
    final=final,
    curves=("eval/pass@1", "temperature", "threshold", "rejection/right", "rejection/solved"),
    rules=(
        measured(
            "exploration fades",
            "how much less often two right solutions of a question differ than at the start, mean over the fixed arms,",
            lost_diversity,
            above=0,
            end="low",
        ),
        measured(
            "at least the best fixed pair",
            "the lead of b-star in pass@1 over the fixed pair that was best in hindsight",
            lambda r: over_best_fixed(r, P),
            at_least=0,
        ),
        measured(
            "with more exploration",
            "the lead of b-star in pass@32 on hard questions over the same pair, best in hindsight by pass@1,",
            lambda r: over_best_fixed(r, PK),
            above=0,
            end="low",
        ),
        measured(
            "nobody dominates",
            "the largest lead in pass@1 over b-star that a fixed pair keeps at every evaluation after the start",
            dominance,
            at_most=0,
        ),
        leads(
            "the score matters", "b-star", "random-choice", FRESH, note="random-choice: drawn at random from its grid"
        ),
    ),
    reason="Exploration fades as claimed (the chance that two right solutions differ falls by .025), but there "
    "is nothing to be saved here: after 15 steps pass@32 on hard questions is .96 to 1.00 in every arm "
    "but from-base (start .40), and the four fixed pairs end within 5 points of each other (.34 to .38; "
    "B-STaR .36). The score does what it is meant to do: it chose temperatures of .6 to 1.0 and "
    "thresholds of 0 to .25, with 2.4 to 3.7 right solutions per question and a purity of .95 or more. It "
    "is blind to what made the best pair best: a threshold of 1 keeps 40 % fewer solutions, nearly all of "
    "them right without it, and leaves out those whose steps look wrong; the score counts right answers "
    "only, so that it sees a loss. The cost of the search is not the reason: with 24 samples per question "
    "instead of 40 the best pair ends at .38 as well (measured afterwards, three seeds). Against "
    "configurations at random B-STaR is .02 ahead, with one random run 7 points lower and two equal, so "
    "three seeds cannot tell.",
)
