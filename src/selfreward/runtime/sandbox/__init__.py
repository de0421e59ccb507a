"""Programs that a model wrote, run in a process of their own with limits.

    outcome = run_program("print(6 * 7)")
    outcome.ok, outcome.stdout        # True, "42\\n"

What holds a program back, from the outside in: a fresh interpreter without the user's packages and
environment, in an empty folder; a wall clock and the kernel's limits on processor time, memory, file size
and open files; on Linux no network (a network namespace of its own) and no files but the standard library's,
to read, and the folder's own (Landlock); everywhere an audit hook in the interpreter that refuses processes,
sockets, foreign memory and writing outside the folder. The hook alone is a fence and no wall:
:attr:`Outcome.guards` says which of the kernel's guards were in force, and ``Limits.require`` refuses to run
without them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from selfreward.errors import UserError

Status = Literal["ok", "error", "timeout", "memory", "output", "forbidden", "killed"]
INSIDE = Path(__file__).parent / "inside.py"


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        time_s: wall clock; processor time is limited to the next whole second.
        memory_mb: address space, the interpreter's own 30 MB or so included.
        file_mb: size of any file that it writes, its output included.
        files: open files.
        require: guards of the kernel without which nothing is run: ``"network"``, ``"files"``.
    """

    time_s: float = 5.0
    memory_mb: int = 512
    file_mb: int = 4
    files: int = 32
    require: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        status: ``ok``; ``error`` (an exception or a non-zero exit); ``timeout``; ``memory``; ``output`` (wrote
            more than it may); ``forbidden`` (tried what is not allowed); ``killed`` (by another signal).
        stderr: what it wrote there; the last line names the exception.
        guards: the kernel's guards that were in force (``network``, ``files``).
        created: files that it left in its folder, by name, with their text.
    """

    status: Status
    stdout: str
    stderr: str
    returncode: int
    guards: tuple[str, ...] = ()
    created: Mapping[str, str] | None = None

    @property
    def ok(self) -> bool:
        return self.status == "ok"


def run_program(
    source: str, stdin: str = "", limits: Limits | None = None, files: Mapping[str, str] | None = None
) -> Outcome:
    """Run Python source text and wait for its end. Never raises for what the program does.

    Args:
        stdin: what the program reads.
        files: text files that lie in its folder at the start, by plain name.

    Raises:
        UserError: if a guard that ``limits.require`` names is not to be had on this machine, or a file's name
            is not a plain one.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="selfreward-") as home:
        folder, work = Path(home), Path(home) / "work"
        work.mkdir()
        given = dict(files or {})
        for name, text in given.items():
            if Path(name).name != name or name in ("", ".", ".."):
                raise UserError(f"A program's file must have a plain name, not {name!r}.")
            (work / name).write_text(text, encoding="utf-8")
        (folder / "program.py").write_text(source, encoding="utf-8", errors="replace")
        (folder / "stdin").write_text(stdin, encoding="utf-8", errors="replace")
        setup = json.dumps({**asdict(limits), "program": str(folder / "program.py"), "guards": str(folder / "guards")})
        with (
            (folder / "stdin").open("rb") as reads,
            (folder / "stdout").open("wb") as out,
            (folder / "stderr").open("wb") as err,
        ):
            process = subprocess.Popen(
                # -I: neither the user's site-packages nor environment; -S: no site-packages at all; -B: no caches.
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(INSIDE), setup],
                stdin=reads,
                stdout=out,
                stderr=err,
                cwd=work,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
            try:
                process.wait(timeout=limits.time_s)
                late = False
            except subprocess.TimeoutExpired:
                late = True
            _end(process)
        guards = (folder / "guards").read_text().split() if (folder / "guards").exists() else []
        code, most = process.returncode, limits.file_mb << 20
        stdout, stderr = (_text(folder / name, most) for name in ("stdout", "stderr"))
        if code == MISSING:
            raise UserError(stderr.strip())
        created = {p.name: _text(p, most) for p in sorted(work.iterdir()) if p.is_file() and p.name not in given}
        return Outcome(_status(code, late, stderr), stdout, stderr, code, tuple(guards), created)


MISSING = 97  # the exit code of inside.py when a required guard is not to be had


def _status(code: int, late: bool, stderr: str) -> Status:
    last = stderr.strip().rpartition("\n")[2]
    if late or code == -signal.SIGXCPU:
        return "timeout"
    if code == 0:
        return "ok"
    if code == -signal.SIGXFSZ or "File too large" in last:
        return "output"
    if last.startswith("MemoryError"):
        return "memory"
    if last.startswith("PermissionError"):
        return "forbidden"
    return "killed" if code < 0 else "error"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def _text(path: Path, most: int) -> str:
    with path.open("rb") as file:
        return file.read(most).decode("utf-8", errors="replace")
