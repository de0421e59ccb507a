"""A user's reward function, called with whole groups: in a child process, or where it stands."""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfreward.errors import ConfigError
from selfreward.runtime import reward_host
from selfreward.runtime.user_code import UserCodeError, blaming

HOST = Path(__file__).with_name("reward_host.py")


class Takes(NamedTuple):
    """The parameters of a reward function: those a call must have, may have, and whether it takes others as well."""

    required: list[str]
    optional: list[str]
    others: bool


class RewardProcess:
    """A user's reward function in a child process.

    The function is called with trl's convention, group by group: ``function(prompts=[...], completions=[...],
    **columns)`` with lists of one length, and returns one number (or None) per completion. What it prints goes
    to the run's standard error. The child is started at the first call, and again after it was stopped.

    Args:
        spec: ``path/to/file.py:function``; without a function the file's only public one.
        timeout_s: seconds for one call; the import of the file counts as a call of its own.
    """

    def __init__(self, spec: str, timeout_s: float = 60.0) -> None:
        path, _, self.function = spec.partition(":")
        self.path, self.timeout_s = Path(path), timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._left = b""
        self.takes = Takes([], [], True)  # known once the file is imported
        if self.path.suffix != ".py":
            raise ConfigError(f"A reward of your own is given as FILE.py:FUNCTION, not {spec!r}.")
        if not self.path.is_file():
            raise ConfigError(f"Reward file {self.path} does not exist.")

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[str], columns: Mapping[str, Sequence[Any]] | None = None
    ) -> list[float | None]:
        """One value per completion.

        Raises:
            UserCodeError: if the function raises, hangs, dies, or returns anything but one finite number or None
                per completion.
        """
        if self._child is None or self._child.poll() is not None:
            self.start()
        call = {"prompts": list(prompts), "completions": list(completions), **(columns or {})}
        values = self._exchange(json.dumps(call, default=str), "did not return")
        return _checked(values, len(completions), self.describe())

    def describe(self) -> str:
        return f"{self.path}:{self.function}" if self.function else str(self.path)

    def close(self) -> None:
        """End the child. The next call starts a new one."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
        self._child, self._left = None, b""

    def __del__(self) -> None:
        self.close()

    def start(self) -> None:
        """Import the file in a new child.

        Raises:
            UserCodeError: if that fails.
        """
        self.close()
        # -P: our own folder must not come before the standard library.
        command = [sys.executable, "-P", str(HOST), str(self.path.resolve()), self.function]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        found = self._exchange(None, "cannot be imported: it did not end")
        self.function = str(found.pop("name"))
        self.takes = Takes(**found)

    def _exchange(self, line: str | None, late: str) -> Any:
        """Send a line, if any, and read the answer's line."""
        child = self._child
        assert child is not None and child.stdin is not None and child.stdout is not None
        try:
            if line is not None:
                child.stdin.write(line.encode() + b"\n")
                child.stdin.flush()
            answer = self._read(child.stdout.fileno())
        except (BrokenPipeError, EOFError):
            code = child.wait()
            self.close()
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise UserCodeError(f"{self.describe()} ended its process {how}.") from None
        except TimeoutError:
            self.close()
            raise UserCodeError(
                f"{self.describe()} {late} within {self.timeout_s:g} s and was stopped (timeout_s sets the limit)."
            ) from None
        except BaseException:
            self.close()  # an interrupt must not leave half an answer behind
            raise
        found = json.loads(answer)
        if "error" in found:
            raise UserCodeError(found["error"])
        return found["value"]

    def _read(self, handle: int) -> bytes:
        import time

        until = time.monotonic() + self.timeout_s
        while b"\n" not in self._left:
            ready, _, _ = select.select([handle], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError
            piece = os.read(handle, 1 << 16)
            if not piece:
                raise EOFError
            self._left += piece
        answer, _, self._left = self._left.partition(b"\n")
        return answer


class RewardInPlace:
    """The same for a function at hand, which runs in this process: it can hang, and take the run with it."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name
        self.takes = Takes(**reward_host.takes(function))

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[str], columns: Mapping[str, Sequence[Any]] | None = None
    ) -> list[float | None]:
        """One value per completion; see :class:`RewardProcess`."""
        with blaming(f"{self.name} rewarded a group"):
            values = self.function(prompts=list(prompts), completions=list(completions), **(columns or {}))
        try:
            numbers = [None if v is None else float(v) for v in values]
        except (TypeError, ValueError):
            raise UserCodeError(
                f"{self.name} returned {type(values).__name__}; it should return one number (or None) per completion."
            ) from None
        return _checked(numbers, len(completions), self.name)

    def start(self) -> None:
        """Nothing is to be started."""

    def describe(self) -> str:
        return self.name


def _checked(values: Sequence[float | None], n: int, who: str) -> list[float | None]:
    if len(values) != n:
        raise UserCodeError(f"{who} returned {len(values)} values for {n} completions.")
    for i, value in enumerate(values):
        if value is not None and not math.isfinite(value):
            raise UserCodeError(
                f"{who} returned {value} for completion {i}; rewards are finite numbers, or None for no value."
            )
    return list(values)
