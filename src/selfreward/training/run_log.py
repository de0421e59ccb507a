"""The two logs of a run folder: ``metrics.jsonl``, one object per step, and ``rollouts.jsonl``, one per group."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import CheckpointError
from selfreward.runtime import distributed
from selfreward.runtime.files import truncate_jsonl
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.data.answers import AnswerSpace


class RunLog:
    """Appends whole lines, in the first process only; what was written after the last checkpoint is cut off on resume.

    Args:
        groups_per_step: groups written per step, -1 for all.
    """

    def __init__(self, folder: Path, groups_per_step: int) -> None:
        self.metrics, self.rollouts = folder / "metrics.jsonl", folder / "rollouts.jsonl"
        self.groups_per_step = groups_per_step

    def record(self, record: Mapping[str, Any]) -> None:
        """One step.

        Raises:
            CheckpointError: if it cannot be written.
        """
        self._append(self.metrics, [json.dumps({k: _plain(v) for k, v in record.items()})])

    def groups(self, step: int, groups: Sequence[Group], answers: AnswerSpace) -> None:
        """The first groups of a step, with texts, rewards and what the recipe noted.

        Raises:
            CheckpointError: if they cannot be written.
        """
        limit = len(groups) if self.groups_per_step < 0 else self.groups_per_step
        lines = []
        for group in groups[:limit]:
            completions = [
                {
                    "text": t.completion,
                    "reward": t.reward,
                    "answer": answers.extract(t.completion),
                    "tokens": len(t.last),
                    "finished": t.finished,
                    **t.meta,
                }
                for t in group
            ]
            row = {"step": step, "group": group.key, "prompt": group.prompt.question, "completions": completions}
            lines.append(json.dumps(row | group.meta, ensure_ascii=False, default=str))
        self._append(self.rollouts, lines)

    def cut(self, step: int) -> None:
        """Forget what was written after ``step``; nothing is then logged twice."""
        for path in (self.metrics, self.rollouts) if distributed.is_main() else ():
            truncate_jsonl(path, step)

    @staticmethod
    def _append(path: Path, lines: Sequence[str]) -> None:
        if not distributed.is_main():
            return
        try:
            # A lone surrogate from a user's data must not end the run.
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(line + "\n" for line in lines))
        except OSError as error:
            raise CheckpointError(
                f"Cannot write {path}: {error}. The run stops; make room, then continue it with --resume."
            ) from error


def _plain(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) and abs(value) > 1e-3 else value
