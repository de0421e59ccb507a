"""SPO (061) on PREFS: circles, noise, a whole-string preference, and raters who disagree, in one run.

Rules are those of the method card, written down before the run. Every arm asks the same number of comparisons on the
same four prompts. The baselines are reward models of the comparisons: ``reward-model`` has one score per answer,
``linear-model`` one per letter and place. The theory is about the average of all policies, so circles are judged by
the mean mix over the run's evaluations (every ten steps), and the baseline's current policies are shown beside it.

Settings, the same for all arms, were chosen with a seed that the proof does not use. On a table of four numbers in
place of the model (a softmax over the answers of cycle, groups of 16) Adam's momentum of .9 makes self-play spiral
outwards, so that its average can be exploited by .06 to .17; without momentum by .02 to .04. Of the model: a learning
rate of 3e-2 lost the whole strings in one early step (all of them malformed, which then beat one another evenly), and
200 steps left the noise of single comparisons in the mix of the raters (.11). With 1e-2 and 400 steps, and with 2e-2
and gradients clipped at .1, both were gone (.04 and .02). A KL of .02 to the even start holds the reward model off its
corner (.25) where .01 does not (.30 and still rising), so it is .007.
"""

from __future__ import annotations

import numpy as np
import torch

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import Metric, Rule, leads, measured, not_below
from selfreward.lab.tasks.writing.prefs import GAMES, wins
from selfreward.signals.win_rates import exploitability
from selfreward.training.comparison import Arm

NOISY = Metric("noisy", "the mean quality of answers on noisy (1 the best, 0 the worst)")
EXPLOITED = "exploitability: how much more than half the best answer to a policy wins"
HALVES = Metric("halves", "the share of good strings on halves")
STEPS, EVERY = 400, 10
MODEL = "bradley-terry"


def average(results: Results, arm: str, game: str) -> Values:
    """``[S]``: the exploitability of the average policy."""
    mixes_A_S_T = torch.tensor([results.steps(arm, f"eval/{game}_{answer}") for answer in GAMES[game]])
    return np.array([exploitability(mix_A, wins(game)) for mix_A in mixes_A_S_T.mean(-1).T])


def solved(game: str) -> Rule:
    says = f"the exploitability of SPO's average policy on {game}"
    return measured(f"{game} solved", says, lambda r: average(r, "spo", game), below=0.05, note=EXPLOITED)


PROOF = Proof(
    slug="spo",
    id="061",
    claim="Win rates against one's own answers find the mix that nothing beats where preferences go in circles, and "
    "lose nothing to a reward model where they are only noisy; a reward model of the same comparisons runs into a "
    "corner.",
    task="embedded:prefs",
    main="spo",
    arms=(
        Arm("spo", "spo"),
        Arm("reward-model", "spo", {"reward": MODEL}),
        Arm("linear-model", "spo", {"reward": f"{MODEL}:selfreward.lab.tasks.writing.prefs:letters"}),
    ),
    settings={
        "model": "embedded:prefs",
        "steps": STEPS,
        "lr": 2e-2,
        "grad_clip": 0.1,
        "adam_beta1": 0.0,
        "eval_every": EVERY,
        "probe_every": 0,
        "sentinel": "off",
        "checkpoint_every": STEPS,
        "log_groups": 0,
        "options": {"kl": 0.007},
    },
    curves=("eval/cycle", "eval/raters", "eval/noisy", "eval/halves"),
    rules=(
        solved("cycle"),
        measured(
            "a reward model runs into a corner",
            "the exploitability of the current policies of reward-model on cycle, over the second half of the run,",
            lambda r: r.step_mean("reward-model", "eval/cycle", lambda record: record["step"] > STEPS // 2),
            at_least=0.3,
            note="a pure answer is at .35 to .45",
        ),
        measured(
            "a reward model does not match on cycle",
            "the exploitability of reward-model's average policy on cycle minus that of SPO's",
            lambda r: average(r, "reward-model", "cycle") - average(r, "spo", "cycle"),
            above=0,
            end="low",
        ),
        not_below("noise costs nothing", "spo", "reward-model", NOISY),
        leads("whole strings", "spo", "linear-model", HALVES, note="linear-model: a reward model that scores letters"),
        solved("raters"),
    ),
    reason="SPO solves both circles; what fails are rules about its rivals. The reward model stands where it was "
    "expected, but gets there late: .29 to .31 at the end, .296 over the second half. On noisy both end at .98, where "
    "single answers can no longer tell them apart. And a model that is linear in letters learns the whole strings: it "
    "cannot from even comparisons (each letter is as good as the other), but the policy's own answers are not even. "
    "After the first steps one letter is ahead in both halves, more of it is then better on the policy's own answers, "
    "and every seed ends on six equal letters (probability .72 to .75; SPO does the same, .63 to .66). A preference "
    "that no letter explains everywhere needs a letter to explain it only where the policy is.",
)
