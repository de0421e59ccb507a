"""Whole or as before: what is on disk after a write that ended, and after one that failed."""

from __future__ import annotations

import json

import pytest

from selfreward.runtime.files import last_record, read_jsonl, truncate_jsonl, whole_file, whole_folder, write_text


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_text_is_written_whole_with_the_folders_above_it(tmp_path):
    path = write_text(tmp_path / "a" / "b.txt", "one")
    assert path.read_text() == "one"
    assert write_text(path, "two").read_text() == "two"
    assert names(path.parent) == ["b.txt"]
    assert write_text(path, "lone \ud800", errors="replace").read_text() == "lone ?"


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = write_text(tmp_path / "x", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    with pytest.raises(RuntimeError), whole_file(path) as partial:
        partial.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old" and names(tmp_path) == ["x"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_folder_takes_its_name_once_it_is_whole(tmp_path, durable):
    final = tmp_path / "model"
    for text in ("first", "second"):
        with whole_folder(final, durable) as partial:
            (partial / "weights").write_text(text)
            assert not (final / "weights").exists() or (final / "weights").read_text() == "first"
    with pytest.raises(RuntimeError), whole_folder(final, durable) as partial:
        (partial / "weights").write_text("third")
        raise RuntimeError
    assert (final / "weights").read_text() == "second" and names(tmp_path) == ["model"]


def test_logs_are_read_and_cut_by_lines_not_by_separators_inside_texts(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    records = [{"step": step, "text": "one\u2028two\x85three\x0cfour"} for step in range(4)]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    assert read_jsonl(path) == records and last_record(path) == records[-1]
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "te')
    assert last_record(path) == records[-1]
    truncate_jsonl(path, 2)
    assert read_jsonl(path) == records[:3]
    assert last_record(tmp_path / "absent") is None
    truncate_jsonl(tmp_path / "absent", 1)
    assert names(tmp_path) == ["rollouts.jsonl"]


def test_the_last_record_of_a_long_log_is_found_from_its_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": i}) + "\n" for i in range(10_000)))
    assert last_record(path) == {"step": 9_999}
    path.write_text("[1]\n")
    assert last_record(path) is None
