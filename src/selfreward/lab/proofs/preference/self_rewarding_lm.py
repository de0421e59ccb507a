"""Self-rewarding language models (094) on CON: three iterations of grading, pairing and DPO.

Rules are those of the method card, written down before the run. The base plays M_1: its text holds instructions with
careful answers and graded answers, and its judgement is measured before anything is trained (the gate refuses below
.5). All arms take the same number of updates on the same prompts; ``more-sft`` imitates the 64 demonstrations of the
seed. A tiny model follows no free-form rubric, so the judge format is in its text; the five constraints are the five
points. Settings are the task's; one look at the main and the shuffled arm on development prompts left them so.
"""

from __future__ import annotations

from typing import Any

from selfreward.errors import ConfigError
from selfreward.lab.proofs.common.rounds import between, lead
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import mean_interval
from selfreward.training.comparison import Arm

GREEDY, SAMPLED = "greedy_score", "score"


ROUNDS, STEPS = 3, 36


MAIN = "self-rewarding-lm"


def gate() -> dict[str, Any]:
    """How well the base judges fresh training prompts' strings, before any training."""
    import random

    from selfreward.lab.tasks.writing.con.strings import careful, careless, judging, questions, true_score
    from selfreward.policy.loading import load_policy

    rng = random.Random("con gate")
    source = questions("train", rng)
    items = []
    for _ in range(200):
        question = next(source)
        text = careful(question, rng) if rng.random() < 0.5 else careless(rng)
        items.append((question, text, true_score(question, text)))
    found = judging(load_policy("embedded:con", device="cpu"), items)
    if found["judge"] < 0.5:
        raise ConfigError(
            f"The base's judgements have a rank correlation of {found['judge']:.2f} with the truth; below .5."
        )
    return {name: round(value, 3) for name, value in found.items()}


PROOF = Proof(
    slug=MAIN,
    id="094",
    claim="A model that grades its own answers and prefers the best to the worst writes better with every iteration, "
    "more than by imitating its best answers, and goes on judging as well as before.",
    task="embedded:con",
    main=MAIN,
    gate=gate,
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
    curves=(f"eval/{GREEDY}", f"eval/{SAMPLED}", "eval/judge", "pairs/gap", "grade/mean"),
    rules=(
        Rule(
            "the first iteration helps",
            "the true score of greedy answers is higher after the first iteration than at the start (lower end of the "
            "paired interval above 0)",
            between(MAIN, GREEDY, 0, 1),
            lambda e: e.low > 0,
        ),
        Rule(
            "the second does no harm",
            "after the second iteration it is no lower than after the first (mean over seeds)",
            between(MAIN, GREEDY, 1, 2),
            lambda e: e.value >= 0,
        ),
        Rule(
            "shuffled grades do not",
            "with grades shuffled within each group it does not rise (lower end of the paired interval at most 0)",
            lambda r: r.gain("shuffled", GREEDY),
            lambda e: e.low <= 0,
        ),
        Rule(
            "above shuffled grades",
            "self-rewarding-lm ends above shuffled grades (lower end of the paired interval above 0)",
            lead(MAIN, "shuffled", GREEDY),
            lambda e: e.low > 0,
        ),
        Rule(
            "above the best answers alone",
            "it ends above imitation of the best-graded answers (lower end of the paired interval above 0)",
            lead(MAIN, "chosen-only", GREEDY),
            lambda e: e.low > 0,
        ),
        Rule(
            "the judge stays",
            "its judgements tell strings that meet everything from others no worse than at the start (area under the "
            "curve; "
            "upper end of the interval of the change at least 0)",
            lambda r: r.gain(MAIN, "judge_auc"),
            lambda e: e.high >= 0,
        ),
        Rule(
            "the judge does not collapse",
            "the spread of its grades on a fixed bank stays above half of what it was (lower end of the interval of "
            "the "
            "ratio)",
            lambda r: mean_interval(
                [a / b for a, b in zip(r.values(MAIN, "judge_spread"), r.values(MAIN, "judge_spread", "before"))]
            ),
            lambda e: e.low > 0.5,
        ),
    ),
    reason="Only the lead over imitating the best-graded answers fails, because greedy answers cannot show it here. "
    "Whichever way the best answers are preferred, they turn from careless to careful writing within the first "
    "iteration: after it they meet .966 of the constraints with DPO, .964 with imitation and .970 with true grades, so "
    "all arms meet at one ceiling. The samples do tell them apart: at the end .879 with DPO and .838 with imitation "
    "(lead .042 [.018, .066]), .884 with true grades. At this size the skill is in the base; as many updates on 64 "
    "demonstrations bring it out as well (.884).",
)
