"""Prompts from every source, what bad data is answered with, and the order of dealing."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from selfreward.data import PromptStream, check_lengths, fingerprint, load_prompts, split_holdout, write_jsonl
from selfreward.errors import CheckpointError, ConfigError, DataError
from selfreward.types import Prompt
from tests.support import ROOT

GSM8K = [
    {
        "question": "Tom has 3 bags of 4 apples. He eats 2. How many are left?",
        "answer": "He has 3 * 4 = <<3*4=12>>12 apples.\nThen 12 - 2 = <<12-2=10>>10.\n#### 10",
    },
    {
        "question": "A pen costs $1.50. What do two cost?",
        "answer": "Two cost 2 * 1.5 = $<<2*1.5=3>>3.\n#### 3",
    },
]


def saved(path: Path, *lines: object) -> Path:
    """A file of the lines given, each a string or a value to write as JSON."""
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return path


def complaint(path: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load_prompts(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


def numbered(n: int) -> list[Prompt]:
    return [Prompt(str(i), text=f"{i}+1=") for i in range(n)]


class TestRows:
    def test_a_plain_prompt_with_everything(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "p.jsonl", {"prompt": "2+3=", "answer": 5, "id": "a", "level": 1})
        (prompt,) = load_prompts(path)
        assert prompt == Prompt("a", text="2+3=", reference="5", fields={"level": 1})

    def test_messages(self, tmp_path: Path) -> None:
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+3=", "name": None}]
        (prompt,) = load_prompts(saved(tmp_path / "p.jsonl", {"messages": turns}))
        assert prompt.text is None
        assert prompt.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+3="})
        assert prompt.question == "2+3="

    def test_a_conversational_prompt_column_is_messages(self, tmp_path: Path) -> None:
        (prompt,) = load_prompts(saved(tmp_path / "p.jsonl", {"prompt": [{"role": "user", "content": "hi"}]}))
        assert prompt.messages == ({"role": "user", "content": "hi"},)

    def test_gsm8k_rows_keep_the_whole_answer(self, tmp_path: Path) -> None:
        first, second = load_prompts(saved(tmp_path / "p.jsonl", *GSM8K))
        assert first.question.startswith("Tom has 3 bags")
        assert first.answer is not None and first.answer.endswith("#### 10")
        assert (first.id, second.id) == ("1", "2")

    def test_columns_are_tried_in_order_and_the_others_become_fields(self, tmp_path: Path) -> None:
        row = {"source": "amc", "solution": "long", "problem": "1+1", "answer": "2"}
        (prompt,) = load_prompts(saved(tmp_path / "p.jsonl", row))
        assert (prompt.text, prompt.answer) == ("1+1", "2")
        assert prompt.fields == {"source": "amc", "solution": "long"}

    def test_chosen_columns_win(self, tmp_path: Path) -> None:
        row = {"prompt": "no", "messages": [], "q": "1+1", "answer": "no", "gold": 2.5}
        (prompt,) = load_prompts(saved(tmp_path / "p.jsonl", row), prompt_field="q", answer_field="gold")
        assert (prompt.text, prompt.answer) == ("1+1", "2.5")
        assert prompt.fields == {"prompt": "no", "messages": [], "answer": "no"}

    @pytest.mark.parametrize(
        ("value", "answer"),
        [
            (1000, "1000"),
            (2.5, "2.5"),
            (True, "true"),
            (None, None),
            ("", None),
            (" x ", " x "),
            (10**30, "1" + 30 * "0"),
        ],
    )
    def test_answers_become_text(self, tmp_path: Path, value: object, answer: str | None) -> None:
        (prompt,) = load_prompts(saved(tmp_path / "p.jsonl", {"prompt": "x", "answer": value}))
        assert prompt.answer == answer

    def test_missing_ids_are_line_numbers_of_the_file(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "p.jsonl", "", {"prompt": "a"}, "", {"prompt": "b", "id": 7}, {"prompt": "c"})
        assert [p.id for p in load_prompts(path)] == ["2", "7", "5"]

    def test_limit_reads_no_further(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b"}, "{broken")
        assert [p.text for p in load_prompts(path, limit=2)] == ["a", "b"]
        with pytest.raises(ConfigError, match="at least 1"):
            load_prompts(path, limit=0)


class TestFiles:
    def test_every_format_says_the_same(self, tmp_path: Path) -> None:
        pq = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        rows = [{"prompt": "é, 2+3=", "answer": "5"}, {"prompt": "say \u2028 it", "answer": None}]
        write_jsonl(tmp_path / "p.jsonl", rows)
        write_jsonl(tmp_path / "p.jsonl.gz", rows)
        (tmp_path / "p.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        (tmp_path / "p.csv").write_text('prompt,answer\r\n"é, 2+3=",5\r\n"say \u2028 it",\r\n', encoding="utf-8-sig")
        pq.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
        for name in ("p.jsonl", "p.jsonl.gz", "p.json", "p.csv", "p.parquet"):
            prompts = load_prompts(tmp_path / name)
            assert [(p.text, p.answer) for p in prompts] == [("é, 2+3=", "5"), ("say \u2028 it", None)], name

    def test_text_has_one_prompt_per_line(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_bytes("2+3=\r\n\r\n 4+é=\n".encode())
        assert [(p.id, p.text) for p in load_prompts(tmp_path / "p.txt")] == [("1", "2+3="), ("3", " 4+é=")]

    def test_a_byte_order_mark_and_windows_lines_are_fine(self, tmp_path: Path) -> None:
        (tmp_path / "p.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt": "b"}\r\n')
        assert [p.text for p in load_prompts(tmp_path / "p.jsonl")] == ["a", "b"]

    def test_compression_is_seen_from_the_content(self, tmp_path: Path) -> None:
        (tmp_path / "zipped.jsonl").write_bytes(gzip.compress(b'{"prompt": "a"}'))
        (tmp_path / "plain.jsonl.gz").write_bytes(b'{"prompt": "a"}')
        assert load_prompts(tmp_path / "zipped.jsonl") == load_prompts(tmp_path / "plain.jsonl.gz")

    @pytest.mark.parametrize("size", ["train", "test"])
    def test_the_real_gsm8k_files_load(self, size: str) -> None:
        root = Path(os.environ.get("SELFREWARD_DATA") or ROOT.parent / "shared" / "data")
        path = root / "gsm8k" / f"{size}.jsonl.gz"
        if not path.exists():
            pytest.skip(f"no {path}; set SELFREWARD_DATA to a folder with gsm8k/{size}.jsonl.gz")
        prompts = load_prompts(path)
        assert len(prompts) > 1000
        assert all(p.answer is not None and "\n#### " in p.answer for p in prompts)


class TestProblems:
    @pytest.mark.parametrize(
        ("row", "parts"),
        [
            ('{"prompt": "a" "b"}', ["line 1, column 16", "malformed JSON", "delimiter"]),
            ("{", ["line 1, column 2", "at the end of the line"]),
            ([1], ["line 1", "a list, not an object", ".json"]),
            ("7", ["line 1", "the number 7", "an object like"]),
            ({}, ["neither 'prompt' nor 'messages'", "columns: none"]),
            ({"promt": "x"}, ["neither 'prompt' nor 'messages'", "'promt' meant to be 'prompt'"]),
            ({"prompt": "x", "messages": []}, ["both 'prompt' and 'messages'", "prompt_field"]),
            ({"prompt": 5}, ["field 'prompt'", "the number 5", "a string"]),
            ({"prompt": " \n"}, ["field 'prompt'", "is empty"]),
            ({"prompt": "\ud83d"}, ["\\ud83d", "surrogate"]),
            ({"prompt": "x", "answer": [1]}, ["field 'answer'", "the list [1]", "a string or a number"]),
            ({"prompt": "x", "answer": {"a": 1}}, ["field 'answer'", "the object", "a string or a number"]),
            ('{"prompt": "x", "answer": NaN}', ["field 'answer'", "nan"]),
            ({"prompt": "x", "id": 1.5}, ["field 'id'", "the number 1.5"]),
            ({"messages": "hi"}, ["field 'messages'", "belongs in 'prompt'"]),
            ({"messages": {"role": "user"}}, ["field 'messages'", "a list of messages"]),
            ({"messages": []}, ["field 'messages'", "an empty list"]),
            ({"messages": ["hi"]}, ["field 'messages[0]'", "the string 'hi'", '"role": "user"']),
            ({"messages": [{"content": "hi"}]}, ["field 'messages[0]'", "no 'role'"]),
            ({"messages": [{"role": "user"}]}, ["field 'messages[0]'", "no 'content'"]),
            ({"messages": [{"role": "user", "content": None}]}, ["field 'messages[0].content'", "null", "a string"]),
            ({"messages": [{"role": "usr", "content": "x"}]}, ["field 'messages[0].role'", "'usr'", "'user'"]),
            (
                {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
                ["field 'messages[1].role'", "'assistant'", "from 'user'"],
            ),
            ({"messages": [{"role": "user", "content": ""}]}, ["field 'messages[0].content'", "is empty"]),
            ({"instruction": "Translate.", "input": "hello"}, ["'instruction' and 'input'", "prompt_field"]),
            ('{"prompt": ' + "[" * 100_000, ["nested too deeply"]),
            ('{"prompt": ' + "9" * 5000 + "}", ["too many digits"]),
        ],
    )
    def test_each_names_line_field_and_remedy(self, tmp_path: Path, row: object, parts: list[str]) -> None:
        path = saved(tmp_path / "my.jsonl", row)
        message = complaint(path)
        for part in [str(path), "line 1", *parts]:
            assert part in message

    def test_chosen_columns_that_are_missing(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "my.jsonl", {"query": "x", "gold": "1"})
        assert "field 'querry' (chosen as prompt_field): is missing. Did you mean 'query'?" in complaint(
            path, prompt_field="querry"
        )
        assert "field 'golt' (chosen as answer_field): is missing. Did you mean 'gold'?" in complaint(
            path, prompt_field="query", answer_field="golt"
        )

    def test_duplicate_ids_name_both_lines(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "my.jsonl", {"prompt": "a", "id": "x"}, {"prompt": "b"}, {"prompt": "c", "id": "x"})
        assert "line 3, field 'id': 'x' is already the id of line 1" in complaint(path)
        path = saved(tmp_path / "my.jsonl", {"prompt": "a", "id": 2}, {"prompt": "b"})
        assert "line 2, field 'id': '2' is already the id of line 1" in complaint(path)

    def test_up_to_five_problems_and_their_number(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "my.jsonl", *[{"prompt": i} for i in range(7)], {"prompt": "fine"})
        message = complaint(path)
        assert message.startswith(f"{path}: 7 problems; the first 5:\n  line 1, field 'prompt'")
        assert message.count("\n") == 5

    @pytest.mark.parametrize(
        ("name", "content", "part"),
        [
            ("p.jsonl", b"", "is empty"),
            ("p.jsonl", b"\n \n", "is empty"),
            ("p.json", b"[]", "has no rows"),
            ("p.csv", b"prompt,answer\n", "has no rows"),
            ("p.jsonl", b'{"prompt": "a"}\n{"prompt": "caf\xe9"}', "line 2, byte 16: not UTF-8 (byte 0xe9)"),
            ("p.txt", "hé".encode("utf-16"), "UTF-16"),
            ("p.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
            ("p.jsonl.gz", gzip.compress(b'{"prompt": "a"}' * 99, mtime=0)[:40], "compression is broken"),
            ("p.json", b'[{"prompt": "a"},\n {]', "line 2, column 3: malformed JSON"),
            ("p.json", b'[{"prompt": "a"}, 5]', "item 2, the row is the number 5"),
            ("p.csv", b"prompt,answer\na,1,2\n", "line 2, the row has more cells than the header, which has 2"),
            ("p.csv", b'prompt\n"a" b\n', "malformed CSV"),
            ("p.parquet", b"PAR1 no", "not a readable parquet file"),
            ("p.yaml", b"prompt: a", "unknown kind of file, its name ends in '.yaml'"),
            ("p", b"a", "no ending"),
        ],
    )
    def test_files_that_are_no_good(self, tmp_path: Path, name: str, content: bytes, part: str) -> None:
        (tmp_path / name).write_bytes(content)
        message = complaint(tmp_path / name)
        assert part in message
        assert str(tmp_path / name) in message

    def test_a_missing_file_is_not_looked_up_on_the_hub(self, tmp_path: Path) -> None:
        saved(tmp_path / "train.jsonl", {"prompt": "a"})
        message = complaint(tmp_path / "trian.jsonl")
        assert "file not found" in message and f"Near names in {tmp_path}: train.jsonl" in message
        assert "Data files in" in complaint(tmp_path / "zzz.csv")
        assert "no folder" in complaint(tmp_path / "nowhere" / "x.jsonl")
        assert "file not found" in complaint("./prompts")

    def test_a_directory(self, tmp_path: Path) -> None:
        saved(tmp_path / "train.jsonl", {"prompt": "a"})
        message = complaint(tmp_path)
        assert "is a directory" in message and "train.jsonl" in message

    def test_a_misspelt_source(self) -> None:
        assert "Did you mean 'embedded:chain'?" in complaint("embeded:chain")
        assert "Did you mean 'reasoning-gym:chain_sum'?" in complaint("reasoning_gym:chain_sum")

    def test_options_that_mean_nothing_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="split='test' means nothing"):
            load_prompts(saved(tmp_path / "p.jsonl", {"prompt": "a"}), split="test")
        with pytest.raises(ConfigError, match="prompt_field='x' means nothing"):
            load_prompts("embedded:chain", prompt_field="x")


class TestReasoningGym:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("reasoning_gym")

    def test_prompts_with_answers(self) -> None:
        prompts = load_prompts("reasoning-gym:chain_sum?seed=7&size=3&min_terms=2&max_terms=2")
        assert [p.id for p in prompts] == ["chain_sum-7-0", "chain_sum-7-1", "chain_sum-7-2"]
        assert all(p.answer is not None and p.fields["metadata"]["num_terms"] == 2 for p in prompts)
        assert prompts == load_prompts("reasoning-gym:chain_sum?seed=7&size=3&min_terms=2&max_terms=2")
        for limit in (4, 501):
            assert len(load_prompts("reasoning-gym:chain_sum", limit=limit)) == limit

    @pytest.mark.parametrize("task", ["boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"])
    def test_tasks_without_an_answer_have_no_reference(self, task: str) -> None:
        for prompt in load_prompts(f"reasoning-gym:{task}", limit=2):
            assert prompt.answer is None
            assert "no answer of its own" in prompt.fields["note"]

    def test_mistakes(self) -> None:
        assert "Did you mean 'chain_sum'?" in complaint("reasoning-gym:chain_sun")
        assert "Did you mean 'max_terms'?" in complaint("reasoning-gym:chain_sum?max_term=3")
        assert "max_terms must be >= min_terms" in complaint("reasoning-gym:chain_sum?min_terms=5&max_terms=2")
        assert "refuses these settings" in complaint("reasoning-gym:chain_sum?min_terms=many")
        assert "key=value" in complaint("reasoning-gym:chain_sum?seed")

    def test_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "reasoning_gym", None)
        assert "pip install 'selfreward[tasks]'" in complaint("reasoning-gym:chain_sum")


class TestDatasets:
    @pytest.fixture
    def library(self) -> object:
        return pytest.importorskip("datasets")

    def test_a_saved_folder(self, tmp_path: Path, library) -> None:
        train, test = (library.Dataset.from_list([row]) for row in GSM8K)
        library.DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / "both"))
        train.save_to_disk(str(tmp_path / "one"))
        assert load_prompts(tmp_path / "both")[0].text == GSM8K[0]["question"]
        assert load_prompts(tmp_path / "both", split="test")[0].text == GSM8K[1]["question"]
        assert load_prompts(tmp_path / "one") == load_prompts(tmp_path / "both", split="train")
        assert "has no split 'dev'; it has 'train', 'test'" in complaint(tmp_path / "both", split="dev")
        assert "without splits" in complaint(tmp_path / "one", split="test")

    def test_an_id_with_configuration_and_split(self, monkeypatch: pytest.MonkeyPatch, library) -> None:
        calls = []

        def load(name: str, config: str | None, split: str | None) -> object:
            calls.append((name, config, split))
            data = library.Dataset.from_list(GSM8K)
            return data if split else library.DatasetDict(test=data)

        monkeypatch.setattr(library, "load_dataset", load)
        for spec, split in [("a/b", None), ("a/b:c", None), ("a/b:c:test[:5]", None), ("a/b::x", "x"), ("gsm", "y")]:
            assert [p.id for p in load_prompts(spec, split=split)] == ["1", "2"]
        expected = [(None, None), ("c", None), ("c", "test[:5]"), (None, "x"), (None, "y")]
        assert calls == [(name, *rest) for name, rest in zip(["a/b"] * 4 + ["gsm"], expected, strict=True)]
        assert "keep one" in complaint("a/b:c:train", split="test")

    def test_bad_rows_are_told_by_number(self, monkeypatch: pytest.MonkeyPatch, library) -> None:
        data = library.Dataset.from_list([{"prompt": "a", "answer": [1]}])
        monkeypatch.setattr(library, "load_dataset", lambda *args, **kwargs: data)
        assert "a/b, row 1, field 'answer': is the list [1]" in complaint("a/b")

    def test_offline(self, monkeypatch: pytest.MonkeyPatch, library) -> None:
        def load(*args: object, **kwargs: object) -> object:
            raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub")

        monkeypatch.setattr(library, "load_dataset", load)
        message = complaint("openai/gsm8k:main")
        assert "'openai/gsm8k:main' cannot be loaded: ConnectionError: Couldn't reach" in message
        assert "no file of that name" in message and "earlier download" in message

    def test_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        assert "pip install 'selfreward[data]'" in complaint("openai/gsm8k")


class TestEmbedded:
    def test_train_and_test_of_a_task(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import selfreward.lab.embedded
        from selfreward.data.answers import answer_space
        from selfreward.data.task import Task

        task = Task("toy", numbered(5), numbered(2), answer_space("number"), bool)
        monkeypatch.setattr(selfreward.lab.embedded, "load_task", {"toy": task}.__getitem__)
        assert load_prompts("embedded:toy") == numbered(5)
        assert load_prompts("embedded:toy", split="test", limit=1) == numbered(1)
        assert "has no split 'dev'" in complaint("embedded:toy", split="dev")


class TestStream:
    def test_every_epoch_deals_every_prompt_once_in_its_own_order(self) -> None:
        stream = PromptStream(numbered(6), seed=0)
        epochs = [[p.id for p in stream.next(6)] for _ in range(3)]
        assert all(sorted(epoch) == list("012345") for epoch in epochs)
        assert len(set(map(tuple, epochs))) == 3
        assert [p.id for p in PromptStream(numbered(6), seed=1).next(6)] != epochs[0]

    def test_the_order_is_frozen(self) -> None:
        """A resumed run must see the order of the release that it was started under."""
        assert [p.id for p in PromptStream(numbered(8), seed=0).next(8)] == FROZEN

    @pytest.mark.parametrize(("size", "n"), [(5, 3), (7, 4), (7, 7), (3, 2), (1, 1), (8, 5)])
    def test_no_call_repeats_a_prompt_and_all_come_equally_often(self, size: int, n: int) -> None:
        stream = PromptStream(numbered(size), seed=3)
        seen: Counter[str] = Counter()
        for _ in range(5 * size):
            call = [p.id for p in stream.next(n)]
            assert len(set(call)) == n
            seen.update(call)
        assert set(seen.values()) == {5 * n}

    def test_asking_for_more_than_there_are(self) -> None:
        counts = Counter(p.id for p in PromptStream(numbered(3), seed=0).next(7))
        assert sorted(counts.values()) == [2, 2, 3]

    @pytest.mark.parametrize("before", range(12))
    def test_resume_is_exact(self, before: int) -> None:
        straight = PromptStream(numbered(7), seed=5)
        for _ in range(before):
            straight.next(3)
        state = json.loads(json.dumps(straight.state_dict()))
        resumed = PromptStream(numbered(7), seed=99)
        resumed.load_state_dict(state)
        assert [resumed.next(3) for _ in range(9)] == [straight.next(3) for _ in range(9)]

    def test_a_state_of_other_prompts_is_refused(self) -> None:
        state = PromptStream(numbered(4)).state_dict()
        with pytest.raises(CheckpointError, match="started on other prompts than the 5"):
            PromptStream(numbered(5)).load_state_dict(state)
        with pytest.raises(CheckpointError, match="damaged"):
            PromptStream(numbered(4)).load_state_dict({"epoch": 0})

    def test_nothing_to_deal(self) -> None:
        with pytest.raises(DataError, match="no prompts"):
            PromptStream([])
        with pytest.raises(ValueError, match="at least one"):
            PromptStream(numbered(1)).next(0)

    def test_fingerprint_reads_ids_texts_and_order(self) -> None:
        a, b = Prompt("a", text="x"), Prompt("b", text="x")
        prints = [fingerprint(p) for p in ([a], [b], [a, b], [b, a], [Prompt("a", text="y")])]
        assert len(set(prints)) == 5
        assert fingerprint([Prompt("a", text="x", reference="1")]) == prints[0]


FROZEN = ["3", "2", "1", "4", "6", "7", "5", "0"]


class TestHoldout:
    def test_sizes(self) -> None:
        train, held = split_holdout(numbered(100), 0.2, 50, seed=0)
        assert (len(train), len(held)) == (80, 20)
        assert len(split_holdout(numbered(100), 0.2, 5, seed=0)[1]) == 5
        assert len(split_holdout(numbered(3), 0.01)[1]) == 1
        assert split_holdout(numbered(3), 0.0) == (numbered(3), [])
        assert split_holdout(numbered(1), 0.5) == (numbered(1), [])

    def test_equal_texts_never_cross(self) -> None:
        prompts = [Prompt(str(i), text=f"{i % 10}") for i in range(60)]
        prompts += [Prompt(f"m{i}", messages=({"role": "user", "content": f"{i}"},)) for i in range(10)]
        train, held = split_holdout(prompts, 0.5, seed=1)
        assert held and not {p.question for p in train} & {p.question for p in held}

    def test_copies_count_towards_the_maximum(self) -> None:
        prompts = [Prompt(str(i), text=f"{i % 10}") for i in range(40)]
        for size in range(12):
            assert len(split_holdout(prompts, 0.5, size)[1]) == size // 4 * 4

    def test_depends_on_texts_and_seed_alone(self) -> None:
        _, held = split_holdout(numbered(50), 0.3, seed=0)
        _, shuffled = split_holdout(numbered(50)[::-1], 0.3, seed=0)
        assert held == shuffled[::-1]
        assert held != split_holdout(numbered(50), 0.3, seed=1)[1]

    @pytest.mark.parametrize(("fraction", "size"), [(1.0, None), (-0.1, None), (0.5, -1)])
    def test_out_of_range(self, fraction: float, size: int | None) -> None:
        with pytest.raises(ConfigError, match="held-out"):
            split_holdout(numbered(3), fraction, size)


class TestLengths:
    PROMPTS = (Prompt("1", text="aa"), Prompt("2", text="aaaaaa"), Prompt("3", text="aaaa"))

    @staticmethod
    def encode(prompt: Prompt) -> list[int]:
        return [0] * len(prompt.question)

    def test_all_fit(self) -> None:
        found = check_lengths(self.PROMPTS, self.encode, 6, 16, max_new_tokens=10)
        assert found.kept == list(self.PROMPTS)
        assert str(found) == "All 3 prompts fit in 6 tokens (the longest has 6)."
        assert check_lengths(self.PROMPTS, self.encode, None, None).kept == list(self.PROMPTS)

    @pytest.mark.parametrize(
        ("limit", "context", "new", "remedy"),
        [
            (4, None, 0, "Set max_prompt_tokens=6 to keep them"),
            (None, 12, 8, "set max_new_tokens=6 to keep them"),
            (4, 12, 8, "set max_new_tokens=6 and max_prompt_tokens=6 to keep them"),
            (None, 5, 1, "a model with a longer context"),
        ],
    )
    def test_the_error_says_which_and_what_to_set(
        self, limit: int | None, context: int | None, new: int, remedy: str
    ) -> None:
        with pytest.raises(DataError) as caught:
            check_lengths(self.PROMPTS, self.encode, limit, context, max_new_tokens=new)
        message = str(caught.value)
        assert message.startswith("1 of 3 prompts are longer than 4 tokens: 2 (6 tokens).")
        assert remedy in message and "prompt_policy='drop'" in message

    def test_drop(self) -> None:
        found = check_lengths(self.PROMPTS, self.encode, 4, None, "drop")
        assert [p.id for p in found.kept] == ["1", "3"]
        assert (found.too_long, found.longest, found.limit) == ({"2": 6}, 6, 4)
        with pytest.raises(DataError, match="3 of 3"):
            check_lengths(self.PROMPTS, self.encode, 1, None, "drop")

    def test_options(self) -> None:
        with pytest.raises(ConfigError, match="leaves no room"):
            check_lengths(self.PROMPTS, self.encode, None, 8, max_new_tokens=8)
        with pytest.raises(ConfigError, match="'skip'"):
            check_lengths(self.PROMPTS, self.encode, None, 8, "skip")  # type: ignore[arg-type]
