"""T-REG (117) on CON: does the base blame the right letters, and does it help preferences?

Rules are those of the method card, written down before the run. The base was taught to make a string better and worse
(``*`` and ``!``), which stands in for the paper's two requests. The gate plants one fault in strings that meet
everything else and asks whose credit is lowest; below an area under the curve of .7 nothing is trained. All arms see
pairs of the same prompts, ordered by the base's own judge, and take the same number of updates. Settings are the
task's; one look at the main arm on development prompts left them as they were.
"""

from __future__ import annotations

from typing import Any

from selfreward.compare import Arm
from selfreward.errors import ConfigError
from selfreward.proofs.base import Proof, Rule
from selfreward.proofs.rounds import lead

Q = "score"
STEPS = 30


def gate(n: int = 200) -> dict[str, Any]:
    """Area under the curve of the negative credit for the one planted letter of each string, and mean credits."""
    import random

    import torch

    from selfreward.models import load_policy
    from selfreward.signals.contrast import contrast_credits
    from selfreward.statistics import auroc
    from selfreward.tasks.con import LENGTH, LETTERS, TEMPLATES, careful, questions, true_score
    from selfreward.types import Prompt, Segment, Trajectory

    policy = load_policy("embedded:con", device="cpu")
    rng = random.Random("con planted")
    source = questions("train", rng)
    found: list[Trajectory] = []
    places: list[int] = []
    while len(found) < n:
        question = next(source)
        letters, at = careful(question, rng).split(), rng.randrange(LENGTH)
        letters[at] = rng.choice(LETTERS)
        text = " ".join(letters)
        if true_score(question, text) == 4:
            tokens = torch.tensor([*policy.tokenizer(text)["input_ids"], *policy.end_tokens])
            prompt = Prompt(str(len(found)), question)
            found.append(
                Trajectory(prompt, [Segment("prompt", tokens[:0]), Segment("solver", tokens, text, trainable=True)])
            )
            places.append(at)
    credits = contrast_credits(policy, found, TEMPLATES["better"], TEMPLATES["worse"])
    values = [float(c[k]) for c in credits for k in range(LENGTH)]
    planted = [k == at for at in places for k in range(LENGTH)]
    area = auroc([-v for v in values], planted)
    if area < 0.7:
        raise ConfigError(
            f"The base's credits find the planted letter with an area under the curve of {area:.2f}; below .7."
        )
    mean = {flag: sum(v for v, p in zip(values, planted) if p == flag) / planted.count(flag) for flag in (True, False)}
    return {"auc": round(area, 3), "credit_planted": round(mean[True], 3), "credit_others": round(mean[False], 3)}


PROOF = Proof(
    slug="t-reg",
    id="117",
    claim="Token rewards that a model reads off two opposite requests, added to DPO as a regulariser, put its "
    "preference on the right tokens; the same rewards on shuffled tokens do not.",
    task="embedded:con",
    main="t-reg",
    gate=gate,
    arms=(
        Arm("t-reg", "t-reg"),
        Arm("dpo", "t-reg", {"token_rewards": "none"}),
        Arm("shuffled", "t-reg", {"token_rewards": "shuffled"}),
        Arm("sft", "t-reg", {"token_rewards": "none", "sft": 0.25}),
    ),
    settings={
        "model": "embedded:con",
        "steps": STEPS,
        "eval_every": STEPS // 2,
        "probe_every": 0,
        "checkpoint_every": STEPS,
        "options": {"group_size": 5, "alpha": 0.25},
    },
    curves=(f"eval/{Q}", "eval/greedy_score", "credit/size", "regulariser"),
    rules=(
        Rule(
            "above DPO",
            "t-reg ends with a higher score than DPO on the same pairs (lower end of the paired interval above 0)",
            lead("t-reg", "dpo", Q),
            lambda e: e.low > 0,
        ),
        Rule(
            "credit matters",
            "t-reg ends above the same token rewards on shuffled tokens (lower end of the paired interval above 0)",
            lead("t-reg", "shuffled", Q),
            lambda e: e.low > 0,
        ),
        Rule(
            "likelihood of the chosen answers does not do it",
            "a likelihood term on the chosen answers ends no higher than DPO (mean over seeds)",
            lead("sft", "dpo", Q),
            lambda e: e.value <= 0,
        ),
    ),
)
