import json

import pytest
import torch
from safetensors.torch import load_file

from selfreward.errors import CheckpointError, ModelError, TrainingError
from selfreward.training.config import make_config
from selfreward.training.guards import KEPT, UpdateGuard
from selfreward.training.launch import start
from selfreward.training.run_log import RunLog
from selfreward.types import Row

NAN, INF = float("nan"), float("inf")


def rows(n=2):
    return [Row(torch.tensor([1, 2, 3]), *[torch.full((3,), float(i)) for _ in range(5)]) for i in range(n)]


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ((NAN, 1.0, 0.0), "the loss is nan"),
        ((1.0, INF, 0.0), "the gradient norm is inf"),
        ((1.0, 1.0, NAN), "log-ratio to the sampler is nan"),
        ((1.0, 1.0, 5.1), "5.1 nats per token away"),
        ((1.0, 1.0, 4.9), None),
        ((0.0, 0.0, 0.0), None),
    ],
)
def test_what_a_bad_update_is(numbers, reason):
    found = UpdateGuard().reason(*numbers)
    assert found is None if reason is None else reason in found


def test_the_ratio_can_be_left_unwatched():
    assert UpdateGuard(max_log_ratio=0).reason(1.0, 1.0, 100.0) is None


def test_bad_updates_are_skipped_up_to_a_number_in_a_row_and_kept_for_a_look(tmp_path):
    guard = UpdateGuard(tmp_path, most=3, describe=lambda row: "-".join(map(str, row.tokens.tolist())))
    guard.failed("the loss is nan", 7, rows(), {"loss": NAN})
    guard.failed("the loss is nan", 8, rows(), {})
    guard.passed()
    guard.failed("x", 9, rows(), {})
    guard.failed("x", 10, rows(), {})
    with pytest.raises(TrainingError, match=r"3 updates in a row are bad, the last because x.*update-00000011"):
        guard.failed("x", 11, rows(), {})
    saved = load_file(str(tmp_path / "update-00000007" / "rows.safetensors"))
    assert saved["1.advantage"].tolist() == [1.0, 1.0, 1.0] and saved["0.tokens"].tolist() == [1, 2, 3]
    said = json.loads((tmp_path / "update-00000007" / "update.json").read_text())
    assert said["reason"] == "the loss is nan" and said["texts"] == ["1-2-3", "1-2-3"]
    for update in range(20, 30):
        guard.passed()
        guard.failed("x", update, rows(), {})
    assert len(list(tmp_path.iterdir())) == KEPT


def test_stop_means_the_first(tmp_path):
    with pytest.raises(TrainingError, match=r"Update 1 is bad: y. No weight was changed"):
        UpdateGuard(None, "stop").failed("y", 1, rows(), {})


def trainer(folder, **values):
    base = {"recipe": "random", "steps": 2, "prompts_per_step": 4, "eval_prompts": 0, "probe_every": 0}
    return start(make_config({**base, "options": {"group_size": 4}, "out": str(folder / "run"), **values}))


def poison(run, value):
    """Advantages of the first row become ``value`` at every step."""
    collect = run.recipe.collect

    def poisoned(*arguments):
        experience = collect(*arguments)
        experience.rows[0].advantage = torch.where(experience.rows[0].mask > 0, value, 0.0)
        return experience

    run.recipe.collect = poisoned


def test_a_step_with_a_nan_changes_nothing_and_is_counted(tmp_path):
    run = trainer(tmp_path)
    before = {k: v.clone() for k, v in run.policy.state_dict().items()}
    poison(run, NAN)
    run.fit()
    assert all(torch.equal(before[k], v) for k, v in run.policy.state_dict().items())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()][1:]
    assert [r["skipped_updates"] for r in records] == [1.0, 1.0]
    assert len(list((tmp_path / "run" / "bad_updates").iterdir())) == 2


def test_a_run_can_be_told_to_stop_at_a_nan(tmp_path):
    run = trainer(tmp_path, bad_update="stop")
    poison(run, NAN)
    with pytest.raises(TrainingError, match="the loss is nan"):
        run.fit()


def test_a_model_with_damaged_weights_is_named(tmp_path):
    run = trainer(tmp_path)
    with torch.no_grad():
        next(iter(run.policy.parameters())).fill_(NAN)
    with pytest.raises(ModelError, match="NaN or infinite probabilities while sampling"):
        run.fit()


def test_a_full_disk_is_a_sentence(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(CheckpointError, match=r"Cannot write .*metrics.jsonl.*--resume"):
        RunLog(tmp_path, 1).record({"step": 1})


def test_a_sampler_that_disagrees_with_the_trainer_is_named(tmp_path):
    run = trainer(tmp_path, steps=5)
    sample = run.policy.sample

    def stale(*arguments, **named):
        groups = sample(*arguments, **named)
        for trajectory in (t for g in groups for t in g):
            trajectory.last.logprobs = trajectory.last.logprobs - 0.5
        return groups

    run.policy.sample = stale
    run.fit()
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()][1:]
    assert records[0]["sampler_gap"] == pytest.approx(0.5, abs=1e-3)
    [alarm] = [a for r in records for a in r["alarms"] if a["name"] == "sampler-disagrees"]
    assert alarm["statistic"] == "sampler_gap" and not alarm["severe"]
