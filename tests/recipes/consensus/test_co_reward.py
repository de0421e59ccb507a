"""Co-Reward: whose vote pays whom, worked by hand; and rewrites, from the data or from a model."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from selfreward.cli.app import app
from selfreward.data import load_prompts
from selfreward.data.answers import Regex
from selfreward.errors import ConfigError, DataError
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.rewording import parse_rewrite, rewrite, row_of_prompt, twin_prompt
from selfreward.rollouts.run import RunContext
from selfreward.training.config import make_config
from selfreward.training.launch import build
from selfreward.types import Group, Prompt, Segment, Trajectory


class Script:
    """A policy that says what it is told to: answers by (prompt id, view)."""

    def __init__(self, answers):
        self.answers = answers

    def sample(self, prompts, n, params, view=""):
        import torch

        groups = []
        for prompt in prompts:
            texts = [f"#{a}" if a is not None else "?" for a in self.answers[prompt.id, view]]
            assert len(texts) == n
            line = [[Segment("solver", torch.tensor([1, 2]), t, torch.zeros(2), trainable=True)] for t in texts]
            groups.append(Group(f"{prompt.id}/{view}", prompt, [Trajectory(prompt, s) for s in line]))
        return groups


# Two questions with truths 5 and 2. Question p: view 1 falls for a shortcut (7 wins 2:1), view 2 is right
# (5 wins 2:1). Question q: view 1 says 2, 2, 3; nobody reads an answer in view 2.
ANSWERS = {
    ("p", ""): [7, 5, 7],
    ("p", "twin"): [5, 5, 8],
    ("q", ""): [2, 3, 2],
    ("q", "twin"): [None, None, None],
}
BY_HAND = {
    # own label p: 7 / 5; q: 2 / none
    "own": {"p/": [1, 0, 1], "p/twin": [1, 1, 0], "q/": [1, 0, 1], "q/twin": [0, 0, 0]},
    # p view 1 is paid for 5, view 2 for 7 (nobody says it); q view 1 has no label, view 2 no answers
    "swap": {"p/": [0, 1, 0], "p/twin": [0, 0, 0], "q/": [0, 0, 0], "q/twin": [0, 0, 0]},
    # all six of p: 5 three times, 7 twice; of q: 2 twice
    "union": {"p/": [0, 1, 0], "p/twin": [1, 1, 0], "q/": [1, 0, 1], "q/twin": [0, 0, 0]},
    # p view 1 by q's view 2 (none), p view 2 by q's view 1 (2); q view 1 by p's view 2 (5), q view 2 by 7
    "mismatched": {"p/": [0, 0, 0], "p/twin": [0, 0, 0], "q/": [0, 0, 0], "q/twin": [0, 0, 0]},
    "gold": {"p/": [0, 1, 0], "p/twin": [1, 1, 0], "q/": [1, 0, 1], "q/twin": [0, 0, 0]},
}


@pytest.mark.parametrize("pairing", sorted(BY_HAND))
def test_whose_vote_pays_whom(pairing):
    prompts = [
        Prompt("p", "P", fields={"twin": "P'"}, reference="5"),
        Prompt("q", "Q", fields={"twin": "Q'"}, reference="2"),
    ]
    recipe = load_recipe("co-reward", {"group_size": 6, "pairing": pairing})
    run = RunContext(Regex(r"#(\d)"), lambda t: True, sampling=SamplingParams(4), step=1, steps=1)
    found = recipe.collect(Script(ANSWERS), prompts, run)
    assert {g.key: g.rewards for g in found.groups} == BY_HAND[pairing]
    # Own and gold labels come from nowhere else; the swap labels what has an answer on the other side.
    assert run.counts.get(recipe.mechanism, 0) == {"own": 0, "gold": 0, "swap": 3, "union": 4, "mismatched": 3}[pairing]
    assert recipe.needs() == ("outcome" if pairing == "gold" else "none")
    if pairing == "swap":
        assert [g.meta["pseudo_label"] for g in found.groups] == ["5", None, "7", "2"]
        # each view is normalised on its own: one of three paid has z-score (1 - 1/3) / std
        row = [float(r.advantage[-1]) for r in found.rows[:3]]
        assert row[1] > 0 and row[0] == row[2] < 0 and sum(row) == pytest.approx(0, abs=1e-5)


def test_a_step_on_the_embedded_base(tmp_path):
    settings = {"steps": 2, "prompts_per_step": 4, "eval_prompts": 0, "out": str(tmp_path / "run"), "log_groups": -1}
    options = {"group_size": 9}
    trainer = build(make_config({"recipe": "co-reward", "model": "embedded:view-trap", "options": options, **settings}))
    trainer.evaluator = lambda policy: {}
    summary = trainer.fit()
    assert summary["labels"] == "none"
    assert summary["mechanism"]["count"] > 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 4 and len({r["group"] for r in rows}) == len({(r["step"], r["group"]) for r in rows})
    assert {len(r["completions"]) for r in rows if r["group"].endswith("/twin/solver")} == {4}
    assert {len(r["completions"]) for r in rows if "/twin/" not in r["group"]} == {5}
    assert any(r["pseudo_label"] for r in rows)
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= record["views/same_label"] <= 1


def test_errors_speak():
    with pytest.raises(ConfigError, match="two views"):
        load_recipe("co-reward", {"group_size": 3})
    with pytest.raises(DataError, match="selfreward rewrite"):
        twin_prompt(Prompt("p", "P"))


# ---- rewrites ------------------------------------------------------------------------------------


def test_a_rewrite_is_what_stands_between_the_markers():
    assert (
        parse_rewrite("Sure!\n<rewrite> A farmer has 3 cows. </rewrite>", "Tom has 3 apples.") == "A farmer has 3 cows."
    )
    assert parse_rewrite("<rewrite>a</rewrite> or better <rewrite>b</rewrite>", "q") == "b"
    for bad in (None, "A farmer has 3 cows.", "<rewrite>half", "<rewrite>  </rewrite>", "</rewrite><rewrite>x"):
        assert parse_rewrite(bad, "q") is None
    assert parse_rewrite("<rewrite>tom  has\n3 apples.</rewrite>", "Tom has 3 apples.") is None


def test_a_chat_prompt_keeps_its_system_message():
    chat = Prompt("c", messages=({"role": "system", "content": "s"}, {"role": "user", "content": "q"}))
    twin = twin_prompt(Prompt("c", messages=chat.messages, fields={"rewrite": "r"}))
    assert [m["content"] for m in twin.messages] == ["s", "r"]


def test_prompts_without_a_rewrite_are_removed():
    prompts = [Prompt("a", "one {x}", reference="1"), Prompt("b", "two", fields={"level": 3})]
    asked = []

    def writer(requests):
        asked.extend(requests)
        return ["no markers", "<rewrite>zwei</rewrite>"]

    (kept,) = rewrite(prompts, writer)
    assert "one {x}" in asked[0]
    assert row_of_prompt(kept) == {"id": "b", "prompt": "two", "level": 3, "rewrite": "zwei"}
    with pytest.raises(DataError, match="question"):
        rewrite(prompts, writer, "no field")


def test_the_command_with_a_server(tmp_path, monkeypatch):
    from selfreward.runtime.endpoint import Endpoint

    def answer(self, text, until):
        return "<rewrite>drei und vier</rewrite>" if "3+4" in text else "cannot"

    monkeypatch.setattr(Endpoint, "ask", answer)
    data, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    data.write_text('{"prompt": "3+4=", "answer": "7"}\n{"prompt": "1+1=", "answer": "2"}\n')
    done = CliRunner().invoke(app, ["rewrite", str(data), "--model", "http://localhost:1/v1#m", "--out", str(out)])
    assert done.exit_code == 0 and "1 prompts with a rewrite, 1 removed" in done.output
    (prompt,) = load_prompts(out)
    assert (prompt.question, prompt.answer, twin_prompt(prompt).question) == ("3+4=", "7", "drei und vier")
    again = CliRunner().invoke(app, ["rewrite", str(data), "--model", "http://localhost:1/v1#m", "--out", str(out)])
    assert isinstance(again.exception, ConfigError)


def test_a_model_that_cannot_rewrite_is_an_error(tmp_path):
    data = tmp_path / "in.jsonl"
    data.write_text('{"prompt": "3+4="}\n')
    short = tmp_path / "short.txt"
    short.write_text("{question}")
    command = ["rewrite", str(data), "--model", "embedded:chain", "--out", str(tmp_path / "o"), "--max-new-tokens", "4"]
    done = CliRunner().invoke(app, [*command, "--template", str(short)])
    assert isinstance(done.exception, DataError) and "rewrote none of 1" in str(done.exception)
    done = CliRunner().invoke(app, command)  # the usual request is longer than what this model reads
    assert isinstance(done.exception, DataError) and "Too long for the model" in str(done.exception)


def test_the_demo_shows_the_trap_beside_the_vote(tmp_path, monkeypatch):
    from selfreward.lab.proofs.consensus import co_reward, vote
    from selfreward.training import comparison as compare
    from selfreward.training.comparison import Arm, read_comparison

    # In this process: what is shown matters here, not who runs it.
    monkeypatch.setattr(
        compare, "_run_all", lambda runs, jobs, progress: {k: compare.run_one(r) for k, r in runs.items()}
    )
    tiny = {"model": "embedded:chain", "steps": 1, "prompts_per_step": 2, "eval_prompts": 2, "probe_every": 0}
    monkeypatch.setattr(vote, "ARMS", (Arm("vote", "vote", {"group_size": 4}),))
    monkeypatch.setattr(vote, "DEMO_SETTINGS", tiny)
    monkeypatch.setattr(co_reward, "DEMO_ARMS", (Arm("co-reward", "co-reward", {"group_size": 4}),))
    monkeypatch.setattr(co_reward, "DEMO_SETTINGS", tiny)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo"), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert list(read_comparison(tmp_path / "demo")["arms"]) == ["vote"]
    trap = read_comparison(tmp_path / "demo" / "trap")
    assert (list(trap["arms"]), trap["title"]) == (["co-reward"], co_reward.DEMO_TITLE)
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert co_reward.DEMO_TITLE in page and co_reward.DEMO_TITLE in done.output
