"""T-REG (117) on CON: does the base blame the right letters, and does it help preferences?

Rules are those of the method card, written down before the run. The base was taught to make a string better and worse
(``*`` and ``!``), which stands in for the paper's two requests. The gate plants one fault in strings that meet
everything else and asks whose credit is lowest; below an area under the curve of .7 nothing is trained. All arms see
pairs of the same prompts, ordered by the base's own judge, and take the same number of updates. Settings are the
task's; one look at the main arm on development prompts left them as they were.

Two things that the card names and no rule reads were added after the rules had been judged: an arm without the
sequence's weight (``static``), and ``planted error``, how far each trained model still prefers a planted letter to the
right one (test questions, teacher-forced). At this size the weight of the sequence buys nothing: ``static`` ends at a
score of .867, t-reg at .860, DPO at .850. The planted letter is unlearned by all arms nearly alike: from .147 at the
start to .092 with token rewards, .091 with a static weight, and .093 with shuffled ones and under DPO.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfreward.lab.proofs.common.gates import gate
from selfreward.lab.proofs.preference.self_rewarding_lm import SCORE
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import leads, not_above
from selfreward.training.comparison import Arm

if TYPE_CHECKING:
    from selfreward.lab.tasks.splits import Split
    from selfreward.policy.policy import Policy
    from selfreward.types import Trajectory

STEPS = 30


def planted(split: Split, n: int) -> list[tuple[str, str, str, int]]:
    """``n`` items ``(question, string, the same string with one letter replaced, where)``.

    The string meets all constraints, the other one all but one: a single letter is to blame, and which is known.
    """
    import random

    from selfreward.lab.tasks.writing.con.strings import LENGTH, LETTERS, careful, questions, true_score

    rng = random.Random("con planted")
    source = questions(split, rng)
    found: list[tuple[str, str, str, int]] = []
    while len(found) < n:
        question = next(source)
        letters, at = careful(question, rng).split(), rng.randrange(LENGTH)
        whole = " ".join(letters)
        letters[at] = rng.choice(LETTERS)
        text = " ".join(letters)
        if true_score(question, text) == 4:
            found.append((question, whole, text, at))
    return found


def written(policy: Policy, items: Sequence[tuple[str, str]]) -> list[Trajectory]:
    """Strings as answers of the policy to their questions, ended."""
    import torch

    from selfreward.types import Prompt, Segment, Trajectory

    found = []
    for i, (question, text) in enumerate(items):
        prompt = Prompt(str(i), question)
        head = Segment("prompt", torch.tensor(policy.encode(prompt)))
        tokens = torch.tensor([*policy.tokenizer(text)["input_ids"], *policy.end_tokens])
        found.append(Trajectory(prompt, [head, Segment("solver", tokens, text, trainable=True)]))
    return found


def blame(base: Policy) -> dict[str, float]:
    """Area under the curve of the negative credit for the one planted letter of each string, and mean credits."""
    from selfreward.lab.tasks.writing.con.strings import LENGTH, TEMPLATES
    from selfreward.signals.scorers.contrast import contrast_credits
    from selfreward.statistics import auroc

    items = planted("train", 200)
    answers = written(base, [(question, text) for question, _, text, _ in items])
    credits = contrast_credits(base, answers, TEMPLATES["better"], TEMPLATES["worse"])
    values = [float(c[k]) for c in credits for k in range(LENGTH)]
    flags = [k == at for *_, at in items for k in range(LENGTH)]
    mean = {flag: sum(v for v, p in zip(values, flags) if p == flag) / flags.count(flag) for flag in (True, False)}
    return {
        "auc": auroc([-v for v in values], flags),
        "credit_planted": mean[True],
        "credit_others": mean[False],
        "planted_error": planted_error(base),
    }


def planted_error(policy: Policy, n: int = 500) -> float:
    """How likely the policy writes the planted letter where it writes that or the one in whose place it stands.

    Mean over ``n`` items about test questions; .5 is a policy that does not tell the two.
    """
    items = planted("test", n)
    both = written(policy, [(q, text) for q, whole, planted_text, _ in items for text in (whole, planted_text)])
    starts = [len(t.tokens) - len(t.last) for t in both]
    read = policy.score([t.tokens for t in both], starts)
    logps = [float(own["logprob"][items[i // 2][3]]) for i, own in enumerate(read)]
    return sum(1 / (1 + math.exp(right - wrong)) for right, wrong in zip(logps[::2], logps[1::2])) / n


def final(model: Path) -> dict[str, float]:
    """:func:`planted_error` of a trained model."""
    from selfreward.policy.loading import load_policy

    return {"planted error": planted_error(load_policy(str(model), device="cpu"))}


PROOF = Proof(
    slug="t-reg",
    id="117",
    claim="Token rewards that a model reads off two opposite requests, added to DPO as a regulariser, put its "
    "preference on the right tokens; the same rewards on shuffled tokens do not.",
    task="embedded:con",
    main="t-reg",
    gate=gate("embedded:con", blame, needs=[("auc", ">=", 0.7)], stops=True, digits=3),
    arms=(
        Arm("t-reg", "t-reg"),
        Arm("dpo", "t-reg", {"token_rewards": "none"}),
        Arm("shuffled", "t-reg", {"token_rewards": "shuffled"}),
        Arm("sft", "t-reg", {"token_rewards": "none", "sft": 0.25}),
        Arm("static", "t-reg", {"weighting": "static"}),
    ),
    final=final,
    settings={
        "model": "embedded:con",
        "steps": STEPS,
        "eval_every": STEPS // 2,
        "probe_every": 0,
        "checkpoint_every": STEPS,
        "options": {"group_size": 5, "alpha": 0.25},
    },
    curves=(f"eval/{SCORE.name}", "eval/greedy_score", "credit/size", "regulariser"),
    rules=(
        leads("above DPO", "t-reg", "dpo", SCORE, note="on the same pairs"),
        leads("credit matters", "t-reg", "shuffled", SCORE, note="shuffled: the same token rewards on shuffled tokens"),
        not_above(
            "likelihood of the chosen answers does not do it",
            "sft",
            "dpo",
            SCORE,
            note="sft: DPO with a likelihood term on the chosen answers",
        ),
    ),
)
