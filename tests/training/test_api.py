"""``import selfreward as sr``: objects where the command line takes names."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest

import selfreward as sr
from selfreward.errors import ConfigError, DataError, RecipeError, UserError
from selfreward.training.config import read_config

SMALL = {"steps": 2, "prompts_per_step": 2, "eval_prompts": 4, "probe_every": 0}
ROWS = [{"prompt": f"{a}+{b}=", "answer": str((a + b) % 10)} for a in range(2, 6) for b in range(1, 3)]


@dataclass
class Longest(sr.GRPO):
    name: ClassVar[str] = "longest"
    weight: float = 1.0

    def collect(self, policy, prompts, run):
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            group.reward_with([self.weight * len(c) for c in group.completions])
        return self.learn_from(groups)


def weights(run):
    return {k: v.sum().item() for k, v in run.policy.state_dict().items()}


def test_importing_the_package_loads_nothing_and_every_name_is_there():
    code = "import sys, selfreward as sr; print(*dir(sr)); assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(sr.__all__)
    assert all(getattr(sr, name) is not None for name in sr.__all__)
    with pytest.raises(AttributeError, match="Did you mean 'train'"):
        _ = sr.trian


def test_a_run_knows_its_folder_and_shows_itself(tmp_path):
    run = sr.train("vote", model="embedded:chain", out=tmp_path / "run", **SMALL)
    assert run.before and run.after and run.summary["recipe"] == "vote"
    assert (run.model / "model.safetensors").is_file()
    assert "<table>" in run._repr_html_() and "pass@1" in run._repr_html_()
    page = run.report()
    assert page.path == tmp_path / "run" / "report.html"
    assert "&lt;" in page._repr_html_()
    with pytest.raises(ConfigError, match="already holds a run"):
        sr.train("vote", model="embedded:chain", out=tmp_path / "run", **SMALL)


def test_a_class_and_its_file_train_alike_and_an_instance_as_it_is(tmp_path):
    common = {"model": "embedded:chain", **SMALL}
    by_class = sr.train(Longest, weight=0.5, group_size=4, out=tmp_path / "class", **common)
    by_file = sr.train(f"{__file__}:Longest", weight=0.5, group_size=4, out=tmp_path / "file", **common)
    assert weights(by_class) == weights(by_file)
    assert by_class.summary["recipe"] == "longest"
    sr.train(Longest(weight=0.5, group_size=4), out=tmp_path / "instance", **common)
    given = read_config(tmp_path / "instance" / "config.yaml")["options"]
    assert given == vars(Longest(weight=0.5, group_size=4))  # also where the embedded task recommends something else


def test_a_class_from_a_notebook_can_be_resumed_when_it_is_handed_over_again(tmp_path):
    namespace = {"__name__": "__main__"}
    exec("from tests.training.test_api import Longest\nclass Typed(Longest):\n    name = 'typed'", namespace)
    typed = namespace["Typed"]
    common = {"model": "embedded:chain", "checkpoint_every": 1, **SMALL}
    whole = sr.train(typed, out=tmp_path / "whole", **{**common, "steps": 3})
    sr.train(typed, out=tmp_path / "part", **common)
    again = sr.resume(tmp_path / "part", recipe=typed, steps=3)
    assert weights(whole) == weights(again)
    from selfreward.runtime import at_hand

    at_hand.forget("here:Typed")
    with pytest.raises(ConfigError, match=r"recipe 'Typed' was handed over in memory.*resume\(FOLDER, recipe="):
        sr.resume(tmp_path / "part", steps=4)


def test_a_function_is_a_reward_and_its_signature_says_what_it_reads(tmp_path):
    seen = []

    def right(prompts, completions, answer, **others):
        seen.append((prompts, completions, answer, others))
        return [float(c.endswith(a)) if c else None for c, a in zip(completions, answer)]

    run = sr.train(reward=right, model="embedded:chain", data=ROWS, holdout=0, max_new_tokens=16, out=tmp_path, **SMALL)
    assert run.summary["labels"] == "outcome" and run.summary["recipe"] == "reward"
    prompts, completions, answers, others = seen[0]
    assert len(set(prompts)) == len(set(answers)) == 1 and len(prompts) == len(completions) == 8 and not others
    assert [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()] == ROWS
    assert read_config(tmp_path / "config.yaml")["data"] == str(tmp_path / "data.jsonl")


def test_without_the_word_answer_a_function_sees_no_labels(tmp_path):
    run = sr.train(
        reward=lambda prompts, completions: [len(c) for c in completions],
        model="embedded:chain", data=ROWS, holdout=0, max_new_tokens=16, out=tmp_path, **SMALL,
    )  # fmt: skip
    assert run.summary["labels"] == "none"


def test_a_function_that_fails_is_blamed_by_its_line(tmp_path):
    def wrong(prompts, completions):
        return [1.0]

    with pytest.raises(UserError, match="wrong returned 1 values for 8 completions"):
        sr.train(reward=wrong, model="embedded:chain", data=ROWS, holdout=0, out=tmp_path / "short", **SMALL)

    def broken(prompts, completions):
        return [1 / 0]

    with pytest.raises(UserError, match=r"test_api.py, line \d+, in broken: ZeroDivisionError"):
        sr.train(reward=broken, model="embedded:chain", data=ROWS, holdout=0, out=tmp_path / "broken", **SMALL)


def test_a_loaded_policy_is_trained_in_place_as_the_same_model_by_name(tmp_path):
    policy, task = sr.load_policy("embedded:chain"), sr.load_task("chain")
    settings = {**SMALL, "lr": 1e-4, "max_new_tokens": 20, "group_size": 4, "adam_eps": 1e-4, "kl": 0.0}
    here = sr.train("vote", model=policy, data=task, out=tmp_path / "here", **settings)
    named = sr.train("vote", model="embedded:chain", data="embedded:chain", out=tmp_path / "named", **settings)
    assert here.policy is policy
    assert weights(here) == weights(named)


def test_what_cannot_be_is_said_before_anything_is_trained(tmp_path):
    with pytest.raises(ConfigError, match="not both"):
        sr.train("vote", reward=len, model="embedded:chain")
    with pytest.raises(DataError, match="data, row 2"):
        sr.train("vote", model="embedded:chain", data=["1+1=", {"prompt": 7}], out=tmp_path / "x")
    with pytest.raises(ConfigError, match="Did you mean 'group_size'"):
        sr.train("vote", model="embedded:chain", group_sizes=4, out=tmp_path / "x")
    with pytest.raises(RecipeError, match="is no recipe"):
        sr.train(dict, model="embedded:chain", out=tmp_path / "x")
    assert not (tmp_path / "x" / "metrics.jsonl").exists()


def test_rows_and_texts_can_be_measured_audited_and_selected_from():
    policy = sr.load_policy("embedded:chain")
    found = sr.evaluate(policy, ROWS, samples=2, answers="regex:#(\\d)", max_new_tokens=20)
    assert 0 <= found["pass@1"] <= 1
    report = sr.audit(policy, ROWS, signals=["vote", "random"], n=4, answers="regex:#(\\d)", max_new_tokens=20)
    assert {s.name for s in report.signals} == {"vote", "random"} and report.labelled == len(ROWS)
    chosen = sr.select(policy, ["6*8-5*6=", "3+4*2="], n=4, answers="regex:#(\\d)", max_new_tokens=20)
    assert [len(g) for g in chosen.groups] == [4, 4] and len(chosen.selections) == 2


def test_a_signal_as_a_reward_function_sees_whole_groups_only():
    vote = sr.reward("vote", answers="number", group_size=2)
    assert vote.__name__ == "vote"
    assert vote(["a", "a", "b", "b"], ["1", "1", "2", "none"]) == [1.0, 1.0, 1.0, 0.0]
    chat = [{"role": "user", "content": "a"}]
    assert vote([chat, chat], [[{"role": "assistant", "content": t}] for t in ("7", "7")]) == [1.0, 1.0]
    for prompts in (["a", "a", "a"], ["a", "b"]):
        with pytest.raises(RecipeError, match="groups of 2 in one call"):
            vote(prompts, ["1"] * len(prompts))
    with pytest.raises(RecipeError, match="several completions of every prompt"):
        sr.reward("vote")(["a", "b"], ["1", "2"])
    with pytest.raises(UserError, match="needs a model"):
        sr.reward("self_certainty")(["a"], ["1"])
    sure = sr.reward("self_certainty", model="embedded:chain")
    low, high = sure(["6*8-5*6="] * 2, ["9w=-*#", "w6*8-3#3"])
    assert low != high


COMMON = {"model": "embedded:chain", "holdout": 0, "max_new_tokens": 16, "checkpoint_every": 1, **SMALL}


def test_a_reward_is_found_again_only_where_it_is_handed_over_again(tmp_path):
    sr.train(reward=lambda prompts, completions: [0.0] * len(completions), data=ROWS, out=tmp_path / "a", **COMMON)
    sr.train(reward=lambda prompts, completions: [1.0] * len(completions), data=ROWS, out=tmp_path / "b", **COMMON)
    with pytest.raises(ConfigError, match="no longer at hand"):
        sr.resume(tmp_path / "a", steps=3)
    with pytest.raises(ConfigError, match=r"has recipe=here:<lambda>, and vote was handed over"):
        sr.resume(tmp_path / "a", recipe="vote", steps=3)


def test_columns_of_a_reward_are_those_of_the_data(tmp_path):
    with pytest.raises(ConfigError, match=r"right reads the column 'answr', which no prompt .* Did you mean 'answer'"):

        def right(prompts, completions, answr):
            return [0.0] * len(completions)

        sr.train(reward=right, data=ROWS, out=tmp_path / "a", **COMMON)
    with pytest.raises(ConfigError, match=r"odd does not take prompts; a reward is def reward\(prompts, completions"):

        def odd(completions):
            return [0.0] * len(completions)

        sr.train(reward=odd, data=ROWS, out=tmp_path / "a", **COMMON)
    file = tmp_path / "mine.py"
    file.write_text(
        "def right(prompts, completions, answer, scale=2.0):\n    return [scale * len(a) for a in answer]\n"
    )
    run = sr.train(reward=f"{file}:right", data=ROWS, out=tmp_path / "b", **COMMON)
    assert run.summary["labels"] == "outcome"


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: sr.train("vote", model=3), r"A model is a folder.*not int \('3'\)"),
        (lambda: sr.train("vote", model="embedded:chain", data=3, out="x"), "Data is a path.*not int"),
        (lambda: sr.train("vote", model="embedded:chain", data={"prompt": "a"}, out="x"), "Data is a path.*not dict"),
        (lambda: sr.train(3, model="embedded:chain"), "A recipe is a name"),
        (lambda: sr.train("gold", model="embedded:chain", data=["1+1="], out="x"), "learns from answers"),
        (lambda: sr.train("vote", group_size=0, out="x"), "group_size is 0; it must be 1 or more"),
        (lambda: sr.compare([Longest], model="embedded:chain"), "in a process of its own"),
        (lambda: sr.compare("vote", model=sr.load_policy("embedded:chain")), "in a process of its own"),
        (lambda: sr.evaluate(sr.load_policy("embedded:chain")), "A model that is handed over needs prompts"),
        (lambda: sr.load_policy("embedded:chain").sample([sr.Prompt("6*8=")]), r"has neither text nor messages"),
    ],
)  # fmt: skip
def test_what_is_no_such_thing_is_said_in_a_sentence(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        call()


def test_a_generator_of_rows_is_data_and_texts_are_prompts(tmp_path):
    run = sr.train("vote", data=(f"{i}+1=" for i in range(2, 6)), out=tmp_path / "a", **COMMON)
    assert len((tmp_path / "a" / "data.jsonl").read_text().splitlines()) == 4
    assert len(run.policy.sample(["6*8-5*6="], n=2)[0]) == 2


def test_a_script_without_a_main_guard_can_compare(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "import selfreward as sr\n"
        f"table = sr.compare(['vote'], model='embedded:chain', seeds=1, steps=1, prompts_per_step=2, eval_prompts=2,\n"
        f"                   out={str(tmp_path / 'out')!r})\n"
        "print(*table['arms'])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["vote"]
