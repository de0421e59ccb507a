"""Numbers that go wrong: what counts as a bad update, what is done about it, and what is kept for a look.

An update is bad when its loss or gradient norm is not finite, or when the policy has moved so far from the
behaviour that sampled the batch that the importance ratio means nothing. A bad update changes no weight. It is
counted (``skipped_updates``) and its batch is saved; ``stop`` ends the run at the first, ``skip`` goes on until
``most`` in a row were bad.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from selfreward.errors import TrainingError
from selfreward.runtime import distributed
from selfreward.types import Row

KEPT = 5
CHANNELS = ("tokens", "mask", "advantage", "behaviour", "nll", "kl")


@dataclass
class UpdateGuard:
    """Judges updates.

    Args:
        folder: where batches of bad updates are saved; None saves none.
        action: ``skip`` or ``stop``.
        most: bad updates in a row after which ``skip`` stops, too.
        max_log_ratio: largest mean of |log policy - log behaviour| over the learned tokens, in nats; 0 switches
            the check off.
        describe: a row in words, for the saved batch.
    """

    folder: Path | None = None
    action: Literal["skip", "stop"] = "skip"
    most: int = 10
    max_log_ratio: float = 5.0
    describe: Callable[[Row], str] | None = None
    row: int = 0

    def reason(self, loss: float, grad_norm: float, log_ratio: float) -> str | None:
        """Why an update with these numbers is bad; None for a good one."""
        for name, value in (("loss", loss), ("gradient norm", grad_norm), ("log-ratio to the sampler", log_ratio)):
            if not math.isfinite(value):
                return f"the {name} is {value}"
        if self.max_log_ratio and log_ratio > self.max_log_ratio:
            return (
                f"the policy is {log_ratio:.1f} nats per token away from what sampled the batch "
                f"(max_log_ratio={self.max_log_ratio:g})"
            )
        return None

    def passed(self) -> None:
        """A good update."""
        self.row = 0

    def failed(self, reason: str, update: int, rows: Sequence[Row], numbers: Mapping[str, float]) -> None:
        """A bad update, before anything was changed.

        Raises:
            TrainingError: where the policy is to stop.
        """
        self.row += 1
        wanted = self.folder is not None and distributed.is_main()
        saved = self._save(reason, update, rows, numbers) if wanted else None
        look = f" Its batch is in {saved}." if saved else ""
        if self.action == "stop":
            raise TrainingError(f"Update {update} is bad: {reason}.{look} No weight was changed by it.")
        if self.row >= self.most:
            raise TrainingError(
                f"{self.row} updates in a row are bad, the last because {reason}.{look} No weight was changed by them; "
                "a lower lr, a smaller grad_clip or another dtype is the usual cure."
            )

    def _save(self, reason: str, update: int, rows: Sequence[Row], numbers: Mapping[str, float]) -> Path | None:
        """The batch as safetensors with a JSON beside it; the first few of a run are kept."""
        from safetensors.torch import save_file

        assert self.folder is not None
        target = self.folder / f"update-{update:08d}"
        if not target.exists() and len(list(self.folder.glob("update-*"))) >= KEPT:
            return None
        tensors: dict[str, Tensor] = {}
        for i, row in enumerate(rows):
            channels = {name: getattr(row, name) for name in CHANNELS} | row.extra
            tensors |= {f"{i}.{name}": t.detach().cpu().contiguous().clone() for name, t in channels.items()}
        said: dict[str, Any] = {"update": update, "reason": reason, "numbers": {k: str(v) for k, v in numbers.items()}}
        if self.describe is not None:
            said["texts"] = [self.describe(row) for row in rows]
        try:
            target.mkdir(parents=True, exist_ok=True)
            save_file(tensors, str(target / "rows.safetensors"))
            (target / "update.json").write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")
        except OSError:
            return None  # a look at the batch is worth less than the run
        return target
