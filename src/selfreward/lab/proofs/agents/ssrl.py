"""SSRL (004) on FACTS: two-hop questions about a closed corpus that the base half knows.

Rules are those of the method card, written down before the run. Every arm is tested three times on the same
held-out two-hop questions: with its own information, with BM25 in the loop (never seen in training), and with
what BM25 found dealt to the wrong questions. ``direct`` asks for answers without steps and is tested so. The
study counts what repeating the self-search of the base could reach, and what a majority of it does. Settings
are the first that were tried. Form alone (``reward=format``) and learning the information (``mask=False``) are
left out: no rule asks for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results, Values
from selfreward.lab.proofs.rules import POINTS, Metric, leads, measured
from selfreward.training.comparison import Arm, Study

OWN, REAL, SHUFFLED = "pass@1", "real/pass@1", "shuffled/pass@1"
TWO_HOP = Metric(OWN, "pass@1 on held-out two-hop questions", POINTS)
KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def self_search(seed: int, folder: Path) -> dict[str, Any]:
    """pass@k and the majority of 256 self-searches of the base, on development questions."""
    from selfreward.lab.tasks.knowledge import facts
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.search import scaling
    from selfreward.statistics import maj_at_k

    space = facts.load().answers
    policy = load_policy("embedded:facts", device="cpu")
    params = SamplingParams(facts.SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(facts.development(), KS[-1], params, seed=seed)
    answers = [[space.extract(c) for c in g.completions] for g in groups]
    right = [[a == g.prompt.answer for a in found] for g, found in zip(groups, answers, strict=True)]
    votes = []
    for g, found in zip(groups, answers, strict=True):
        known = {a: i for i, a in enumerate(dict.fromkeys(a for a in found if a is not None))}
        wanted = {known[str(g.prompt.answer)]} if g.prompt.answer in known else set()
        votes.append(maj_at_k([None if a is None else known[a] for a in found], wanted, KS[-1], draws=1))
    curve = scaling(right, KS)
    return {
        "after": {f"pass@{k}": v for k, v in curve.items()} | {f"maj@{KS[-1]}": sum(votes) / len(votes)},
        "mechanism": {"name": "self-searches", "count": len(groups) * KS[-1]},
    }


def from_retrieval(results: Results, when: str = "after") -> Values:
    """``[S]``: what the real retriever adds to accuracy."""
    return results.values("ssrl", REAL, when) - results.values("ssrl", OWN, when)


PROOF = Proof(
    slug="ssrl",
    id="004",
    claim="Rewarding outcome and form of a search that the model answers itself beats rewarding answers alone on "
    "held-out two-hop questions, and a real retriever can be plugged in afterwards.",
    task="embedded:facts",
    main="ssrl",
    arms=(
        Arm("ssrl", "ssrl"),
        Arm("outcome-only", "ssrl", {"reward": "outcome"}),
        Arm("direct", "gold", settings={"data": "embedded:facts-direct"}),
        Arm("random", "random"),
        Study("self-search", self_search),
    ),
    settings={"model": "embedded:facts", "data": "embedded:facts", "eval_every": 40, "probe_every": 0},
    rules=(
        leads(
            "above direct answers", "ssrl", "direct", TWO_HOP, note="without retrieval; direct answers without steps"
        ),
        leads("above outcome only", "ssrl", "outcome-only", TWO_HOP, note="without retrieval"),
        measured(
            "a real retriever helps more",
            "the gain in accuracy from the real retriever after training minus that before it",
            lambda r: from_retrieval(r) - from_retrieval(r, "before"),
            above=0,
            end="low",
        ),
        measured(
            "what is found is read",
            "how far accuracy falls when what was retrieved is dealt to the wrong questions",
            lambda r: r.values("ssrl", REAL) - r.values("ssrl", SHUFFLED),
            above=0,
            end="low",
            note="if not, the information is ignored and the claim is falsified",
        ),
    ),
    curves=("eval/pass@1", "eval/real/pass@1", "formed"),
    reason="One rule of four fails: with its own information ssrl is 5 points above the outcome as the only reward, 2, "
    "8 and 6 by seed, and the interval has 7 to either side. Without a reward for form the model stops asking: 35 to "
    "48 % of its development answers keep to the form (with it 83 to 86 %), most of the others write the information "
    "without a query before it. Where it reads what it wrote itself that costs little, since the information needs no "
    "query: answers out of form are right in 25 to 32 % of cases, those in form in 35 to 39 %, as with ssrl. What the "
    "form is for shows with a real retriever, which answers queries only: 73 % against 50 %, 22 points apart [10, 34] "
    "in the same runs (no rule asked for that).",
)
