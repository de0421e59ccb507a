"""Each trap of the doctor, set on purpose."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from selfreward.cli.doctor import render
from selfreward.runtime import doctor
from selfreward.runtime.doctor import Finding, diagnose

HEALTHY: dict[str, Any] = {
    "torch": {
        "version": "2.13.0+cpu",
        "built_for": None,
        "threads": 1,
        "cuda": [],
        "mps": False,
        "bf16": None,
        "cpu": "AVX2",
    },
    "transformers": "5.23.0",
}
BROKEN = {
    "torch": HEALTHY["torch"],
    "transformers_error": "RuntimeError: operator torchvision::nms does not exist",
}


def versions(monkeypatch: pytest.MonkeyPatch, **installed: str) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: installed.get(name.replace("-", "_")))


def torch_with(**changes: Any) -> dict[str, Any]:
    return HEALTHY | {"torch": HEALTHY["torch"] | changes}


def test_this_machine_gets_a_whole_diagnosis() -> None:
    findings = diagnose()
    names = {f.name for f in findings}
    assert {"python", "torch", "transformers", "cpu", "threads", "disk", "cache", "hub", "bf16", "attention"} <= names
    assert {"peft", "datasets", "reasoning-gym", "math-verify", "sacrebleu", "vllm"} <= names
    assert all(f.fix for f in findings if f.level != "ok")


def test_nothing_raises_even_when_every_check_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise OSError("no such machine")

    monkeypatch.setattr(doctor, "probe_imports", dict)
    monkeypatch.setattr(doctor, "_version", broken)
    monkeypatch.setattr(doctor.shutil, "disk_usage", broken)
    findings = diagnose()
    assert any(f.name == "disk" and f.level == "warn" and "no such machine" in f.message for f in findings)
    assert any(f.name == "torch" and f.level == "error" for f in findings)


def test_torchvision_that_breaks_transformers_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, torchvision="0.28.0")
    for finding in doctor.check_vision(BROKEN) + doctor.check_transformers(BROKEN):
        assert finding.level == "error"
        assert "pip uninstall -y torchvision torchaudio torchcodec" in finding.fix
    assert [f.level for f in doctor.check_vision(HEALTHY)] == ["warn"]
    assert [f.level for f in doctor.check_vision(torch_with(built_for="13.0"))] == ["ok"]


def test_transformers_that_fails_without_torchvision_is_reinstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch)
    assert doctor.check_vision(BROKEN) == []
    (finding,) = doctor.check_transformers(BROKEN)
    assert finding.level == "error" and "reinstall" in finding.fix


def test_an_old_transformers_is_a_warning() -> None:
    (finding,) = doctor.check_transformers(HEALTHY | {"transformers": "4.57.1"})
    assert finding.level == "warn" and "4.57.1" in finding.message


def test_the_probe_reports_a_broken_torch_instead_of_dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('half an install')")
    (tmp_path / "transformers.py").write_text("import sys; sys.exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    probe = doctor.probe_imports()
    assert probe == {"torch_error": "RuntimeError: half an install", "transformers_error": "SystemExit: 3"}
    (finding,) = doctor.check_torch(probe)
    assert finding.level == "error" and "half an install" in finding.message


def test_the_probe_survives_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import os; os._exit(139)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor.probe_imports()["torch_error"] == "exit status 139"


def test_names_in_the_folder_that_hide_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_shadowing(tmp_path) == []
    (tmp_path / "torch.py").touch()
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl" / "__init__.py").touch()
    (tmp_path / "datasets").mkdir()
    (tmp_path / "vllm").mkdir()
    versions(monkeypatch, datasets="5.2.0")
    found = {f.message.split()[0 if f.level == "error" else 4]: f.level for f in doctor.check_shadowing(tmp_path)}
    assert found == {"./torch.py": "error", "./trl/__init__.py": "error", "./vllm": "warn"}


def test_parsers_that_do_not_fit_math_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: ["latex2sympy2_extended==1.11.0"])
    versions(monkeypatch, math_verify="0.9.0", latex2sympy2_extended="1.11.0")
    assert doctor.check_parsers() == []
    versions(
        monkeypatch,
        math_verify="0.9.0",
        latex2sympy2_extended="1.0.6",
        omegaconf="2.3",
        antlr4_python3_runtime="4.13.2",
    )
    pinned, antlr = doctor.check_parsers()
    assert (pinned.level, pinned.fix) == ("error", "pip install latex2sympy2_extended==1.11.0")
    assert antlr.level == "warn" and "4.13.2" in antlr.message
    versions(monkeypatch, math_verify="0.9.0", latex2sympy2_extended="1.11.0", latex2sympy2="1.9")
    assert [f.level for f in doctor.check_parsers()] == ["error"]


def test_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert [f.level for f in doctor.check_devices(HEALTHY) if f.name == "cuda"] == ["warn"]
    assert [f.level for f in doctor.check_devices(torch_with(built_for="13.0")) if f.name == "cuda"] == ["warn"]
    seen = doctor.check_devices(torch_with(built_for="13.0", cuda=[["A GPU", 24 * 2**30]], bf16=True))
    assert [(f.level, f.message) for f in seen if f.name == "cuda"] == [("ok", "A GPU, 24 GiB")]


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cores", lambda: 2)
    monkeypatch.setattr(doctor, "_load", lambda: 0.1)
    assert [f.level for f in doctor.check_threads(torch_with(threads=2))] == ["ok"]
    (many,) = doctor.check_threads(torch_with(threads=8))
    assert many.level == "warn" and many.fix == "export OMP_NUM_THREADS=2"
    monkeypatch.setattr(doctor, "_load", lambda: 3.0)
    (busy,) = doctor.check_threads(torch_with(threads=2))
    assert busy.level == "warn" and "load 3.0" in busy.message
    assert [f.level for f in doctor.check_threads(torch_with(threads=1))] == ["ok"]


@pytest.mark.parametrize(("gigabytes", "level"), [(0.5, "error"), (5, "warn"), (50, "ok")])
def test_free_disk(gigabytes: float, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = doctor.shutil._ntuple_diskusage(0, 0, int(gigabytes * 2**30))  # type: ignore[attr-defined]
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert [f.level for f in doctor.check_disk()] == [level]


def test_the_cache_is_looked_up_where_the_hub_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "yet"))
    (finding,) = doctor.check_cache()
    assert (finding.level, finding.message) == ("ok", str(tmp_path / "not" / "yet" / "hub"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = doctor.check_cache()
    assert finding.level == "warn" and str(tmp_path) in finding.message


def test_offline_flags_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for flag in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(flag, raising=False)
    assert "allowed" in doctor.check_hub()[0].message
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (finding,) = doctor.check_hub()
    assert "HF_HUB_OFFLINE" in finding.message and finding.fix == "unset HF_HUB_OFFLINE to download"


def test_the_last_line_says_whether_training_can_start(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=100, file=sys.stdout)
    console.print(render([Finding("ok", "python", "3.12")]))
    assert capsys.readouterr().out.rstrip().endswith("Ready to train.")
    console.print(
        render([Finding("error", "torch", "broken [/red]", "repair it"), Finding("warn", "disk", "low", "free")])
    )
    printed = capsys.readouterr().out
    assert "broken [/red]" in printed and "→ repair it" in printed
    assert printed.rstrip().endswith("1 problem to put right first. 1 warning.")
