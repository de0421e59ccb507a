"""Chain-steep: chains of which half are solved and half nearly hopeless, and nothing lies between.

Questions and answers are those of :mod:`selfreward.lab.tasks.arithmetic.chain_wide`, from its two ends: short chains
(2 and 3 operations), which the base always works out and hardly ever gets wrong, and long ones (7 to 9), which it works
out one time in twenty-five and otherwise gives up. Under equal shares most groups of either kind agree with
themselves: there is nothing to learn from the short ones, and mostly nothing was found for the long ones. Nobody
practises chains of middle length, so that the worked style of the long ones can only come from their own successes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Within
from selfreward.lab.tasks.arithmetic import chain_wide
from selfreward.lab.tasks.arithmetic.chain_wide import Corpus, evaluate
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.tasks.splits import Split

ENDS = ("easy", "hard")
SETTINGS: dict[str, Any] = dict(chain_wide.SETTINGS)


def prompts_of(split: Split, n: int, label: str = "") -> list[Prompt]:
    """``n`` problems, short and long ones taking turns."""
    return chain_wide.prompts_of(split, n, f"steep-{label or split}", ENDS)


@cache
def load() -> Task:
    """1200 training and 300 test prompts; any first part of them is half short, half long."""
    from selfreward.data.answers import Regex

    return Task(
        name="chain-steep",
        train=prompts_of("train", 1200),
        test=prompts_of("test", 300),
        answers=Regex(r"#(\d)"),
        well_formed=chain_wide.well_formed,
        settings=dict(SETTINGS),
        templates=dict(chain_wide.TEMPLATES),
        evaluator=lambda policy: evaluate(policy, load().test),
    )


BASE = chain_wide.base_on(
    "chain-steep",
    Corpus(worked=(1.0, 0.45, 0.04), guess=(0.0, 0.25, 0.05), slip=0.002),
    (
        Within("easy/pass@1", low=0.97),
        Within("hard/pass@1", 0.02, 0.09),
        Within("hard/worked accuracy", low=0.75),
    ),
)
"""The short ones solved, the long ones rarely right although the skill is there."""
