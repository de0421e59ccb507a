"""The inside of the sandbox: put the limits on, then run the program. Only the standard library is at hand.

Run by :func:`selfreward.runtime.sandbox.run_program` as a script, with its settings as one JSON argument.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import sysconfig
from typing import Any

MISSING = 97
# Landlock (Linux 5.13 and newer): system call numbers, and file rights as bits.
CREATE, ADD, RESTRICT = 444, 445, 446
READ = 1 | 1 << 2 | 1 << 3  # execute, read files, list folders
OF_A_FILE = 0b111 | 1 << 14 | 1 << 15  # what can be granted on a file: execute, write, read, truncate, ioctl
ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
USER_AND_NETWORK = 0x10000000 | 0x40000000

REFUSED = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.kill",
    "os.killpg",
    "os.putenv",
    "pty.",
    "socket.",
    "ctypes.",
    "mmap.",
    "sys.setprofile",
    "sys.settrace",
    "gc.get_objects",
    "gc.get_referrers",
    "code.__new__",
    "signal.pthread_kill",
)
CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.utime",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def limit(settings: dict[str, Any]) -> None:
    """The kernel's limits on this process."""
    import resource

    cpu = int(settings["time_s"]) + 1
    for name, value in (
        ("RLIMIT_CPU", cpu),
        ("RLIMIT_AS", settings["memory_mb"] << 20),
        ("RLIMIT_FSIZE", settings["file_mb"] << 20),
        ("RLIMIT_NOFILE", settings["files"]),
        ("RLIMIT_NPROC", 0),
        ("RLIMIT_CORE", 0),
    ):
        kind = getattr(resource, name, None)
        if kind is not None:
            with contextlib.suppress(ValueError, OSError):  # a stricter limit is in force already
                resource.setrlimit(kind, (value, value))


def no_network(libc: Any) -> bool:
    """An empty network namespace: not even a loopback that is up."""
    return sys.platform == "linux" and libc.unshare(USER_AND_NETWORK) == 0


def only_own_files(libc: Any, readable: list[str], writable: list[str]) -> bool:
    """Landlock: read the standard library and the program, write the own folder, see nothing else."""
    if sys.platform != "linux":
        return False
    abi = libc.syscall(CREATE, None, 0, 1)
    if abi < 1:
        return False
    everything = ALL_BY_ABI[min(abi, 5)]

    class Ruleset(ctypes.Structure):
        _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]

    class Beneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]

    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = Ruleset(everything, 0b11, 0b11)  # no TCP, and no signals or abstract sockets to the outside
    handle = libc.syscall(CREATE, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    if handle < 0:
        return False
    for paths, rights in ((readable, READ), (writable, everything)):
        for path in paths:
            if not os.path.exists(path):
                continue
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
            mine = rights if os.path.isdir(path) else rights & OF_A_FILE & everything
            rule = Beneath(mine, parent)
            added = libc.syscall(ADD, handle, 1, ctypes.byref(rule), 0)
            os.close(parent)
            if added != 0:
                return False
    PR_SET_NO_NEW_PRIVS = 38
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return libc.syscall(RESTRICT, handle, 0) == 0


def fence(folder: str) -> None:
    """The audit hook. It cannot be taken off again."""
    real, join, sep = os.path.realpath, os.path.join, os.sep
    inside = folder + sep

    def mine(path: Any) -> bool:
        if isinstance(path, int):
            return True
        found = real(join(folder, os.fsdecode(path)))
        return found == folder or found.startswith(inside)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(REFUSED):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open" and arguments[2] & WRITING and not mine(arguments[0]):
            raise PermissionError(f"writing {arguments[0]!r} is not allowed here")
        if event in CHANGES and not all(mine(a) for a in arguments[:2] if isinstance(a, str | bytes)):
            raise PermissionError(f"{event} outside of the own folder is not allowed here")

    sys.addaudithook(hook)


def main() -> None:
    settings = json.loads(sys.argv[1])
    folder = os.path.realpath(os.getcwd())
    with open(settings["program"], encoding="utf-8") as file:
        source = file.read()
    libraries = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "/lib", "/lib64", "/usr/lib"}
    libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    guards = []
    if libc is not None and no_network(libc):
        guards.append("network")
    with open(settings["guards"], "w") as file:  # before the files are out of reach
        readable = [p for p in libraries if p] + ["/dev/urandom", "/usr/share/zoneinfo", "/etc/localtime"]
        if libc is not None and only_own_files(libc, readable, [folder, "/dev/null"]):
            guards.append("files")
        file.write(" ".join(guards))
    missing = [name for name in settings["require"] if name not in guards]
    if missing:
        sys.stderr.write(f"The sandbox cannot guard {' and '.join(missing)} on this machine; nothing was run.")
        sys.exit(MISSING)
    if os.name == "posix":
        limit(settings)
    program = compile(source, "program.py", "exec")
    sys.argv = ["program.py"]
    fence(folder)
    exec(program, {"__name__": "__main__", "__builtins__": __builtins__})


main()
