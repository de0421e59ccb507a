"""Code that users bring: loaded from a file, stopped when it is late, and blamed by file and line.

What goes wrong in it becomes a :class:`UserCodeError`, a sentence with the place in the user's file. Reward functions
have a process of their own: :mod:`selfreward.runtime.reward_process`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from selfreward.errors import ConfigError, RecipeError, UserError

_OURS = str(Path(__file__).parents[1]) + os.sep
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
