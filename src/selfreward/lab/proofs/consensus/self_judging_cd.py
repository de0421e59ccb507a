"""Self-judging (130) on countdown, the task that its method card names: checking is easier than solving.

The rules are those of the proof on CHAIN, written down before the run; what they measure comes from the task's own
evaluation. The judge sees the extracted answer alone, but for the arm ``whole-text``, whose judge is shown comments
too, and can be talked to with them. Puzzles that the model writes itself are left to the proof on CHAIN. Settings are
the task's own; nothing was tried for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfreward.lab.proofs.common.gates import gate
from selfreward.lab.proofs.consensus.self_judging import PROOF as ON_CHAIN
from selfreward.lab.proofs.consensus.self_judging import rules
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import POINTS, Metric
from selfreward.training.comparison import Arm

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

SOLVED = Metric("solved", "held-out solve rate", POINTS)


def judges_itself(base: Policy) -> dict[str, float]:
    """Solver and judge of the base on development puzzles, before any training."""
    from selfreward.lab.tasks.arithmetic.cd import base as cd_base
    from selfreward.lab.tasks.arithmetic.cd import puzzles as cd

    return cd_base.measure(base, cd.dev(100), samples=4)


ARMS: Sequence[Arm] = (
    Arm("self-judge", "self-judging"),
    Arm("verifier", "gold"),
    Arm("frozen-judge", "self-judging", {"judge": "frozen"}),
    Arm("noisy-judge", "self-judging", {"noise": 0.2}),
    Arm("coin", "self-judging", {"coin": True}),
    Arm("whole-text", "self-judging", {"shows": "text"}),
)

PROOF = Proof(
    slug="self-judging-cd",
    id="130",
    claim=ON_CHAIN.claim,
    task="embedded:cd",
    main="self-judge",
    gate=gate("embedded:cd", judges_itself, digits=3),
    arms=ARMS,
    settings={
        "model": "embedded:cd",
        "steps": 30,
        "prompts_per_step": 8,
        "options": {"group_size": 8},
        "eval_every": 30,
        "checkpoint_every": 30,
        "probe_every": 0,
    },
    rules=rules(SOLVED, right=SOLVED.name),
)
