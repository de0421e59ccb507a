"""Two processes do what one does, and whole groups are seen by every signal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from selfreward.errors import ConfigError
from selfreward.policy import sharding
from selfreward.runtime import distributed
from tests.support import ROOT
from tests.support.models import make_policy

SMALL = ["--set", "prompts_per_step=5", "--set", "eval_prompts=6", "--set", "log_groups=-1", "--set", "eval_samples=2"]


def launch(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *launcher, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )


def train(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return launch(processes, "-m", "selfreward", "train", *arguments)


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def same_runs(one: Path, two: Path) -> None:
    """Equal samples and rewards, and equal updates up to the order of a sum.

    What is sampled after an update (probes, evaluation) may differ where rounding flips a token.
    """
    assert (one / "rollouts.jsonl").read_text() == (two / "rollouts.jsonl").read_text()
    for a, b in zip(records(one), records(two), strict=True):
        assert a.keys() == b.keys()
        sampled_after = {k for k in a if k.startswith(("time/", "probe/", "eval/", "tokens/"))} | {"alarms", "truth"}
        for name in a.keys() - sampled_after:
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-4), name
    first, second = (load_file(str(p / "model" / "model.safetensors")) for p in (one, two))
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("vote", ["--set", "kl=0.1", "--set", "minibatches=2"]),
        ("scpo", []),  # pairs, whose rows must share a forward
    ],
)
def test_two_processes_do_what_one_does(recipe, options, tmp_path):
    common = [recipe, "--steps", "1", "--set", "group_size=5", *SMALL, *options]
    for n in (1, 2):
        done = train(n, *common, "--out", str(tmp_path / str(n)))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("step 1/1") == 1  # one process speaks
    same_runs(tmp_path / "1", tmp_path / "2")


def test_a_run_goes_on_with_another_number_of_processes_and_a_reward_is_asked_once(tmp_path):
    reward = tmp_path / "mine.py"
    reward.write_text(
        "from pathlib import Path\n"
        "def count(prompts, completions):\n"
        "    with Path(__file__).with_suffix('.calls').open('a') as file:\n"
        "        file.write('x')\n"
        "    return [float(len(c)) for c in completions]\n"
    )
    common = ["reward", "--set", f"function={reward}", "--set", "group_size=3", "--set", "checkpoint_every=1", *SMALL]
    done = train(2, *common, "--steps", "1", "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert reward.with_suffix(".calls").read_text() == "x" * 5
    done = train(1, "--resume", str(tmp_path / "two"), "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert train(1, *common, "--steps", "2", "--out", str(tmp_path / "one")).returncode == 0
    same_runs(tmp_path / "one", tmp_path / "two")


def test_sharded_weights_learn_what_whole_ones_do_and_resume(tmp_path):
    """Votes over whole groups, a reference that is a sharded copy, gathered checkpoints, and the final model."""
    common = ["vote", "--set", "kl=0.1", "--set", "group_size=5", "--set", "checkpoint_every=1", *SMALL]
    done = train(2, *common, "--steps", "1", "--set", "shard=true", "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    done = train(2, "--resume", str(tmp_path / "two"), "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert train(1, *common, "--steps", "2", "--out", str(tmp_path / "one")).returncode == 0
    same_runs(tmp_path / "one", tmp_path / "two")


def test_sharding_needs_several_processes(tmp_path):
    with pytest.raises(ConfigError, match="start them with torchrun"):
        sharding.shard(make_policy().model)


def test_an_error_of_the_users_ends_all_processes(tmp_path):
    done = train(2, "vote", "--set", "grop_size=3", "--out", str(tmp_path / "x"))
    assert done.returncode != 0 and "Did you mean 'group_size'?" in done.stderr
    assert not (tmp_path / "x").exists()


UNANIMOUS = """
import torch
from selfreward.runtime import distributed
from selfreward.training.learner import Learner, make_optimizer
from selfreward.losses import PolicyGradient
from selfreward.types import Experience, Row
from tests.support.models import make_policy

distributed.start()
policy = make_policy()
learner = Learner(policy, make_optimizer(policy, 1e-3, (0.9, 0.99), 1e-8, 0.1), lambda update: 1e-3)
mask = torch.tensor([0.0] * 4 + [1.0] * 6)
behaviour = torch.where(mask > 0, torch.nan, 0.0)

def learn(advantages):
    rows = [
        Row(torch.arange(5, 15) + i, mask, a * mask, behaviour.clone(), 0 * mask, 0 * mask)
        for i, a in enumerate(advantages)
    ]
    learner.learn(Experience(rows), [PolicyGradient()], torch.Generator())
    return torch.cat([p.detach().flatten() for p in policy.parameters()]).double()

changed = learn([1.0, -0.5, 0.3])
same = learn([0.0, 0.0, 0.0])
lone = learn([0.0, 0.0, 1.0])  # a row for one of two processes
distributed.agree("the weights", (float(lone.sum()),))
print(float((same - changed).abs().max()), float((lone - same).abs().max()), float(lone.abs().sum()))
distributed.stop()
"""


def test_an_update_without_any_gradient_changes_nothing_on_any_number_of_processes(tmp_path):
    script = tmp_path / "unanimous.py"
    script.write_text(UNANIMOUS)
    found = []
    for n in (1, 2):
        done = launch(n, str(script))
        assert done.returncode == 0, done.stderr
        found.append([float(v) for v in done.stdout.split()])
    assert found[0][0] == found[1][0] == 0  # neither momentum nor weight decay
    assert found[0][1] > 5e-4 and found[0] == pytest.approx(found[1], rel=1e-5)


def test_work_is_divided_by_its_size_and_in_turns_where_it_is_equal(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    assert distributed.shares([1, 1, 1, 1, 1]) == [[0, 2, 4], [1, 3]]
    # 9 | 5, then 3 and 2 to the second (8, 10), then 1 to the first (10, 10)
    assert distributed.shares([1, 9, 2, 5, 3]) == [[0, 1], [2, 3, 4]]
    assert distributed.shares([]) == [[], []]


def test_one_process_is_the_identity(monkeypatch):
    assert sharding.spread([1, 1, 1], lambda mine: [i * i for i in mine]) == [0, 1, 4]
    assert sharding.spread([], lambda mine: pytest.fail("no work")) == []
    with pytest.raises(ValueError, match="2 items gave 1 results"):
        sharding.spread([1, 1], lambda mine: [1])
    assert distributed.once(lambda: 5) == 5 and distributed.any_of(True) and distributed.is_main()
    assert distributed.sum_metrics({"a": 1.0}) == {"a": 1.0}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="torchrun"):
        distributed.start()
