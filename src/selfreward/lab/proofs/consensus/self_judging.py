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
from typing import TYPE_CHECKING

from selfreward.lab.proofs.common.gates import gate
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import (
    PASS_AT_1,
    PERCENT,
    Metric,
    Rule,
    closes,
    does_not_gain,
    ends_with,
    gains,
    measured,
)
from selfreward.training.comparison import Arm

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

HACK = Metric("hack", "a hack rate (the share of fresh solutions that it judges right and are not)", PERCENT)
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


def judges_itself(base: Policy) -> dict[str, float]:
    """Solver and judge of the base, before any training."""
    return judged(base, base, prompts=100)


def final(folder: Path) -> dict[str, float]:
    """The trained model as judge of its own fresh solutions, and the base's judgement of the same ones."""
    from selfreward.policy.loading import load_policy

    policy, base = load_policy(str(folder), device="cpu"), load_policy("embedded:chain-writer", device="cpu")
    frozen = judged(policy, base)
    return judged(policy, policy) | {f"frozen {name}": frozen[name] for name in ("precision", "recall", "hack")}


def rules(solves: Metric, right: str) -> tuple[Rule, ...]:
    """The method card's rules on a task measured by ``solves``; ``right`` names the share of right solutions."""
    return (
        gains("improves", "self-judge", solves),
        closes("most of the verifier's gain", "self-judge", "verifier", solves, at_least=0.6),
        ends_with("hardly hacked", "self-judge", HACK, below=0.1),
        does_not_gain(
            "a coin teaches nothing", "coin", solves, within=0.02, note="coin: says yes as often as the judge"
        ),
        measured(
            "the judge still sees",
            "the trained judge's precision minus that of a coin, which is the share of right solutions,",
            lambda r: r.values("self-judge", "precision") - r.values("self-judge", right),
            above=0,
            end="low",
        ),
    )


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
    gate=gate("embedded:chain-writer", judges_itself, digits=3),
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
    rules=rules(PASS_AT_1, right="right"),
)
