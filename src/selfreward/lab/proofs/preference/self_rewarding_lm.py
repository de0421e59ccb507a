"""Self-rewarding language models (094) on CON: three iterations of grading, pairing and DPO.

Rules are those of the method card, written down before the run. The base plays M_1: its text holds instructions with
careful answers and graded answers, and its judgement is measured before anything is trained (the gate refuses below
.5). All arms take the same number of updates on the same prompts; ``more-sft`` imitates the 64 demonstrations of the
seed. A tiny model follows no free-form rubric, so the judge format is in its text; the five constraints are the five
points. Settings are the task's; one look at the main and the shuffled arm on development prompts left them so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfreward.lab.proofs.common.gates import gate
from selfreward.lab.proofs.common.rounds import between
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import POINTS, Metric, does_not_gain, keeps, leads, measured, retains
from selfreward.training.comparison import Arm

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

SCORE = Metric("score", "the share of constraints that held-out samples meet", POINTS)
GREEDY = Metric("greedy_score", "the share of constraints that held-out greedy answers meet", POINTS)
JUDGE = Metric("judge_auc", "how well its judgements tell strings that meet every constraint from others (AUROC)")
SPREAD = Metric("judge_spread", "the spread of its judgements of a fixed bank of strings")
ROUNDS, STEPS = 3, 36
MAIN = "self-rewarding-lm"


def judgement(base: Policy) -> dict[str, float]:
    """How well a base judges strings that answer fresh training prompts."""
    import random

    from selfreward.lab.tasks.writing.con.strings import careful, careless, judging, questions, true_score

    rng = random.Random("con gate")
    source = questions("train", rng)
    items = []
    for _ in range(200):
        question = next(source)
        text = careful(question, rng) if rng.random() < 0.5 else careless(rng)
        items.append((question, text, true_score(question, text)))
    return judging(base, items)


PROOF = Proof(
    slug=MAIN,
    id="094",
    claim="A model that grades its own answers and prefers the best to the worst writes better with every iteration, "
    "more than by imitating its best answers, and goes on judging as well as before.",
    task="embedded:con",
    main=MAIN,
    gate=gate("embedded:con", judgement, needs=[("judge", ">=", 0.5)], stops=True, digits=3),
    arms=(
        Arm(MAIN, MAIN),
        Arm("shuffled", MAIN, {"scores": "shuffled"}),
        Arm("chosen-only", MAIN, {"learn": "chosen"}),
        Arm("more-sft", MAIN, {"learn": "seed"}),
        Arm("gold", MAIN, {"scores": "gold"}),
    ),
    settings={
        "model": "embedded:con",
        "steps": STEPS,
        "eval_every": STEPS // ROUNDS,
        "probe_every": 0,
        "checkpoint_every": STEPS,
        "options": {"iterations": ROUNDS, "group_size": 4},
    },
    curves=(f"eval/{GREEDY.name}", f"eval/{SCORE.name}", "eval/judge", "pairs/gap", "grade/mean"),
    rules=(
        measured(
            "the first iteration helps",
            f"the rise of {GREEDY.words} over the first iteration",
            lambda r: between(r, MAIN, GREEDY.name, 0, 1),
            above=0,
            end="low",
        ),
        measured(
            "the second does no harm",
            f"the rise of {GREEDY.words} over the second iteration",
            lambda r: between(r, MAIN, GREEDY.name, 1, 2),
            at_least=0,
        ),
        does_not_gain(
            "shuffled grades do not",
            "shuffled",
            GREEDY,
            end="low",
            note="shuffled: grades dealt at random within groups",
        ),
        leads("above shuffled grades", MAIN, "shuffled", GREEDY),
        leads(
            "above the best answers alone",
            MAIN,
            "chosen-only",
            GREEDY,
            note="chosen-only: imitation of the best-graded answers",
        ),
        keeps("the judge stays", MAIN, JUDGE, end="high"),
        retains("the judge does not collapse", MAIN, SPREAD, above=0.5, end="low"),
    ),
    reason="Only the lead over imitating the best-graded answers fails, because greedy answers cannot show it here. "
    "Whichever way the best answers are preferred, they turn from careless to careful writing within the first "
    "iteration: after it they meet .966 of the constraints with DPO, .964 with imitation and .970 with true grades, so "
    "all arms meet at one ceiling. The samples do tell them apart: at the end .879 with DPO and .838 with imitation "
    "(lead .042 [.018, .066]), .884 with true grades. At this size the skill is in the base; as many updates on 64 "
    "demonstrations bring it out as well (.884).",
)
