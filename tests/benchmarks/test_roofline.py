"""The roofline benchmark runs on any device, against peaks that it measures itself."""

from __future__ import annotations

import json
import runpy
import sys

import pytest

from tests.support import ROOT


def test_sampling_and_training_stay_below_their_rooflines(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    out = tmp_path / "roofline.json"
    given = ["--device", "cpu", "--batch", "4", "--new", "12", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["roofline.py", *given])
    runpy.run_path(str(ROOT / "benchmarks" / "roofline.py"), run_name="__main__")
    found = json.loads(out.read_text())
    (decode,), (train,) = found["decode"], found["train"]
    assert decode["share"] == pytest.approx(decode["tokens_per_s"] / decode["roofline_tokens_per_s"])
    assert 0 < decode["share"] < 1.5 and 0 < train["share"] < 1.5 and found["parameters"] > 100_000
    assert "of the bandwidth roofline" in capsys.readouterr().out
