"""Does a server compute what the trainer computes? Judged by log-probabilities of the same tokens."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from selfreward.errors import TrainingError

OnStale = Literal["stop", "warn"]
# Mean |difference| of log-probabilities per token (nats) that two programs with the same weights may have.
TOLERANCE, TOLERANCE_HALF = 0.002, 0.05


@dataclass
class Agreement:
    """The last word on whether a server is stale, and what is done about it.

    Args:
        url: of the server, for messages.
        tolerance: mean |difference| of log-probabilities per token, in nats, beyond which the server is stale.
        on_stale: ``stop`` raises; ``warn`` says so once and goes on.

    Attributes:
        numbers: what was found, for the metrics.
        tied: whether the model's word embeddings are its output head, a known cause of stale servers.
        stale: whether the last comparison found the server stale.
    """

    url: str
    tolerance: float = TOLERANCE
    on_stale: OnStale = "stop"
    numbers: dict[str, float] = field(default_factory=dict)
    tied: bool = False
    stale: bool = False

    def judge(self, gaps: Tensor, of: str, when: str, speaks: bool) -> None:
        """Say that the server is stale, or that it no longer is.

        Args:
            gaps: float ``[N]``, |difference| of log-probabilities, in nats.
            of: what was compared.
            when: on which occasion.
            speaks: whether a warning is this process's to give: each alone has seen what it sampled.

        Raises:
            TrainingError: if it is stale, with ``on_stale="stop"``.
        """
        mean = float(gaps.mean())
        stale = not mean <= self.tolerance  # NaN is stale, too
        self.numbers["engine/stale"] = float(stale)
        if not stale:
            self.stale = False
            return
        said = (
            f"The server at {self.url} does not compute what the trainer computes: {when}, the "
            f"log-probabilities of {of} are {mean:.3f} nats apart on average (largest {float(gaps.max()):.3f}; "
            f"engine_tolerance is {self.tolerance:g}). {self._cause()}"
        )
        if self.on_stale == "stop":
            raise TrainingError(said)
        if not self.stale and speaks:
            print(f"warning: {said} Going on, because engine_stale=warn.", file=sys.stderr)
        self.stale = True

    def _cause(self) -> str:
        cure = "Start the server with `selfreward serve MODEL`, or train with --engine local."
        if self.tied:
            return (
                "The model's word embeddings are tied, which is a known cause: vLLM on CPUs keeps a copy of the output "
                "head from its start and a reload does not replace it. `selfreward serve MODEL` writes the model with "
                "a head of its own, which does not have this fault; start the server so, or train with --engine local."
            )
        return f"It holds other weights or another number format. {cure}"
