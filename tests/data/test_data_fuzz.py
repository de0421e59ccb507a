"""Whatever a file holds, reading it gives prompts or a :class:`DataError`: never another exception."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from selfreward.data import PromptStream, fingerprint, load_prompts, write_jsonl
from selfreward.errors import DataError
from selfreward.types import Prompt

# Derandomised, so that the suite gives every reader the same verdict.
many = settings(
    max_examples=500, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

NAMES = ("x.jsonl", "x.json", "x.txt", "x.csv", "x.jsonl.gz", "x.json.gz")

COLUMNS = ("prompt", "question", "instruction", "input", "answer", "label")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
messages = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "assistant", "system", "User", ""]) | values,
            "content": st.text(max_size=5) | values,
        },
    )
    | values,
    max_size=3,
)
rows = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(COLUMNS, st.text(max_size=5) | values),
        "messages": messages | values,
        "id": st.text(max_size=1) | st.integers(0, 3) | values,
    },
)
lines = st.one_of(
    rows.map(json.dumps),
    st.text(min_size=1, max_size=5).map(lambda text: json.dumps({"prompt": text})),
    values.map(json.dumps),
    st.text(max_size=20),
    rows.map(json.dumps).flatmap(lambda line: st.integers(0, len(line)).map(lambda cut: line[:cut])),
)


def read(name: str, content: bytes, **options: Any) -> list[Prompt] | None:
    """The prompts of a file, held to the promises that every list of prompts keeps; None on a DataError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            prompts = load_prompts(path, **options)
        except DataError as error:
            assert str(path) in str(error)
            assert len(str(error)) < 4000
            return None
    assert prompts
    assert len({p.id for p in prompts}) == len(prompts)
    for prompt in prompts:
        assert (prompt.text is None) != (prompt.messages is None)
        assert prompt.question.strip()
        assert prompt.reference is None or isinstance(prompt.reference, str)
        prompt.question.encode()
    assert len(fingerprint(prompts)) == 64
    assert len(PromptStream(prompts).next(3)) == 3
    return prompts


@many
@given(st.sampled_from(NAMES), st.lists(lines, max_size=4).map("\n".join))
@example("x.jsonl", '{"prompt": "\\ud800"}')
@example("x.json", "[" * 100_000)
@example("x.json", '[{"prompt": "a", "x": ' + "9" * 5000 + "}]")
@example("x.csv", "prompt\n" + "a" * 200_000)
@example("x.csv", "\n\n,\n1,2,3")
def test_nearly_right_lines(name: str, text: str) -> None:
    read(name, text.encode("utf-8", "replace"))


@many
@given(st.sampled_from(["x.json", "x.json.gz"]), st.lists(rows | values, max_size=4))
def test_nearly_right_arrays(name: str, items: list[Any]) -> None:
    raw = json.dumps(items).encode()
    read(name, gzip.compress(raw) if name.endswith(".gz") else raw)


@many
@given(
    st.sampled_from(NAMES), st.binary(max_size=60), st.sampled_from([b"", b"\x1f\x8b", b"\xef\xbb\xbf", b"\xff\xfe"])
)
def test_any_bytes(name: str, content: bytes, start: bytes) -> None:
    read(name, start + content)


@many
@given(
    st.lists(rows, min_size=1, max_size=3),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=2),
    st.booleans(),
)
def test_damaged_files(items: list[dict[str, Any]], at: int, damage: bytes, compressed: bool) -> None:
    raw = "\n".join(json.dumps(item) for item in items).encode()
    raw = gzip.compress(raw) if compressed else raw
    at %= len(raw)
    read("x.jsonl", raw[:at] + damage + raw[at + 1 :])


@many
@given(st.lists(rows, min_size=1, max_size=3), st.sampled_from([*COLUMNS, "messages", "id", "other"]))
def test_any_column_chosen(items: list[dict[str, Any]], column: str) -> None:
    raw = "\n".join(json.dumps(item) for item in items).encode()
    read("x.jsonl", raw, prompt_field=column)
    read("x.jsonl", raw, answer_field=column)


@many
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.none() | st.text(min_size=1)),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read(pairs: list[tuple[str, str | None]]) -> None:
    good = [(p, a) for p, a in pairs if p.strip() and (a is None or a.strip())]
    if not good:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        write_jsonl(path, [{"prompt": p, "answer": a} for p, a in good])
        assert [(p.text, p.reference) for p in load_prompts(path)] == good
