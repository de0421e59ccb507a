import sys

import pytest

from selfreward.errors import UserError
from selfreward.runtime.sandbox import Limits, run_program

KERNEL = set(run_program("").guards)


def test_a_program_computes_with_the_standard_library():
    outcome = run_program("import json, math, sys; print(json.dumps(math.factorial(int(sys.stdin.read()))))", "20")
    assert outcome.ok and outcome.stdout == "2432902008176640000\n" and outcome.created == {}


def test_a_program_has_a_folder_of_its_own():
    source = "text = open('given.txt').read(); open('made.txt', 'w').write(text.upper())"
    outcome = run_program(source, files={"given.txt": "hi"})
    assert outcome.ok and outcome.created == {"made.txt": "HI"}
    with pytest.raises(UserError, match="plain name"):
        run_program("", files={"../out.txt": ""})


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("while True: pass", "timeout"),
        ("import time; time.sleep(60)", "timeout"),
        ("x = [0] * 10**9", "memory"),
        ("while True: print('x' * 1000)", "output"),
        ("1 / 0", "error"),
        ("def", "error"),
        ("def f(): f()\nf()", "error"),
        ("raise SystemExit(3)", "error"),
        ("print('\\ud800')", "error"),
    ],
)
def test_a_program_that_goes_wrong_is_an_outcome(source, status):
    assert run_program(source, limits=Limits(time_s=1.0)).status == status


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "import os; os.kill(os.getppid(), 9)",
        "import socket; socket.socket()",
        "import ctypes; ctypes.CDLL(None)",
        "open({outside!r}, 'w')",
        "import os; os.remove({outside!r})",
        "import os; os.rename('a', {outside!r})",
        "import os; os.symlink('/', 'root'); open('root' + {outside!r}, 'w')",
    ],
)
def test_what_reaches_outside_is_refused(source, tmp_path):
    outside = tmp_path / "kept.txt"
    outside.write_text("kept")
    outcome = run_program(source.replace("{outside!r}", repr(str(outside))))
    assert outcome.status == "forbidden", outcome.stderr
    assert outside.read_text() == "kept"


def test_secrets_of_the_environment_and_of_other_files_stay_outside(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert "secret" not in run_program("import os; print(dict(os.environ))").stdout
    if "files" in KERNEL:
        (tmp_path / "key").write_text("secret")
        outcome = run_program(f"print(open({str(tmp_path / 'key')!r}).read())")
        assert outcome.status == "forbidden" and "secret" not in outcome.stdout


def test_a_guard_that_is_required_is_there_or_nothing_runs():
    known = Limits(require=tuple(sorted(KERNEL)))
    assert run_program("print(1)", limits=known).ok
    with pytest.raises(UserError, match="cannot guard moon on this machine; nothing was run"):
        run_program("print(1)", limits=Limits(require=("moon",)))


@pytest.mark.skipif(sys.platform != "linux", reason="guards of the Linux kernel")
def test_every_outcome_says_which_guards_were_in_force():
    assert {"network", "files"} >= KERNEL
    assert set(run_program("1 / 0").guards) == KERNEL
