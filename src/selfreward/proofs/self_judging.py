"""Self-judging (130) on countdown: a weak solver that is a better judge.

The rules are those of the method card, written down before the run. Beside the judge that sees the
answer only there is one that sees the whole text, comments included; and a pair of arms compares forty
fixed puzzles with puzzles that the model writes itself from those forty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.compare import Arm, Study
from selfreward.proofs.base import Proof, Results, Rule
from selfreward.statistics import Estimate, mean_interval

S = "solved"
FEW = 40
OWN = {"problems": "own", "check": "selfreward.tasks.cd:trainable", "proposal_tokens": 60}


def gate() -> dict[str, Any]:
    """Solver and judge of the base on development puzzles, before any training."""
    from selfreward.models import load_policy
    from selfreward.tasks import cd, cd_base

    found = cd_base.measure(load_policy("embedded:cd", device="cpu"), cd.dev(100))
    return {name: round(value, 3) for name, value in found.items()}


def puzzles(seed: int, folder: Path) -> dict[str, Any]:
    """What the base writes from the forty seeds: shares that are puzzles, new, and solvable."""
    import torch

    from selfreward.models import load_policy
    from selfreward.proposing import ListFormat, TaskFactory
    from selfreward.sampling import SamplingParams
    from selfreward.tasks import cd

    policy, form = load_policy("embedded:cd", device="cpu"), ListFormat.of(cd.TEMPLATES)
    factory = TaskFactory(check=cd.trainable)
    factory.sow(p.question for p in cd.load().train[:FEW])
    params = SamplingParams(60, temperature=0.8, top_p=0.95, stats=())
    policy.seed(seed)
    prompts, counts = factory.propose(policy, 200, 1, form, params, torch.Generator().manual_seed(seed))
    solvable = sum(bool(cd.Puzzle.parse(p.question).solutions) for p in prompts)
    after = {
        "well_formed": 1 - counts.get("form", 0) / max(1, counts["written"]),
        "accepted": counts.get("accepted", 0) / max(1, counts["written"]),
        "solvable": solvable / max(1, len(prompts)),
    }
    return {"after": after, "mechanism": {"name": "puzzles written", "count": counts["written"]}}


def closed(results: Results) -> Estimate:
    """The self-judge's gain as a share of the exact verifier's, per seed."""

    def gains(arm: str) -> list[float]:
        before = results.values(arm, S, "before")
        return [b - a for a, b in zip(before, results.values(arm, S), strict=True)]

    return mean_interval([own / ceiling for own, ceiling in zip(gains("self-judge"), gains("verifier"), strict=True)])


def margin_over_chance(results: Results) -> Estimate:
    """Precision of the trained judge minus that of a coin, which is the solve rate of what it judges."""
    pairs = zip(results.values("self-judge", "precision"), results.values("self-judge", S), strict=True)
    return mean_interval([precision - chance for precision, chance in pairs])


PROOF = Proof(
    slug="self-judging",
    id="130",
    claim="Where checking is easier than solving, a model that judges its own answers learns most of what an "
    "exact verifier would teach it.",
    task="embedded:cd",
    main="self-judge",
    gate=gate,
    arms=(
        Arm("self-judge", "self-judging"),
        Arm("verifier", "gold"),
        Arm("frozen-judge", "self-judging", {"judge": "frozen"}),
        Arm("noisy-judge", "self-judging", {"noise": 0.2}),
        Arm("coin", "self-judging", {"coin": True}),
        Arm("full-text-judge", "self-judging", {"shows": "text"}),
        Arm("few-puzzles", "self-judging", settings={"limit": FEW}),
        Arm("own-puzzles", "self-judging", OWN, settings={"limit": FEW}),
        Study("written-puzzles", puzzles),
    ),
    settings={"model": "embedded:cd", "steps": 60, "eval_every": 20, "checkpoint_every": 60},
    curves=("eval/solved", "eval/precision", "eval/recall", "eval/hack", "eval/full hack"),
    rules=(
        Rule(
            "improves",
            "the self-judge ends above the base in true solve rate (lower end of the interval above 0)",
            lambda r: r.gain("self-judge", S),
            lambda e: e.low > 0,
        ),
        Rule(
            "most of the verifier's gain",
            "the self-judge gains at least 60 % of what the exact verifier gains (mean over seeds)",
            closed,
            lambda e: e.value >= 0.6,
        ),
        Rule(
            "hardly hacked",
            "at the best step fewer than 10 % of samples are judged right and are not (mean over seeds)",
            lambda r: r.mean("self-judge", "hack", "best"),
            lambda e: e.value < 0.1,
        ),
        Rule(
            "a coin teaches nothing",
            "the coin of equal yes-rate gains at most 2 points of solve rate (mean over seeds)",
            lambda r: r.gain("coin", S),
            lambda e: e.value <= 0.02,
        ),
        Rule(
            "the judge still sees",
            "the trained judge's precision stays above a coin's (lower end of the interval above 0)",
            margin_over_chance,
            lambda e: e.low > 0,
        ),
    ),
)
