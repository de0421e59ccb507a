"""ScPO (180) on CHAIN: two iterations of weighted preferences by vote.

Rules are those of the method card, written down before the run. Greedy decoding on CHAIN is right almost
always once the worked style leads, which takes a few updates under any arm that finds it; ends are
therefore compared by pass@1 (one sample at temperature 1), and greedy accuracy by its whole curve.
All arms draw the same number of samples from M_t: 8 per prompt in the first iteration, 16 in the second.
"""

from __future__ import annotations

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import PASS_AT_1, leads, measured, not_below
from selfreward.training.comparison import Arm

STEPS = 32


def best_greedy_lead(results: Results) -> list[float]:
    """Largest lead of ScPO's greedy accuracy over LMSI's at one evaluation, after the start, per seed."""
    ours, theirs = (results.steps(arm, "eval/accuracy", lambda r: r["step"] > 0) for arm in ("scpo", "lmsi"))
    return [max(a - b for a, b in zip(*runs, strict=True)) for runs in zip(ours, theirs, strict=True)]


def share_rise(results: Results) -> Values:
    """Mean vote share of the winner in the second iteration minus that in the first, per seed."""

    def share(iteration: int) -> Values:
        return results.step_mean("scpo", "pairs/vote_share", lambda r: r.get("pairs/round") == iteration)

    return share(1) - share(0)


def distils(results: Results) -> Values:
    """Gain in greedy accuracy minus gain in the accuracy of the vote, per seed."""
    greedy, voted = (results.gains("scpo", metric) for metric in ("accuracy", "maj@k"))
    return greedy - voted


PROOF = Proof(
    slug="scpo",
    id="180",
    claim="Preferences ordered by the model's own votes and weighted by their margin train better than imitating "
    "the majority, and about as well as preferences ordered by gold answers.",
    task="embedded:chain",
    main="scpo",
    arms=(
        Arm("scpo", "scpo"),
        Arm("unweighted", "scpo", {"weighted": False}),
        Arm("lmsi", "scpo", {"learn": "nll", "weighted": False}),
        Arm("random-pairs", "scpo", {"pairs": "random"}),
        Arm("gold-pairs", "scpo", {"pairs": "gold"}),
        Arm("tau-0.3", "scpo", {"quorum": 0.3}),
    ),
    settings={
        "model": "embedded:chain",
        "steps": STEPS,
        "eval_every": 4,
        "eval_prompts": 100,
        "probe_every": 0,
        "checkpoint_every": STEPS,
        "options": {"group_size": 8, "extra_samples": 8, "kl": 0.0},
    },
    reason="Preferences by vote end 28 points above imitation of the same majority, and random pairs fall. Three "
    "comparisons fail at this size. Weights: behind the quorum every pair weighs about as much as the next (0.6 on "
    "average), so weighting is little more than a smaller step, and ends level with weight 1 (0.4 points below, "
    "within the noise of three seeds). Gold pairs: they exist for 99 % of the prompts and are all right, pairs by "
    "vote for 36 % and 87 % of them are right, so that gold is ahead after the same number of updates. Greedy: the "
    "task has no resolution there; imitation and preferences both reach 100 % by the first evaluation.",
    rules=(
        leads("above imitation", "scpo", "lmsi", PASS_AT_1),
        leads("above random pairs", "scpo", "random-pairs", PASS_AT_1),
        not_below("no worse than unweighted", "scpo", "unweighted", PASS_AT_1),
        not_below("near gold pairs", "scpo", "gold-pairs", PASS_AT_1, within=0.05),
        measured(
            "the vote grows",
            "the rise of the winner's vote share from the first iteration to the second",
            share_rise,
            above=0,
            end="low",
        ),
        measured(
            "the vote is distilled",
            "the gain in greedy accuracy minus the gain in the accuracy of the vote",
            distils,
            above=0,
            end="low",
        ),
        measured(
            "greedy exceeds imitation",
            "the largest lead of scpo's greedy accuracy over that of lmsi at one evaluation",
            best_greedy_lead,
            above=0,
        ),
    ),
)
