"""The command line as its users meet it: the main job, and every way to get it wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import yaml

from selfreward.cli import main
from selfreward.errors import ConfigError
from selfreward.training.comparison import parse_arm
from selfreward.training.config import make_config
from tests.support.models import save_model

SMALL = ["--steps", "2"]
for setting in (
    "prompts_per_step=4",
    "group_size=4",
    "max_new_tokens=4",
    "eval_samples=2",
    "answers=regex:(\\d)",
):
    SMALL += ["--set", setting]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "my.jsonl"
    rows = [{"prompt": f"{i}+1=", "answer": str((i + 1) % 10)} for i in range(30)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def run(monkeypatch, capsys, *args) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["selfreward", *map(str, args)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out = capsys.readouterr()
    return code, out.out + out.err


def test_the_main_job(monkeypatch, capsys, model, data, tmp_path):
    out = tmp_path / "x"
    code, text = run(monkeypatch, capsys, "train", "vote", "--model", model, "--data", data, "--out", out, *SMALL)
    assert code == 0, text
    assert {p.name for p in out.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "rollouts.jsonl",
        "checkpoints",
        "model",
        "summary.json",
        "report.html",
    }
    summary = json.loads((out / "summary.json").read_text())
    assert {"recipe", "system_id", "labels", "seed", "steps", "model", "data", "before", "after"} <= summary.keys()
    assert summary["labels"] == "none" and summary["tokens"]["generated"] > 0
    assert 0 <= summary["after"]["pass@1"] <= 1
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["lr"] == 6e-4 and config["options"]["group_size"] == 4
    groups = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
    assert len(groups[0]["completions"]) == 4 and "share" in groups[0]["vote"]

    code, text = run(monkeypatch, capsys, "train", "vote", "--model", model, "--data", data, "--out", out, *SMALL)
    assert code == 2 and "already holds a run" in text
    code, text = run(monkeypatch, capsys, "train", "--resume", out, "--steps", "3")
    assert code == 0 and "continuing after step 2 of 3" in text
    code, text = run(monkeypatch, capsys, "train", "--resume", out, "--set", "lr=1")
    assert code == 2 and "'lr' cannot change" in text
    code, text = run(monkeypatch, capsys, "report", out)
    assert code == 0 and "report.html" in text


def test_an_interrupt_finishes_the_step_and_says_how_to_go_on(model, data, tmp_path):
    out = tmp_path / "x"
    args = ["train", "vote", "--model", str(model), "--data", str(data), "--out", str(out), *SMALL, "--steps", "100000"]
    run = subprocess.Popen([sys.executable, "-m", "selfreward", *args], stdout=subprocess.PIPE, text=True)
    try:
        while not (out / "metrics.jsonl").exists() or len((out / "metrics.jsonl").read_text().splitlines()) < 3:
            assert run.poll() is None
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        text, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 130
    assert f"--resume {out}" in text
    step = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert (out / "checkpoints" / f"step-{step:08d}" / "manifest.json").is_file()


def test_lora_loads_with_peft(monkeypatch, capsys, model, data, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    out = tmp_path / "x"
    code, text = run(
        monkeypatch, capsys, "train", "vote", "--model", model, "--data", data, "--out", out, "--lora", *SMALL
    )
    assert code == 0, text
    assert (out / "model" / "adapter_model.safetensors").is_file()
    peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), out / "model")
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["lr"] == 1e-5 and config["lora_rank"] == 16


def test_prompts_without_answers_train_and_report_what_can_be_seen(monkeypatch, capsys, model, tmp_path):
    data = tmp_path / "plain.txt"
    data.write_text("\n".join(f"{i}*2=" for i in range(8)))
    code, text = run(
        monkeypatch, capsys, "train", "certainty", "--model", model, "--data", data, "--out", tmp_path / "x", *SMALL
    )
    assert code == 0, text
    assert json.loads((tmp_path / "x" / "summary.json").read_text())["before"] == {}


def test_a_users_own_recipe(monkeypatch, capsys, model, data, tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from selfreward.recipes.grpo import GRPO\n"
        "@dataclass\n"
        "class Short(GRPO):\n"
        "    name: ClassVar[str] = 'short'\n"
        "    mechanism: ClassVar[str] = 'completions'\n"
        "    scale: float = 1.0\n"
        "    def collect(self, policy, prompts, run):\n"
        "        groups = policy.sample(prompts, self.group_size, run.sampling)\n"
        "        for g in groups:\n"
        "            g.reward_with([-self.scale * len(t.last) for t in g])\n"
        "            run.count(self.mechanism, len(g))\n"
        "        return self.learn_from(groups)\n"
    )
    args = ["--model", model, "--data", data, "--out", tmp_path / "x", *SMALL, "--set", "scale=0.5"]
    code, text = run(monkeypatch, capsys, "train", recipe, *args)
    assert code == 0, text
    assert json.loads((tmp_path / "x" / "summary.json").read_text())["recipe"] == "short"


def test_compare_writes_one_table_with_controls(monkeypatch, capsys, model, data, tmp_path):
    out = tmp_path / "c"
    args = ["--model", model, "--data", data, "--out", out, "--seeds", "1", "--controls", *SMALL]
    code, text = run(monkeypatch, capsys, "compare", "vote", "mine=vote:missing=own", *args)
    assert code == 0, text
    result = json.loads((out / "compare.json").read_text())
    assert list(result["arms"]) == ["vote", "mine", "gold", "random", "format-only"]
    assert result["arms"]["gold"]["control"] and result["arms"]["gold"]["labels"] == "outcome"
    starts = [arm["seeds"][0]["before"] for arm in result["arms"].values()]
    assert all(start == starts[0] for start in starts)
    assert (out / "report.html").is_file()
    code, text = run(monkeypatch, capsys, "compare", "vote", "mine=vote:missing=zero", *args)
    assert code == 2 and "finished run with another missing" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "voet"], "Did you mean 'vote'?"),
        (["train", "vote", "--set", "learning_rate=1"], "There is no option 'learning_rate'"),
        (["train", "vote", "--set", "group_sise=4"], "Did you mean 'group_size'?"),
        (["train", "vote", "--set", "steps"], "--set takes KEY=VALUE"),
        (["train", "vote", "--set", "lr=fast"], "lr is 'fast'"),
        (["train", "vote", "--set", "missing=maybe"], "missing is 'maybe'"),
        (["train", "vote", "--set", "statistic=entropy"], "There is no option 'statistic'"),
        (["train", "vote", "--steps", "0"], "steps is 0"),
        (["train", "vote", "--model", "./nowhere"], "does not exist"),
        (["train", "vote", "--model", "{empty}"], "no config.json"),
        (["train", "vote", "--model", "{pickled}"], "only pickled weights"),
        (["train", "vote", "--model", "{broken}"], "not readable JSON"),
        (["train", "vote", "--model", "{truncated}", "--data", "{long}"], "Cannot load the model"),
        (["train", "vote", "--model", "{model}"], "needs prompts: data="),
        (["train", "vote", "--model", "{model}", "--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["train", "vote", "--model", "{model}", "--data", "{bad}"], "line 2"),
        (["train", "vote", "--model", "{model}", "--data", "{long}"], "longer than"),
        (["train", "vote", "--config", "nowhere.yaml"], "does not exist"),
        (["train", "--resume", "nowhere"], "holds no run"),
        (["train"], "Which recipe?"),
        (["train", "nowhere.py"], "does not exist"),
        (["show", "ssr-zer"], "ssr-zero"),
        (["reproduce", "dreamer"], "dreamer"),
        (["compare", "vote:missing"], "not KEY=VALUE"),
        (["train", "vote", "--out", "/proc/nowhere/run"], "/proc/nowhere"),
        (["pretrain", "chian", "--out", "{empty}/x"], "Did you mean 'chain'?"),
    ],
)
def test_a_mistake_gets_a_sentence(monkeypatch, capsys, tmp_path, model, args, message):
    places = {"model": model}
    for name in ("empty", "pickled", "broken", "truncated"):
        places[name] = tmp_path / name
        places[name].mkdir()
    (places["pickled"] / "config.json").write_text((model / "config.json").read_text())
    (places["pickled"] / "pytorch_model.bin").write_bytes(b"x")
    (places["broken"] / "config.json").write_text("{")
    for file in model.iterdir():
        content = file.read_bytes()
        (places["truncated"] / file.name).write_bytes(content[:100] if file.suffix == ".safetensors" else content)
    places["bad"] = tmp_path / "bad.jsonl"
    places["bad"].write_text('{"prompt": "1+1="}\n{"prompt": 3}\n')
    places["long"] = tmp_path / "long.jsonl"
    places["long"].write_text(json.dumps({"prompt": "1" * 500}) + "\n")
    monkeypatch.chdir(tmp_path)
    code, text = run(monkeypatch, capsys, *[a.format(**places) for a in args])
    assert code == 2, text
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "runs").exists()


def test_arms_are_parsed():
    assert parse_arm("vote").label == "vote"
    arm = parse_arm("mine=judge:template=naive-judge,weights=frozen")
    assert (arm.label, arm.recipe, arm.options) == ("mine", "judge", {"template": "naive-judge", "weights": "frozen"})


def test_configuration_knows_run_and_recipe_keys():
    config = make_config({"recipe": "vote"}, ["quorum=0.5", "lr=1e-3", "limit=none"])
    assert (config.options, config.lr, config.limit) == ({"quorum": 0.5}, 1e-3, None)
    with pytest.raises(ConfigError, match=r"temperature is -1.*"):
        from selfreward.policy.sampling.params import SamplingParams

        SamplingParams(temperature=-1)


def test_help_and_version_are_light():
    code = (
        "import sys; from selfreward.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_recipe_without_model_and_data_runs_on_its_own_task():
    from selfreward.training.config import make_config

    assert make_config({"recipe": "ssr-zero"}).model == "embedded:trans"
    assert make_config({"recipe": "vote"}).model == "embedded:chain"
    assert make_config({"recipe": "ssr-zero", "data": "x.jsonl"}).model == "embedded:chain"
