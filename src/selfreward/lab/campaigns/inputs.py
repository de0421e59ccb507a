"""Thousands of damaged inputs: data files, configurations, model folders.

Each is a whole and valid one with a few random wounds. Reading it must end in a correct object or in a sentence
of ours: no other exception, no hang, nothing left behind.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfreward.errors import UserError
from selfreward.lab.campaigns import child, ended, kill

AT_ONCE = 50
LONGEST_S = 30
MEMORY = 6 << 30

DATA: list[dict[str, Any]] = [
    {"prompt": "2+3=", "answer": "5", "id": "a"},
    {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "4+4="}], "answer": 8},
    {"question": "What is 7 + 1?", "answer": "#### 8"},
    {"prompt": "\u00e4\u00f6 \U0001f600", "level": 3, "twin": "other words"},
]
CONFIG = """
recipe: vote
model: embedded:chain
steps: 2
seed: 3
lr: 6.0e-4
temperature: 1.0
eval_prompts: 4
prompts_per_step: 4
group_size: 4
sentinel: warn
schedule: cosine
"""
VALUES: list[Any] = [None, True, -1, 0, 1e308, float("nan"), "", "x" * 500, [], {}, [[]], "\ud800", "\x00", 2**70]


def run(out: Path, size: int, seed: int = 0, say: Callable[[str], None] = print) -> dict[str, Any]:
    """``size`` inputs, a third of each kind. Returns the content of ``evidence/inputs.json``."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    readers: dict[str, Callable[[Path, random.Random], str]] = {"data": _data, "config": _config, "model": _model}
    table = {name: {"inputs": 0, "read": 0, "refused": 0} for name in readers}
    failures: list[str] = []
    for name, reader in readers.items():
        for first in range(0, -(-size // 3), AT_ONCE):
            many = range(first, min(first + AT_ONCE, -(-size // 3)))
            _batch(out, name, reader, many, seed, table[name], failures)
            say(f"{name}: {many[-1] + 1} of {-(-size // 3)}, {len(failures)} failures")
    return {
        "inputs": sum(row["inputs"] for row in table.values()),
        "lost": len(failures),
        "kinds": table,
        "failures": failures[:50],
        "seed": seed,
        "command": f"selfreward campaign inputs --size {size} --seed {seed}",
    }


def _batch(
    out: Path,
    name: str,
    reader: Callable[[Path, random.Random], str],
    many: range,
    seed: int,
    row: dict[str, int],
    failures: list[str],
) -> None:
    """Inputs in one child; when one kills or hangs it, a new child goes on with the next."""
    verdicts, log = out / "verdicts", out / "log"
    done = 0
    while done < len(many):
        verdicts.unlink(missing_ok=True)

        def work(rest: range = many[done:]) -> None:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with verdicts.open("a", encoding="utf-8") as file:
                for i in rest:
                    signal.alarm(LONGEST_S)
                    verdict = _verdict(out / "work", reader, f"{seed}/{name}/{i}")
                    file.write(json.dumps([i, verdict]) + "\n")
                    file.flush()

        pid = child(work, log)
        code = ended(pid, LONGEST_S * len(many))
        if code is None:
            kill(pid)
        found = [json.loads(line) for line in verdicts.read_text().splitlines()] if verdicts.exists() else []
        for i, verdict in found:
            row["inputs"] += 1
            row["read"] += verdict == "read"
            row["refused"] += verdict == "refused"
            if verdict not in ("read", "refused"):
                failures.append(f"{name} {i}: {verdict}")
        done += len(found)
        if done < len(many) and code != 0:
            how = "hung" if code in (None, -signal.SIGALRM) else f"ended its process ({code})"
            failures.append(f"{name} {many[done]}: {how}")
            row["inputs"] += 1
            done += 1


def _verdict(folder: Path, reader: Callable[[Path, random.Random], str], key: str) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        return reader(folder, random.Random(key))
    except UserError as error:
        text = str(error)
        return "refused" if text.strip() else "refused without a word"
    except Exception as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name}:{where.lineno})"


# ---- wounds -----------------------------------------------------------------------------------------


def wound(content: bytes, draw: random.Random) -> bytes:
    """A few random changes of bytes."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(found) + 1)
        kind = draw.choice(("flip", "cut", "insert", "repeat", "remove", "swap", "bom", "nul", "deep"))
        if kind == "flip" and found:
            found[min(at, len(found) - 1)] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del found[at:]
        elif kind == "insert":
            found[at:at] = draw.randbytes(draw.randint(1, 20))
        elif kind == "repeat":
            found[at:at] = found[max(0, at - draw.randint(1, 40)) : at] * draw.randint(1, 5)
        elif kind == "remove":
            del found[at : at + draw.randint(1, 20)]
        elif kind == "swap":
            for mark in draw.sample([b'"', b":", b"{", b"}", b",", b"\n", b"[", b"'"], 2):
                found[at : at + 1] = mark
        elif kind == "bom":
            found[0:0] = b"\xef\xbb\xbf"
        elif kind == "nul":
            found[at:at] = b"\x00"
        else:
            found[at:at] = b"[" * draw.choice((10, 5000))
    return bytes(found)


def wound_values(value: Any, draw: random.Random) -> Any:
    """The same structure with one value, or one key, replaced."""
    if isinstance(value, dict) and value:
        key = draw.choice(list(value))
        if draw.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: wound_values(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        return [*value[:at], wound_values(value[at], draw), *value[at + 1 :]]
    return draw.choice(VALUES)


# ---- readers ----------------------------------------------------------------------------------------


def _data(folder: Path, draw: random.Random) -> str:
    from selfreward.data import load_prompts

    rows: list[Any] = [dict(draw.choice(DATA)) for _ in range(draw.randint(1, 6))]
    if draw.random() < 0.5:
        at = draw.randrange(len(rows))
        rows[at] = wound_values(rows[at], draw)
    suffix = draw.choice((".jsonl", ".json", ".csv", ".txt"))
    content = json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows))
    raw = content.encode("utf-8", "surrogatepass")
    path = folder / f"data{suffix}"
    path.write_bytes(wound(raw, draw) if draw.random() < 0.7 else raw)
    prompts = load_prompts(str(path))
    assert prompts, "no prompts and no word about it"
    assert all(p.question is not None for p in prompts)
    return "read"


def _config(folder: Path, draw: random.Random) -> str:
    import yaml

    from selfreward.training.config import make_config, read_config
    from selfreward.training.launch import start

    path = folder / "config.yaml"
    values = yaml.safe_load(CONFIG)
    if draw.random() < 0.6:
        values = wound_values(values, draw)
    raw = yaml.safe_dump(values, allow_unicode=False).encode()
    path.write_bytes(wound(raw, draw) if draw.random() < 0.6 else raw)
    settings = []
    if draw.random() < 0.4:
        key = draw.choice(("lr", "steps", "grop_size", "kl", "", "temperature", "=", "options", "recipe", "answers"))
        settings = [f"{key}{draw.choice(('=', ''))}{draw.choice(('', '-1', 'nan', 'x', '1e400', '[', '0', 'none'))}"]
    out = folder / "run"
    config = make_config({**read_config(path), "out": str(out)}, settings)
    if config.model == "embedded:chain" and config.data is None:
        try:
            start(config)
        except UserError:
            assert not out.exists(), "a run folder was left behind"
            raise
    return "read"


def _model(folder: Path, draw: random.Random) -> str:
    from selfreward.lab.embedded import base_path
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.types import Prompt

    target = folder / "model"
    shutil.copytree(base_path("chain"), target)
    victim = draw.choice(sorted(p for p in target.iterdir() if p.suffix in (".json", ".safetensors")))
    how = draw.random()
    if how < 0.1:
        victim.unlink()
    elif how < 0.5 and victim.suffix == ".json":
        victim.write_text(json.dumps(wound_values(json.loads(victim.read_text()), draw)), encoding="utf-8")
    else:
        victim.write_bytes(wound(victim.read_bytes(), draw))
    policy = load_policy(str(target), device="cpu")
    policy.sample([Prompt("a", text="3+4=")], 2, SamplingParams(max_new_tokens=4))
    return "read"
