"""The examples of the documents run, and give what they say."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
GIVES = re.compile(r"^(\S.*?)  # = (.*)$")


@pytest.mark.parametrize("page", ["docs/pairs-and-search.md", "docs/python.md", "docs/turns.md"])
def test_examples_run_and_give_what_they_say(page, tmp_path, monkeypatch):
    """Every line ``expression  # = value`` is evaluated once, in its place."""
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    wrong = []

    def compare(line, value, said):
        if repr(value) != said:
            wrong.append(f"{line} gives {value!r}")

    names = {"compare": compare, "__name__": "__main__"}
    for block in blocks:
        checked = [GIVES.sub(lambda m: f"compare({m[0]!r}, ({m[1]}), {m[2]!r})", line) for line in block.splitlines()]
        exec(compile("\n".join(checked), page, "exec", dont_inherit=True), names)
    assert not wrong


def test_links_between_documents_lead_somewhere():
    pages = [
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "evidence" / "README.md",
    ]
    for page in pages:
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} leads to {target}"
