"""What a user gets who installs the wheel, and how little the first command loads."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT

HEAVY = ("torch", "transformers", "matplotlib", "datasets", "peft", "scipy")


def run(code: str, **kwargs: object) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **kwargs)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def loaded_by(code: str) -> set[str]:
    """The heavy packages that are loaded after ``code`` has run in a fresh interpreter."""
    out = run(f"{code}\nimport json, sys\nprint(); print(json.dumps([m for m in {HEAVY} if m in sys.modules]))")
    return set(json.loads(out.splitlines()[-1]))


@pytest.mark.parametrize(
    "module", ["selfreward", "selfreward.types", "selfreward.lab.catalogue.systems", "selfreward.runtime.doctor"]
)
def test_imports_are_light(module: str) -> None:
    assert loaded_by(f"import {module}") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["systems"], ["show", "ssr-zero"], ["train", "--help"]])
def test_commands_that_need_no_model_load_none(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["selfreward", *{arguments}]
from selfreward.cli import main
try:
    main()
except SystemExit:
    pass
"""
    assert loaded_by(code) == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_is_whole_and_small(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "selfreward/py.typed",
        "selfreward/lab/catalogue/systems.csv",
        "selfreward/lab/catalogue/cards.json",
    } <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    for folder, target in (("src/selfreward", "selfreward"), ("evidence", "selfreward/lab/catalogue/evidence")):
        data = [p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix in (".json", ".safetensors", ".html")]
        assert {f"{target}/{p.relative_to(ROOT / folder).as_posix()}" for p in data} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    assert wheel.stat().st_size < 10_000_000


def test_the_licence_is_the_apache_licence(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    licence = next(n for n in archive.namelist() if n.endswith("/LICENSE"))
    metadata = next(n for n in archive.namelist() if n.endswith("/METADATA"))
    assert "Apache License\n                           Version 2.0" in archive.read(licence).decode()
    assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()


def test_an_installed_wheel_knows_its_systems_and_their_evidence(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = """
import json
from selfreward.lab.evidence import record as evidence
from selfreward.lab.catalogue import systems as registry
directories = [str(path) for path in evidence.evidence_directories()]
print(json.dumps([evidence.__file__, directories, registry.systems_json(registry.systems_rows())]))
"""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out = run(code, cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")})
    module, directories, rows = json.loads(out)
    assert module.startswith(str(tmp_path))
    assert directories == [str((tmp_path / "site/selfreward/lab/catalogue/evidence").resolve())]
    known = {row["slug"]: row for row in json.loads(rows)}
    assert len(known) == 183
    recorded = {path.stem for path in (ROOT / "evidence").glob("*.json")} & set(known)
    assert {slug for slug, row in known.items() if "evidence" in row} == recorded
