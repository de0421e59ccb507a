"""Reports from synthetic runs: a reward that teaches, one that tempts, and controls."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from selfreward.errors import DataError
from selfreward.evaluation.report import comparison_table, summary_table, write_comparison, write_report
from selfreward.evaluation.report.digest import curve, digest
from selfreward.evaluation.report.drawing import spread_labels
from selfreward.evaluation.report.folder import read_run
from selfreward.evaluation.report.words import headline, printable

STEPS = 20
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> $x^2$ {{ 7*7 }} \x00\x1b[31m \u202e \ud800"

# arm: labels, control, truth before and after, own reward before and after
ARMS: dict[str, tuple[str, bool, float, float, float, float]] = {
    "random": ("none", True, 0.40, 0.405, 0.5, 0.5),
    "tempting": ("none", False, 0.40, 0.10, 2.0, 3.0),
    "gold": ("outcome", True, 0.40, 0.95, 0.4, 0.95),
    "vote": ("none", False, 0.40, 0.94, 0.5, 0.95),
}


def evaluation(truth: float) -> dict[str, Any]:
    ends = [max(0.0, truth - 0.03), min(1.0, truth + 0.03)]
    return {"pass@1": truth, "accuracy": truth, "length": 9.0, "intervals": {"pass@1": ends}, "prompts": 200, "k": 8}


def write_run(folder: Path, name: str, seed: int, text: str = "w#1") -> dict[str, Any]:
    labels, _, t0, t1, r0, r1 = ARMS[name]
    folder.mkdir(parents=True)
    jitter = 0.004 * (seed - 1)
    records: list[dict[str, Any]] = [{"step": 0, "eval/pass@1": t0}]
    for step in range(1, STEPS + 1):
        part = (step - 1) / (STEPS - 1)
        record: dict[str, Any] = {
            "step": step,
            "reward/mean": r0 + (r1 - r0) * part,
            "reward/std": 0.4,
            "agreement": 0.5,
            "entropy": 1.0,
        }
        if step % 5 == 0:
            record["eval/pass@1"] = t0 + (t1 + jitter - t0) * step / STEPS
        if name == "tempting" and step == 8:
            record["alarms"] = [{"step": 8, "name": "length-shift", "statistic": "length", "meaning": text}]
        records.append(record)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    groups = [
        {
            "step": step,
            "group": f"p{q}",
            "prompt": f"1+{q}= {text}",
            "completions": [{"text": text, "reward": 1.0, "answer": None, "tokens": 3, "finished": False}] * 3,
            "vote": {"label": text, "share": 1.0},
        }
        for step in (1, 10, STEPS)
        for q in range(3)
    ]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(g) + "\n" for g in groups))
    (folder / "config.yaml").write_text(f"recipe: {name}\nnote: '{printable(text)}'\n")
    result = {
        "before": evaluation(t0),
        "after": evaluation(t1 + jitter),
        "best": {"step": STEPS, "pass@1": t1},
        "tokens": {"generated": 1000, "trained": 900},
        "wall_s": 12.0,
        "alarms": [],
    }
    summary = {"recipe": name, "labels": labels, "seed": seed, "steps": STEPS, "metric": "pass@1", **result}
    (folder / "summary.json").write_text(json.dumps(summary))
    return {"seed": seed, **result}


def write_arms(out: Path, seeds: int = 3, text: str = "w#1") -> dict[str, Any]:
    arms = {
        name: {
            "labels": labels,
            "control": control,
            "seeds": [write_run(out / name / f"seed-{s}", name, s, text) for s in range(seeds)],
        }
        for name, (labels, control, *_) in ARMS.items()
    }
    return {"task": "chain", "base": "embedded:chain", "budget": {"steps": STEPS, "tokens": 1000}, "arms": arms}


class Page(HTMLParser):
    """Tags, attributes and text of a page, and whether what was opened was closed."""

    VOID = frozenset({"meta", "br", "input", "link", "img", "hr"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def check(self) -> None:
        """One well-formed, self-contained, script-free and labelled page."""
        assert not self.open
        assert not {"script", "img", "link", "iframe", "object"} & set(self.tags)
        assert not [a for a in self.attributes if a[0].startswith("on")]
        references = [v for n, v in self.attributes if n in ("href", "xlink:href", "src", "action")]
        assert all(v.startswith("#") for v in references)
        assert "@import" not in self.source and not re.search(r"url\((?!#)", self.source)
        assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in self.attributes
        ids = [v for n, v in self.attributes if n == "id"]
        assert len(ids) == len(set(ids)) and {r[1:] for r in references} <= set(ids)
        assert self.tags.count("svg") == len(re.findall(r'<svg role="img" aria-label="[^"]+"', self.source))
        assert len(self.source) < 1_500_000


def test_comparison_tells_the_story(tmp_path: Path) -> None:
    compare = write_arms(tmp_path)
    page = Page(write_comparison(compare, tmp_path))
    page.check()
    assert "vote took held-out pass@1 from 40.0% to 94.0%" in page.text
    assert "1.0 points below gold" in page.text
    assert "tempting earned ever more of its own reward while the truth fell" in page.text
    assert "length-shift" in page.text and "seed 0 at step 8, seed 1 at step 8, seed 2 at step 8" in page.text
    # Truth, compass, a duel per arm, and panels for reward, agreement and entropy.
    assert page.tags.count("svg") == 2 + 4 + 3
    for i in range(4):
        assert f'class="arm-{i}"' in page.source


def test_a_comparison_in_a_folder_of_another_is_shown_beside_it(tmp_path: Path) -> None:
    compare = write_arms(tmp_path)
    inner = {"title": "A trap & a way out", **write_arms(tmp_path / "trap")}
    (tmp_path / "trap" / "compare.json").write_text(json.dumps(inner))
    page = Page(write_comparison(compare, tmp_path))
    page.check()
    assert "A trap & a way out" in page.text
    assert page.tags.count("svg") == 2 + 4 + 3 + 2
    # The second comparison's arms have numbers, and with them colours and check boxes, of their own.
    for i in range(8):
        assert f'class="arm-{i}"' in page.source and f".pen-{i} {{" in page.source


def test_digest_orders_arms_and_judges_them(tmp_path: Path) -> None:
    c = digest(write_arms(tmp_path), tmp_path)
    assert [(a.name, a.role, a.verdict) for a in c.arms] == [
        ("vote", "method", "learned"),
        ("tempting", "method", "misled"),
        ("gold", "ceiling", "learned"),
        ("random", "floor", "level"),
    ]
    vote, tempting = c.arms[:2]
    assert vote.change("pass@1").value == pytest.approx(0.54)
    # Seeds end at .936, .940, .944: sd .004, t(2) = 4.303.
    assert vote.after("pass@1").half_width == pytest.approx(4.303 * 0.004 / math.sqrt(3), rel=1e-3)
    assert tempting.rise == pytest.approx((2.0 + 18.5 / 19 - 2.0) / 0.4)  # mean of the last two of twenty steps
    assert vote.peak == (20, pytest.approx(0.94))
    assert tempting.peak[0] == 0 and tempting.given_back == pytest.approx(0.30)


def test_without_run_folders_a_fall_is_just_a_fall(tmp_path: Path) -> None:
    compare = write_arms(tmp_path / "elsewhere")
    c = digest(compare)
    assert {a.name: a.verdict for a in c.arms}["tempting"] == "fell"
    page = Page(write_comparison(compare, tmp_path))
    page.check()
    assert "run folders were not found" in page.text and "94.0%" in page.text


def test_one_seed_uses_the_intervals_of_the_evaluations(tmp_path: Path) -> None:
    c = digest(write_arms(tmp_path, seeds=1), tmp_path)
    vote = c.arms[0]
    assert vote.after("pass@1").low == pytest.approx(0.936 - 0.03)
    assert vote.change("pass@1").half_width == pytest.approx(math.hypot(0.03, 0.03))
    assert vote.verdict == "learned"


def test_no_winner_is_said_plainly(tmp_path: Path) -> None:
    compare = write_arms(tmp_path)
    del compare["arms"]["vote"]
    said = "".join(text for text, _ in headline(digest(compare, tmp_path)))
    assert said.startswith("No label-free reward improved held-out pass@1")


def test_hostile_text_is_shown_and_never_run(tmp_path: Path) -> None:
    compare = write_arms(tmp_path, seeds=1, text=HOSTILE)
    compare["arms"]["<b>&$x$"] = compare["arms"].pop("vote")
    (tmp_path / "vote").rename(tmp_path / "<b>&$x$")
    compare["task"] = compare["base"] = compare["command"] = HOSTILE
    for path in (write_comparison(compare, tmp_path), write_report(tmp_path / "tempting" / "seed-0")):
        page = Page(path)
        page.check()
        assert "<script>alert(1)</script>" in page.text, "the text itself is still readable"
        assert "{{ 7*7 }}" in page.text and "$x^2$" in page.text, "and nothing in it was evaluated"
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", page.source)


def test_run_report_shows_before_after_and_samples(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "vote", 1)
    page = Page(write_report(tmp_path / "run"))
    page.check()
    assert "vote took held-out pass@1 from 40.0% to 94.0% in 20 steps" in page.text
    assert "+54.0" in page.text and "3 times" in page.text and "cut off at the length limit" in page.text
    assert "recipe: vote" in page.text


@pytest.mark.parametrize("damage", ["killed", "empty", "garbage", "no-steps"])
def test_a_damaged_run_is_reported_as_far_as_it_goes(tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    write_run(run, "vote", 1)
    if damage == "killed":
        (run / "summary.json").unlink()
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            text = (run / name).read_text()
            (run / name).write_text(text[: len(text) * 2 // 3 - 7])
    elif damage == "empty":
        for file in run.iterdir():
            file.unlink()
    elif damage == "garbage":
        for file in run.iterdir():
            file.write_bytes(b'\xff\xfe{]\n[1]\n\n{"step": "one"}\nnull\n')
    else:
        (run / "metrics.jsonl").write_text('{"step": 0, "eval/pass@1": NaN, "loss": Infinity, "alarms": "x"}\n')
    page = Page(write_report(run))
    page.check()
    if damage == "killed":
        assert "Unfinished" in page.text and "metrics.jsonl: 1 unreadable line left out" in page.text
        assert "from 40.0%" in page.text, "the last evaluation stands in for the final one"
    if damage == "empty":
        assert "summary.json is missing" in page.text and "has not started" in page.text
    if damage == "garbage":
        assert "summary.json is damaged" in page.text


def test_missing_folders_are_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"compare\.json is missing"):
        write_comparison(None, tmp_path)


@pytest.mark.parametrize("compare", [{}, {"arms": {}}, {"arms": {"a": {}}}, {"arms": {"a": {"seeds": [{"seed": 0}]}}}])
def test_a_comparison_without_numbers_is_still_a_page(tmp_path: Path, compare: dict[str, Any]) -> None:
    Page(write_comparison(compare, tmp_path)).check()
    Console(file=(tmp_path / "t.txt").open("w")).print(comparison_table(compare))


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [json.dumps({"step": s, "reward/mean": x, "loss": x}) for s, x in enumerate(rng.random(20_000))]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert write_report(tmp_path).stat().st_size < 100_000


def test_rollout_log_is_read_from_both_ends(tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_text("".join(f'{{"step": {i}}}\n' for i in range(50)) + '{"step": 50, "comp')
    run = read_run(tmp_path, groups=2)
    assert [g["step"] for g in run.first] == [0, 1]
    assert [g["step"] for g in run.last] == [48, 49]
    assert "rollouts.jsonl: 1 unreadable line left out (line 51)." in run.notes


def test_repeated_steps_of_a_resumed_run_count_once(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1}\n{"step": 2, "loss": 9}\n{"step": 2, "loss": 2}\n')
    assert [r["loss"] for r in read_run(tmp_path).metrics] == [1, 2]


def test_curve_over_seeds_by_hand() -> None:
    runs: list[list[dict[str, Any]]] = [
        [{"step": 1, "x": 1.0}, {"step": 2, "x": 3.0}],
        [{"step": 1, "x": 3.0}, {"step": 2, "x": None}],
    ]
    c = curve(runs, "x")
    assert c.steps.tolist() == [1, 2] and c.mean.tolist() == [2, 3]
    assert c.low.tolist() == [1, 3] and c.high.tolist() == [3, 3]
    assert not curve(runs, "y")


def test_labels_move_apart_and_keep_their_order() -> None:
    assert spread_labels([0.0, 1.0], 0.1) == [0.0, 1.0]
    placed = spread_labels([0.5, 0.5, 0.9, 0.52], 0.1)
    assert placed[0] < placed[1] < placed[3] < placed[2]
    assert min(np.diff(sorted(placed))) >= 0.1 - 1e-9
    assert np.mean([placed[0], placed[1], placed[3]]) == pytest.approx(np.mean([0.5, 0.5, 0.52]))


def test_terminal_tables(tmp_path: Path) -> None:
    compare = write_arms(tmp_path)
    console = Console(width=140, record=True, file=(tmp_path / "out.txt").open("w"))
    console.print(comparison_table(compare, tmp_path))
    seed = compare["arms"]["vote"]["seeds"][1]
    console.print(summary_table(seed["before"], seed["after"]))
    text = console.export_text()
    assert "reward up, truth down" in text and "94.0%  93.0 to 95.0" in text and "+54.0" in text
    assert text.index("vote") < text.index("gold") < text.index("random")
    assert "pass@1" in text and "length" in text and "prompts" not in text.split("length")[1].split("95%")[0]


def test_reward_and_truth_part_where_the_one_is_up_and_the_other_down():
    import numpy as np

    from selfreward.evaluation.report.digest import Curve
    from selfreward.evaluation.report.gap import parted

    def line(*values):
        v = np.array(values)
        return Curve(np.arange(len(v), dtype=float), v, v, v)

    truth = line(0.4, 0.6, 0.58, 0.5, 0.5)
    assert parted(truth, line(0.1, 0.2, 0.3, 0.4, 0.1), "pass@1").tolist() == [False, False, False, True, False]
