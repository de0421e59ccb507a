"""Self-judging (130) on CHAIN, with a base that solves two in five, judges better, and can write problems.

The rules are those of the method card, written down before the run. The card's own task, countdown, has a
proof of its own, ``self-judging-cd``. A CHAIN answer cannot be checked without its working, so the judge sees the
solution. What stands for the judge that can be talked to is the base's *naive* judge,
which believes every guess. A last pair of arms compares sixteen fixed problems with problems that the
model writes itself from those.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Rule
from selfreward.statistics import Estimate, mean_interval
from selfreward.training.comparison import Arm

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy


A = "pass@1"


FEW = {"limit": 16}


def judged(solver: Policy, judge: Policy, prompts: int = 40, samples: int = 4) -> dict[str, float]:
    """What ``judge`` makes of fresh solutions by ``solver`` to development problems.

    ``precision`` and ``recall`` of the verdict "yes", and ``hack``, the share of all solutions that are
    judged right and are not.
    """
    from selfreward.lab.tasks.arithmetic import chain, chain_writer
    from selfreward.policy.sampling.params import SamplingParams

    task = chain_writer.load()
    params = SamplingParams(task.settings["max_new_tokens"], stats=())
    groups = solver.sample(chain_writer.dev(prompts), samples, params, seed=0)
    texts = [(g.prompt.question, c) for g in groups for c in g.completions]
    truth = [task.answers.correct(c, str(g.prompt.answer)) for g in groups for c in g.completions]
    choice = judge.choose([chain.judge_prompt(q, c) for q, c in texts], (chain.YES, chain.NO))
    yes = [i for i, p in enumerate(choice.probs[:, 0].tolist()) if p > 0.5 and task.answers.extract(texts[i][1])]
    hits = sum(truth[i] for i in yes)
    return {
        "precision": hits / max(1, len(yes)),
        "recall": hits / max(1, sum(truth)),
        "hack": (len(yes) - hits) / len(texts),
        "right": sum(truth) / len(texts),
    }


def gate() -> dict[str, Any]:
    """Solver and judge of the base, before any training."""
    from selfreward.policy.loading import load_policy

    base = load_policy("embedded:chain-writer", device="cpu")
    return {name: round(value, 3) for name, value in judged(base, base, prompts=100).items()}


def final(folder: Path) -> dict[str, float]:
    """The trained model as judge of its own fresh solutions, and the base's judgement of the same ones."""
    from selfreward.policy.loading import load_policy

    policy, base = load_policy(str(folder), device="cpu"), load_policy("embedded:chain-writer", device="cpu")
    frozen = judged(policy, base)
    return judged(policy, policy) | {f"frozen {name}": frozen[name] for name in ("precision", "recall", "hack")}


def closed(results: Results) -> Estimate:
    """The self-judge's gain as a share of the exact verifier's, per seed."""

    def gains(arm: str) -> list[float]:
        before = results.values(arm, A, "before")
        return [b - a for a, b in zip(before, results.values(arm, A), strict=True)]

    return mean_interval([own / ceiling for own, ceiling in zip(gains("self-judge"), gains("verifier"), strict=True)])


def margin_over_chance(results: Results) -> Estimate:
    """Precision of the trained judge minus that of a coin, which is the share of right solutions it judges."""
    pairs = zip(results.values("self-judge", "precision"), results.values("self-judge", "right"), strict=True)
    return mean_interval([precision - chance for precision, chance in pairs])


ARMS: Sequence[Arm] = (
    Arm("self-judge", "self-judging"),
    Arm("verifier", "gold"),
    Arm("frozen-judge", "self-judging", {"judge": "frozen"}),
    Arm("noisy-judge", "self-judging", {"noise": 0.2}),
    Arm("coin", "self-judging", {"coin": True}),
    Arm("naive-judge", "self-judging", {"template": "naive-judge"}),
    Arm("few-problems", "self-judging", settings=FEW),
    Arm("own-problems", "self-judging", {"problems": "own"}, settings=FEW),
)


PROOF = Proof(
    slug="self-judging",
    id="130",
    claim="Where checking is easier than solving, a model that judges its own answers learns most of what an "
    "exact verifier would teach it.",
    task="embedded:chain-writer",
    main="self-judge",
    gate=gate,
    final=final,
    arms=ARMS,
    settings={
        "model": "embedded:chain-writer",
        "steps": 30,
        "prompts_per_step": 8,
        "eval_every": 30,
        "eval_prompts": 100,
        "checkpoint_every": 30,
    },
    rules=(
        Rule(
            "improves",
            "the self-judge ends above the base in held-out pass@1 (lower end of the interval above 0)",
            lambda r: r.gain("self-judge", A),
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
            "at the end fewer than 10 % of fresh solutions are judged right and are not (mean over seeds)",
            lambda r: r.mean("self-judge", "hack"),
            lambda e: e.value < 0.1,
        ),
        Rule(
            "a coin teaches nothing",
            "the coin of equal yes-rate gains at most 2 points of pass@1 (mean over seeds)",
            lambda r: r.gain("coin", A),
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
