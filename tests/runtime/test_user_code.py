import json
import textwrap

import pytest

from selfreward.cli import main
from selfreward.errors import ConfigError
from selfreward.runtime.reward_process import RewardProcess
from selfreward.runtime.user_code import UserCodeError, blaming, load_module
from selfreward.training.config import make_config
from selfreward.training.launch import start
from tests.support.runs import run_recipe


def write(folder, text, name="mine.py"):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


GOOD = """
import os, sys

def short(prompts, completions, answer=None, twin=None):
    print("prints do no harm")
    assert len(prompts) == len(completions)
    return [-len(c) for c in completions]
"""

BAD = {
    "raises": ("def f(prompts, completions):\n    return 1 / 0", r"mine.py, line 2: ZeroDivisionError"),
    "nan": (
        "def f(prompts, completions):\n    return [float('nan')] * len(completions)",
        "returned nan for completion 0",
    ),
    "short": ("def f(prompts, completions):\n    return [1.0]", "returned 1 values for 2 completions"),
    "text": ("def f(prompts, completions):\n    return ['good'] * len(completions)", "returned a list"),
    "none": ("def f(prompts, completions):\n    pass", "returned a NoneType"),
    "hangs": ("import time\ndef f(prompts, completions):\n    time.sleep(60)", "did not return within 1 s"),
    "dies": ("import os\ndef f(prompts, completions):\n    os.abort()", "ended its process by signal 6"),
    "exits": ("def f(prompts, completions):\n    raise SystemExit(3)", "ended its process with exit code 3"),
    "arguments": ("def f(completions):\n    return []", "TypeError"),
    "import": ("import nowhere_to_be_found\ndef f(prompts, completions): ...", "line 1: ModuleNotFoundError"),
    "syntax": ("def f(:\n", "line 1: SyntaxError"),
    "two": ("def f(): ...\ndef g(): ...", "2 public functions"),
}


def test_a_reward_lives_in_a_process_of_its_own(tmp_path, monkeypatch):
    reward = RewardProcess(str(write(tmp_path, GOOD)))
    assert reward(["p", "p"], ["a", "bb"]) == [-1.0, -2.0]
    assert reward.describe().endswith("mine.py:short")
    values = RewardProcess(f"{write(tmp_path, 'def f(prompts, completions, answer): return [None, 2]', 'o.py')}:f")
    assert values(["p", "p"], ["a", "bb"], {"answer": ["1", "1"]}) == [None, 2.0]


@pytest.mark.parametrize("case", BAD)
def test_a_bad_reward_is_named_and_the_next_call_works(case, tmp_path):
    text, expected = BAD[case]
    path = write(tmp_path, text)
    reward = RewardProcess(str(path), timeout_s=1.0 if case == "hangs" else 20.0)
    with pytest.raises(UserCodeError, match=expected) as error:
        reward(["p", "p"], ["a", "b"])
    assert str(path) in str(error.value)
    path.write_text("def f(prompts, completions): return [1, 2]")
    reward.close()
    assert reward(["p", "p"], ["a", "b"]) == [1.0, 2.0]


def test_a_reward_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        RewardProcess(str(tmp_path / "no.py"))
    with pytest.raises(ConfigError, match=r"FILE.py:FUNCTION"):
        RewardProcess("my_reward")
    with pytest.raises(UserCodeError, match="no function 'g' in it; it has short"):
        RewardProcess(f"{write(tmp_path, GOOD)}:g")(["p"], ["c"])


def test_training_on_a_reward_of_ones_own(tmp_path):
    summary, records = run_recipe(
        "reward", tmp_path, options={"function": f"{write(tmp_path, GOOD)}:short", "columns": "twin"}
    )
    assert summary["labels"] == "none" and summary["mechanism"]["count"] == 2 * 4 * 8
    assert all(r["reward/mean"] < 0 and r["reward/failed_calls"] == 0 for r in records)


def test_asking_for_the_answer_is_declared(tmp_path):
    reward = """
    def right(prompts, completions, answer):
        return [float(answer[0] in c) for c in completions]
    """
    summary, records = run_recipe(
        "reward", tmp_path, options={"function": str(write(tmp_path, reward)), "columns": "answer"}
    )
    assert summary["labels"] == "outcome" and records[-1]["reward/mean"] > 0


FLAKY = """
from pathlib import Path
SEEN = Path(__file__).with_name("seen")

def f(prompts, completions):
    n = int(SEEN.read_text()) + 1 if SEEN.exists() else 1
    SEEN.write_text(str(n))
    if n % 2:
        raise ValueError("odd call")
    return [float(i) if i else None for i in range(len(completions))]
"""


def test_what_fails_is_dropped_or_tried_again_as_it_was_asked(tmp_path):
    flaky = str(write(tmp_path, FLAKY))
    _, records = run_recipe("reward", tmp_path / "d", 1, options={"function": flaky, "on_error": "drop"})
    assert records[0]["reward/dropped_groups"] == 2 and records[0]["reward/failed_calls"] == 2
    assert records[0]["mechanism"] == 2 * 7
    _, records = run_recipe(
        "reward", tmp_path / "r", 1, options={"function": flaky, "on_error": "retry", "missing": "drop"}
    )
    assert records[0]["reward/dropped_groups"] == 0 and records[0]["reward/calls"] == 8
    with pytest.raises(UserCodeError, match="odd call"):
        run_recipe("reward", tmp_path / "s", 1, options={"function": flaky})


def test_a_step_without_any_reward_stops_the_run(tmp_path):
    never = write(tmp_path, "def f(prompts, completions): raise ValueError('never')")
    with pytest.raises(Exception, match=r"No group of step 1 has a reward.*never"):
        run_recipe("reward", tmp_path, 1, options={"function": str(never), "on_error": "drop"})


def test_a_reward_that_cannot_work_is_told_before_the_model_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match="Which reward"):
        start(make_config({"recipe": "reward", "out": str(tmp_path / "x")}))
    broken = write(tmp_path, "import nowhere_to_be_found")
    with pytest.raises(UserCodeError, match="nowhere_to_be_found"):
        start(make_config({"recipe": "reward", "out": str(tmp_path / "x"), "options": {"function": str(broken)}}))
    assert not (tmp_path / "x").exists()


RECIPE = """
from dataclasses import dataclass
from selfreward.recipes.consensus.vote import Vote

@dataclass
class Mine(Vote):
    def collect(self, policy, prompts, run):
        if run.step == 2:
            return {}["missing"]
        return super().collect(policy, prompts, run)
"""


def test_a_recipe_of_ones_own_that_fails_is_named_and_the_run_can_go_on(tmp_path, capsys, monkeypatch):
    path = write(tmp_path, RECIPE)
    out = tmp_path / "x"
    small = ["--set", "prompts_per_step=4", "--set", "eval_prompts=4", "--set", "checkpoint_every=1", "--steps", "3"]
    monkeypatch.setattr("sys.argv", ["selfreward", "train", str(path), "--out", str(out), *small])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = " ".join(capsys.readouterr().err.split())
    assert "mine.py, line 9, in collect: KeyError: 'missing', while collecting step 2" in said
    assert "Traceback" not in said
    path.write_text(path.read_text().replace("run.step == 2", "False"))
    monkeypatch.setattr("sys.argv", ["selfreward", "train", "--resume", str(out)])
    with pytest.raises(SystemExit, match="0"):
        main()
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 3]


def test_a_bug_of_ours_is_not_blamed_on_the_user():
    with pytest.raises(ZeroDivisionError):
        _inside_the_library()


def _inside_the_library():
    from selfreward.statistics import wilson

    with blaming("testing"):
        code = compile("1 / 0", wilson.__code__.co_filename, "exec")
        exec(code)


TASK = """
from selfreward.data.answers import Number
from selfreward.data.task import Task
from selfreward.types import Prompt

def load():
    prompts = [Prompt(f"p{i}", text=f"{i}+1=", reference=str(i + 1)) for i in range(12)]
    return Task("adding", prompts[:8], prompts[8:], Number(), lambda text: True)

def broken():
    raise RuntimeError("the disk is gone")

def nothing():
    return None
"""


def test_a_task_of_ones_own(tmp_path):
    from selfreward.data.answers import Number
    from selfreward.data.task import task_from_file

    path = write(tmp_path, TASK)
    task = task_from_file(str(path))
    assert task.name == "adding" and isinstance(task.answers, Number)
    with pytest.raises(UserCodeError, match=r"line 11, in broken: RuntimeError: the disk is gone"):
        task_from_file(f"{path}:broken")
    with pytest.raises(UserCodeError, match="gave a NoneType, not a Task"):
        task_from_file(f"{path}:nothing")
    with pytest.raises(ConfigError, match=r"no function elsewhere\(\)"):
        task_from_file(f"{path}:elsewhere")


def test_a_file_that_cannot_be_imported(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_module(tmp_path / "no.py", "Task")
    with pytest.raises(UserCodeError, match=r"line 2.*NameError"):
        load_module(write(tmp_path, "\nundefined_name"), "Task")


def test_a_recipe_of_ones_own_that_hangs_is_ended_and_the_run_can_go_on(tmp_path):
    from selfreward.training.launch import resume

    hanging = RECIPE.replace('return {}["missing"]', "__import__('time').sleep(60)")
    path = write(tmp_path, hanging)
    values = {"recipe": str(path), "steps": 2, "prompts_per_step": 2, "eval_prompts": 0, "probe_every": 0}
    run = start(make_config({**values, "step_timeout_s": 8.0, "checkpoint_every": 1, "out": str(tmp_path / "x")}))
    with pytest.raises(UserCodeError, match=r"mine.py, line 9, in collect: not done within 8 s .*collecting step 2"):
        run.fit()
    path.write_text(hanging.replace("run.step == 2", "False"))
    again, _ = resume(tmp_path / "x", [])
    assert again.step == 1 and again.fit()["steps"] == 2
