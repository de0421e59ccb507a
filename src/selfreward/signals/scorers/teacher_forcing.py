"""The return of whole groups under the rewards that the model's own logits imply.

See :mod:`selfreward.signals.teacher_forcing` for the reward of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfreward.signals.teacher_forcing import step_rewards
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.registry import Scores


def induced_return(run: RunContext, groups: Sequence[Group], value: str = "max") -> Scores:
    """The audit's scorer: the sum of :func:`step_rewards` of every text that ended, under the model as it is."""
    name = f"value_{value}"
    stats = run.stats(groups, ["centred_logit", name])
    return [
        [
            float(step_rewards(s["centred_logit"], s[name]).sum()) if t.finished and len(t.last) else None
            for t, s in zip(g, own, strict=True)
        ]
        for g, own in zip(groups, stats, strict=True)
    ]
