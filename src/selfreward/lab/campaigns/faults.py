"""What a run relies on breaks: the user's reward, the judge's server, the disk.

Each faulty run is compared with one in which nothing broke. Where a fault can be mended by trying again, the
two must be bit-equal; where it stops the run, it must stop with a sentence of ours, and the resumed run must be
bit-equal; where a policy drops something, exactly that must be counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selfreward.errors import UserError
from selfreward.lab.campaigns import Case, child, ended, go, kill, trace
from selfreward.runtime.files import read_jsonl, write_text

LONGEST_S = 300.0
USER_ERROR = 2  # exit code of a child that ended in a sentence of ours

REWARD = """
    import os, random, time
    from pathlib import Path

    HERE = Path(__file__)
    KINDS = ("raise", "nan", "short", "type", "hang", "die", "exit", "none")

    def reward(prompts, completions):
        setup = HERE.with_suffix(".setup").read_text().split()
        share, seed = float(setup[0]), setup[1]
        count = HERE.with_suffix(".count")
        n = int(count.read_text()) + 1 if count.exists() else 1
        count.write_text(str(n))
        fault = lambda k: random.Random(f"{seed}/{k}").random() < share and (k == 1 or not fault(k - 1))
        if fault(n):
            kind = random.Random(f"{seed}/{n}/kind").choice(KINDS)
            with HERE.with_suffix(".log").open("a") as log:
                log.write(kind + "\\n")
            if kind == "raise":
                raise ValueError("a fault")
            if kind == "hang":
                time.sleep(60)
            if kind == "die":
                os.abort()
            if kind == "exit":
                raise SystemExit(1)
            return {"nan": [float("nan")] * len(completions), "short": [1.0], "type": ["x"] * len(completions),
                    "none": None}[kind]
        return [float(len(c) % 3) for c in completions]
"""


def run(out: Path, size: int, seed: int = 0, say: Callable[[str], None] = print) -> dict[str, Any]:
    """``size`` faulty runs, spread over the kinds. Returns the content of ``evidence/faults.json``."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    draw = random.Random(seed)
    kinds: dict[str, Callable[[Path, random.Random], dict[str, int]]] = {
        "reward-retry": lambda folder, r: _reward(folder, r, "retry"),
        "reward-stop": lambda folder, r: _reward(folder, r, "stop"),
        "reward-drop": lambda folder, r: _reward(folder, r, "drop"),
        "server-mended": lambda folder, r: _server(folder, r, lasting=0.0),
        "server-lasting": lambda folder, r: _server(folder, r, lasting=0.3),
        "server-gone": _server_gone,
        "disk-full": _disk,
    }
    table = {name: {"runs": 0, "faults": 0, "as_promised": 0} for name in kinds}
    failures: list[str] = []
    for i in range(size):
        name = list(kinds)[i % len(kinds)]
        folder = out / f"{name}-{i}"
        folder.mkdir()
        try:
            found = kinds[name](folder, random.Random(draw.random()))
        except AssertionError as error:
            found = {"faults": 0}
            failures.append(f"{name}-{i}: {error}")
        else:
            table[name]["as_promised"] += 1
            shutil.rmtree(folder)
        table[name]["runs"] += 1
        table[name]["faults"] += found["faults"]
        bad = bool(failures) and failures[-1].startswith(f"{name}-{i}:")
        say(f"{i + 1} of {size}, {failures[-1] if bad else f'{name}: as promised'}")
    return {
        "runs": size,
        "faults": sum(row["faults"] for row in table.values()),
        "as_promised": sum(row["as_promised"] for row in table.values()),
        "lost": len(failures),
        "kinds": table,
        "failures": failures,
        "seed": seed,
        "command": f"selfreward campaign faults --size {size} --seed {seed}",
    }


def _finish(values: dict[str, Any], log: Path, before: Callable[[], None] | None = None) -> tuple[int, str]:
    """Begin or continue a run in a child; 0, or :data:`USER_ERROR` with the sentence.

    Raises:
        AssertionError: if the run ends in any other way, or not at all.
    """

    def work() -> None:
        try:
            if before is not None:
                before()
            go(values)
        except UserError as error:
            log.write_text(str(error), encoding="utf-8")
            os._exit(USER_ERROR)

    log.unlink(missing_ok=True)
    pid = child(work, log)
    code = ended(pid, LONGEST_S)
    if code is None:
        kill(pid)
        raise AssertionError(f"hung for {LONGEST_S} s")
    said = log.read_text(encoding="utf-8") if log.exists() else ""
    assert code in (0, USER_ERROR), f"exit code {code}: {said}"
    return code, said


# ---- the user's reward ------------------------------------------------------------------------------


def _reward(folder: Path, draw: random.Random, policy: str) -> dict[str, int]:
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(REWARD))
    options = {"function": f"{path}:reward", "on_error": policy, "timeout_s": 2.0}
    case = Case("reward", {"steps": 3, "checkpoint_every": 1}, options)
    setup = path.with_suffix(".setup")
    setup.write_text("0 0")
    assert _finish(case.config(folder / "whole"), folder / "log")[0] == 0, "the healthy run stopped"
    for name in (".count", ".log"):
        path.with_suffix(name).unlink(missing_ok=True)
    setup.write_text(f"{0.2 if policy != 'stop' else 0.1} {draw.random()}")
    values, stops = case.config(folder / "run"), 0
    while True:
        code, said = _finish(values, folder / "log")
        if code == 0:
            break
        assert policy == "stop" and "mine.py" in said, f"stopped with: {said}"
        stops += 1
        assert stops < 50, "does not get on"
    faults = path.with_suffix(".log").read_text().split() if path.with_suffix(".log").exists() else []
    if policy == "drop":
        records = read_jsonl(folder / "run" / "metrics.jsonl")[1:]
        dropped = sum(r["reward/dropped_groups"] for r in records)
        assert dropped == len(faults), f"{len(faults)} faults, {dropped} groups dropped"
    else:
        same = _without(trace(folder / "run"), "reward/") == _without(trace(folder / "whole"), "reward/")
        assert same, "differs from the run without faults"
    return {"faults": len(faults)}


def _without(found: dict[str, Any], prefix: str) -> dict[str, Any]:
    """A trace without the counts of calls, which faults may change."""
    counts = ("reward/calls", "reward/failed_calls")
    return {**found, "metrics": [{k: v for k, v in r.items() if k not in counts} for r in found["metrics"]]}


# ---- the judge's server -----------------------------------------------------------------------------


def serve(port_file: Path, seed: str, share: float, lasting: float, counts: Path) -> None:
    """A judge whose answer depends on the question alone, with faults that depend on question and attempt."""
    attempts: dict[str, int] = {}
    faults = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, json.dumps({"data": [{"id": "judge"}]}))

        def do_POST(self) -> None:
            text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
            attempts[text] = attempts.get(text, 0) + 1
            score = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10  # within any judge's scale
            good = json.dumps({"choices": [{"message": {"content": f"Score: {score}"}}]})
            draw = random.Random(f"{seed}/{text}/{attempts[text]}")
            forever = random.Random(f"{seed}/{text}").random() < lasting
            if not forever and (attempts[text] > 2 or draw.random() >= share):
                return self._answer(200, good)
            faults[0] += 1
            counts.write_text(str(faults[0]))
            kind = draw.choice(("500", "503", "429", "half", "nonsense", "close", "slow", "empty", "wrong"))
            if kind in ("500", "503"):
                return self._answer(int(kind), "")
            if kind == "429":
                return self._answer(429, "", {"Retry-After": "0.05"})
            if kind == "close":
                return self.connection.close()
            if kind == "slow":
                time.sleep(4.0)
                return None
            body = {"half": good[: len(good) // 2], "nonsense": "<html>", "empty": "", "wrong": '{"choices": []}'}
            return self._answer(200, body[kind])

        def _answer(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):  # the client hung up, or we did
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", int(port_file.read_text()) if port_file.exists() else 0), Handler)
    write_text(port_file, str(server.server_port))
    server.serve_forever()


class _Serving:
    """A server in a forked process, for the time of a block."""

    def __init__(self, folder: Path, seed: str, share: float, lasting: float) -> None:
        self.port, self.counts = folder / "port", folder / "counts"
        self.counts.unlink(missing_ok=True)
        self.arguments = (self.port, seed, share, lasting, self.counts)
        self.log = folder / "server.log"

    def __enter__(self) -> _Serving:
        self.pid = child(lambda: serve(*self.arguments), self.log)
        until = time.monotonic() + 30
        while not self.port.exists():
            assert time.monotonic() < until, "the server does not come up"
            time.sleep(0.01)
        time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        kill(self.pid)

    @property
    def faults(self) -> int:
        return int(self.counts.read_text()) if self.counts.exists() else 0


def _patient() -> None:
    """Short pauses, so that a campaign does not last a day; the number of tries is the default."""
    from selfreward.runtime.endpoint import Endpoint

    original = Endpoint.__init__

    def shorter(self: Endpoint, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self.pause_s, self.timeout_s = 0.01, 2.0

    Endpoint.__init__ = shorter  # type: ignore[method-assign]


def _judged(folder: Path, parse: str) -> Case:
    port = (folder / "port").read_text()
    options = {"judge": f"http://127.0.0.1:{port}/v1", "parse": parse}
    return Case("ssr-zero", {"model": "embedded:trans", "max_new_tokens": 12, "steps": 2}, options)


def _server(folder: Path, draw: random.Random, lasting: float) -> dict[str, int]:
    seed = str(draw.random())
    with _Serving(folder, seed, 0.0, 0.0):
        case = _judged(folder, "drop")
        assert _finish(case.config(folder / "whole"), folder / "log", _patient)[0] == 0, "the healthy run stopped"
    with _Serving(folder, seed, 0.4, lasting) as server:
        code, said = _finish(case.config(folder / "run"), folder / "log", _patient)
        faults = server.faults
    assert code == 0, f"stopped with: {said}"
    records = read_jsonl(folder / "run" / "metrics.jsonl")[1:]
    failed = sum(r["judge/parse_failures"] for r in records)
    if lasting:
        lines = read_jsonl(folder / "run" / "rollouts.jsonl")
        kept = sum(len(line["completions"]) for line in lines)
        assert failed > 0 and kept + failed >= 2 * 4 * 4, f"{failed} unanswered, {kept} completions kept"
    else:
        assert failed == 0, f"{failed} questions stayed unanswered"
        assert trace(folder / "run") == trace(folder / "whole"), "differs from the run without faults"
    return {"faults": faults}


def _server_gone(folder: Path, draw: random.Random) -> dict[str, int]:
    seed = str(draw.random())
    with _Serving(folder, seed, 0.0, 0.0):
        case = _judged(folder, "drop")
        assert _finish(case.config(folder / "whole"), folder / "log", _patient)[0] == 0, "the healthy run stopped"
    code, said = _finish(case.config(folder / "run"), folder / "log", _patient)
    assert code == USER_ERROR and "127.0.0.1" in said, f"a dead server: {code}, {said}"
    with _Serving(folder, seed, 0.0, 0.0):
        code, said = _finish(case.config(folder / "run"), folder / "log", _patient)
    assert code == 0, f"did not go on: {said}"
    assert trace(folder / "run") == trace(folder / "whole"), "differs from the run without faults"
    return {"faults": 1}


# ---- the disk ---------------------------------------------------------------------------------------


def _disk(folder: Path, draw: random.Random) -> dict[str, int]:
    """Files cannot grow beyond a random size; then they can again."""
    case = Case("vote", {"steps": 3, "checkpoint_every": 1}, {})
    assert _finish(case.config(folder / "whole"), folder / "log")[0] == 0, "the healthy run stopped"
    sizes = sorted(p.stat().st_size for p in (folder / "whole").rglob("*") if p.is_file())
    limit = draw.randrange(100, sizes[-1])

    def narrow() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    values = case.config(folder / "run")
    log = folder / "log"
    code, said = _finish(values, log, narrow)
    assert code == USER_ERROR, f"a disk that takes no file above {limit} bytes went unnoticed ({sys.platform})"
    assert "annot write" in said, f"stopped with: {said}"
    code, said = _finish(values, log)
    assert code == 0, f"did not go on: {said}"
    assert trace(folder / "run") == trace(folder / "whole"), "differs from the run without faults"
    return {"faults": 1}
