"""Code that users bring: loaded from a file, blamed by file and line, and, for rewards, run in a process of its own.

A reward function can raise, return the wrong thing, hang or take its process down with it; none of these may
take the training run along. :class:`RewardProcess` keeps the function in a child process and turns each of
them into :class:`UserCodeError`, a sentence with the place in the user's file.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import select
import signal
import subprocess
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from selfreward.errors import ConfigError, RecipeError, UserError

HOST = Path(__file__).with_name("reward_host.py")
_OURS = str(Path(__file__).parent) + os.sep
_LIBRARIES = tuple(str(Path(sysconfig.get_path(p))) + os.sep for p in ("stdlib", "platstdlib", "purelib", "platlib"))


class UserCodeError(RecipeError):
    """The user's own code failed; the message names the place in it."""


def load_module(path: Path, what: str) -> ModuleType:
    """Import a user's file.

    Args:
        what: what the file holds, for the message ("Recipe", "Task").

    Raises:
        ConfigError: if the file does not exist.
        UserCodeError: if it cannot be imported.
    """
    if not path.is_file():
        raise ConfigError(f"{what} file {path} does not exist.")
    spec = importlib.util.spec_from_file_location(f"selfreward_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        place = _place(error) or (f"line {error.lineno}" if isinstance(error, SyntaxError) else "")
        where = f" ({place})" if place else ""
        raise UserCodeError(f"{what} file {path} cannot be imported{where}: {_said(error)}") from error
    return module


def named_function(spec: str, option: str) -> Callable[..., Any]:
    """The importable function that ``module:function`` names.

    Args:
        option: the user's option, for the error.

    Raises:
        ConfigError: if there is no such function.
    """
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(f"{option}={spec!r} names no function; write module:function.") from None
    if not callable(found):
        raise ConfigError(f"{option}={spec!r} is not a function.")
    return found  # type: ignore[no-any-return]


@contextmanager
def blaming(doing: str) -> Iterator[None]:
    """Errors that arise in a user's file become :class:`UserCodeError`; a bug of ours stays what it is.

    Args:
        doing: what was being done, for the message: "collecting step 7".
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = _place(error)
        if place is None:
            raise
        raise UserCodeError(f"{place}: {_said(error)}, while {doing}.") from error


@contextmanager
def within(seconds: float, doing: str) -> Iterator[None]:
    """End the block with :class:`UserCodeError` after ``seconds``; 0 waits for ever.

    Works by a timer signal: in the main thread, where the system has one, and not inside a call into C that never
    returns. The message names the innermost line of the user's file that was running, if one was.
    """
    if seconds <= 0 or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        found = _foreign(traceback.extract_stack(frame))
        # What called the trainer is no suspect: only frames below this block are.
        place = f"{found[-1].filename}, line {found[-1].lineno}, in {found[-1].name}: " if len(found) > above else ""
        raise UserCodeError(f"{place}not done within {seconds:g} s (step_timeout_s), while {doing}.")

    above = len(_foreign(traceback.extract_stack()))
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _said(error: BaseException) -> str:
    text = str(error).strip().rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException) -> str | None:
    """The innermost called frame that lies in neither this package nor a library; None if there is none."""
    # Neither the guard nor the guarded block itself.
    frames = _foreign(traceback.extract_tb(error.__traceback__)[2:])
    return f"{frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name}" if frames else None


def _foreign(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Frames of neither this package nor a library."""
    ours = (_OURS, *_LIBRARIES, "<")
    return [f for f in frames if not f.filename.startswith(ours) and "site-packages" not in f.filename]


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
        who = self.describe()
        if len(values) != len(completions):
            raise UserCodeError(f"{who} returned {len(values)} values for {len(completions)} completions.")
        for i, value in enumerate(values):
            if value is not None and not math.isfinite(value):
                raise UserCodeError(
                    f"{who} returned {value} for completion {i}; rewards are finite numbers, or None for no value."
                )
        return list(values)

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
        self.function = str(self._exchange(None, "cannot be imported: it did not end"))

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
