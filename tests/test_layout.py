"""The house keeps its order: the product stands without the lab, files and functions stay readable, rooms say what
they are.
Which room may import which is checked by ``lint-imports`` (pyproject.toml)."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.models import save_model

SOURCE = ROOT / "src" / "selfreward"
FILES = sorted(SOURCE.rglob("*.py"))

# Longest file and function that a reader still takes in at once, docstrings included.
FILE_LINES, FUNCTION_LINES = 400, 60


def here(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


# ---- the product without the lab ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``PYTHONPATH`` that holds the package without the lab."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(SOURCE, site / "selfreward", ignore=lambda folder, names: {"__pycache__", "lab"} & set(names))
    return site


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and prompts with answers."""
    folder = tmp_path_factory.mktemp("work")
    save_model(folder / "llama")
    rows = [{"prompt": f"{i}+1=", "answer": str((i + 1) % 10)} for i in range(30)]
    (folder / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def selfreward(product: Path, work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "selfreward", *arguments],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(product)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_product_trains_without_the_lab(product, work):
    small = ["prompts_per_step=4", "group_size=4", "max_new_tokens=4", "eval_samples=2", "answers=regex:(\\d)"]
    sets = [part for setting in small for part in ("--set", setting)]
    done = selfreward(
        product, work, "train", "vote", "--model", "llama", "--data", "my.jsonl", "--out", "x", "--steps", "2", *sets
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((work / "x" / "summary.json").read_text())
    assert (summary["recipe"], summary["steps"], summary["labels"]) == ("vote", 2, "none")
    assert (work / "x" / "report.html").is_file() and (work / "x" / "model" / "model.safetensors").is_file()


def test_without_the_lab_an_embedded_task_is_refused_in_one_sentence(product, work):
    done = selfreward(product, work, "train", "vote", "--model", "embedded:chain", "--out", "y")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("selfreward: embedded: needs selfreward.lab.embedded")
    assert "Traceback" not in done.stderr and not (work / "y").exists()


def test_without_the_lab_the_command_line_offers_what_is_there(product, work):
    offered = selfreward(product, work, "--help").stdout
    assert "train" in offered and "audit" in offered
    assert "reproduce" not in offered and "zoo" not in offered
    refused = selfreward(product, work, "zoo")
    assert refused.returncode == 2 and "No such command 'zoo'" in refused.stderr


# ---- readable at once --------------------------------------------------------------------------------

# What is longer, and why it is one thing all the same.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "losses/policy_gradient.py:policy_gradient": "most of it says which variant is which paper's equation",
    "rollouts/tree_search.py:search": "the four phases of a tree search, in their order",
    "signals/vote.py:vote": "most of it is worked examples",
}


def functions() -> Iterator[tuple[str, int]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{here(path)}:{node.name}", node.end_lineno - node.lineno + 1


def test_files_are_short_or_say_why_not():
    long = {here(p) for p in FILES if len(p.read_text(encoding="utf-8").splitlines()) > FILE_LINES}
    assert long == set(LONG_FILES)


def test_functions_are_short_or_say_why_not():
    long = {name for name, lines in functions() if lines > FUNCTION_LINES}
    assert long == set(LONG_FUNCTIONS)


# ---- rooms say what they are -------------------------------------------------------------------------


def test_every_package_has_a_docstring():
    packages = [p for p in FILES if p.name == "__init__.py"]
    assert [here(p) for p in packages if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))] == []


def test_every_file_says_what_it_is():
    silent = []
    for path in FILES:
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        dotted = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        # Neither nothing, nor the own name again, nor history.
        if not said or said.strip(".").lower() == dotted or said.startswith("Moved"):
            silent.append(here(path))
    assert silent == []


def test_recipes_and_their_proofs_stand_in_families_of_the_same_name():
    families = {p.name for p in (SOURCE / "recipes").iterdir() if (p / "__init__.py").is_file()}
    proofs = {p.name for p in (SOURCE / "lab" / "proofs").iterdir() if (p / "__init__.py").is_file()}
    assert proofs <= families
