"""A small piece of each campaign; the whole ones run by ``selfreward campaign``."""

from __future__ import annotations

import random

import pytest

from selfreward.lab.campaigns import crashes, faults, inputs, soak


def test_killed_and_resumed_runs_are_bit_equal(tmp_path):
    cases = {name: crashes.CASES[name] for name in ("vote", "vote-adapt")}
    found = crashes.run(tmp_path / "x", 5, seed=3, cases=cases, say=lambda text: None)
    assert found["kills"] >= 5 and found["inside_writing"] > 0
    assert found["lost"] == 0 and found["bit_equal"] == found["runs"] > 0


def test_a_run_that_differs_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(crashes, "trace", lambda folder: folder.name)
    found = crashes.run(tmp_path / "x", 1, cases={"vote": crashes.CASES["vote"]}, say=lambda text: None)
    assert found["lost"] == found["runs"] == 1 and found["differing"] == ["vote, run 1"]


@pytest.mark.parametrize("kind", ["disk", "retry", "stop"])
def test_faults_are_mended_or_told(kind, tmp_path):
    draw = random.Random(1)
    found = faults._disk(tmp_path, draw) if kind == "disk" else faults._reward(tmp_path, draw, kind)
    assert found["faults"] > 0


def test_damaged_inputs_are_read_or_refused(tmp_path):
    found = inputs.run(tmp_path / "x", 60, seed=1, say=lambda text: None)
    assert found["lost"] == 0, found["failures"]
    for row in found["kinds"].values():
        assert row["inputs"] == 20 and row["read"] > 0 and row["refused"] > 0


def test_nesting_without_end_is_refused(tmp_path):
    from selfreward.errors import ConfigError, ModelError
    from selfreward.policy.loading import check_model
    from selfreward.training.config import read_config

    (tmp_path / "config.yaml").write_text("[" * 5000)
    with pytest.raises(ConfigError, match="not readable YAML"):
        read_config(tmp_path / "config.yaml")
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(ModelError, match="not readable JSON"):
        check_model(str(tmp_path))


def test_an_unexpected_exception_is_a_failure_of_the_campaign(tmp_path):
    def broken(folder, draw):
        raise ZeroDivisionError("oops")

    assert "ZeroDivisionError: oops" in inputs._verdict(tmp_path / "w", broken, "0")


def test_memory_is_what_the_system_says():
    before = soak.resident_mb()
    held = bytearray(64 << 20)
    assert soak.resident_mb() > before + 32 and len(held)


def test_a_soak_is_drawn_and_the_others_are_not(tmp_path):
    from selfreward.errors import DataError
    from selfreward.lab.campaigns.figure import memory_figure

    points = [{"seconds": 60.0 * i, "step": i, "mb": 400.0} for i in range(3)]
    soaked = {"points": points, "steps": 2000, "minutes": 2, "growth": 0.001}
    text = memory_figure(soaked, tmp_path / "x.svg").read_text()
    assert "2,000 steps in 2 minutes, growth +0.1 %" in text
    with pytest.raises(DataError, match="no points"):
        memory_figure({"points": []}, tmp_path / "x.svg")
