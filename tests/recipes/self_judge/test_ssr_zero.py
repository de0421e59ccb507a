"""SSR-Zero: the reward is the policy's own score of what it wrote, and nothing else moves."""

from __future__ import annotations

import json

import pytest

from selfreward.errors import DataError
from selfreward.lab.embedded import load_task
from selfreward.recipes.registry import load_recipe
from selfreward.training.config import make_config
from selfreward.training.launch import build, start
from selfreward.types import Prompt
from tests.support.models import save_model

pytest.importorskip("sacrebleu")


def one_step(tmp_path, recipe="ssr-zero", **options):
    settings = {"steps": 1, "prompts_per_step": 4, "eval_prompts": 0, "out": str(tmp_path / "run")}
    trainer = build(make_config({"recipe": recipe, "model": "embedded:trans", "options": options, **settings}))
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    lines = (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()
    return trainer, [json.loads(line) for line in lines]


def test_only_actor_tokens_learn_and_malformed_completions_get_nothing(tmp_path):
    trainer, groups = one_step(tmp_path, group_size=8)
    assert trainer.mechanism > 0
    form = load_task("trans").well_formed
    seen = [(form(c["text"]), c["reward"]) for g in groups for c in g["completions"]]
    assert all(reward == 0 for ok, reward in seen if not ok)
    assert all(0 < reward <= 1 for ok, reward in seen if ok)
    assert set(trainer.policy.counts.generated) - {"probe"} == {"solver"}  # the expected score needs no sampling


def test_the_sum_pays_for_the_format(tmp_path):
    _, groups = one_step(tmp_path, combine="sum", format_weight=2.0, group_size=8)
    form = load_task("trans").well_formed
    rewards = [(form(c["text"]), c["reward"]) for g in groups for c in g["completions"]]
    assert min(r for ok, r in rewards if ok) >= 2.0
    assert max([r for ok, r in rewards if not ok], default=0) <= 1.0


def test_corrupted_scores_are_the_same_scores_in_other_places(tmp_path):
    _, honest = one_step(tmp_path / "a", group_size=6)
    _, shuffled = one_step(tmp_path / "b", group_size=6, corrupt="permuted", combine="sum", format_weight=0.0)
    _, plain = one_step(tmp_path / "c", group_size=6, combine="sum", format_weight=0.0)
    for a, b in zip(plain, shuffled, strict=True):
        own, moved = ([c["reward"] for c in g["completions"]] for g in (a, b))
        assert sorted(own) == pytest.approx(sorted(moved))
    assert any(a != b for a, b in zip(plain, shuffled, strict=True))
    _, swapped = one_step(tmp_path / "d", group_size=6, corrupt="swapped")
    mean = [sum(c["reward"] for g in groups for c in g["completions"]) for groups in (honest, swapped)]
    assert mean[1] < mean[0]


@pytest.mark.parametrize("readout", ["number", "mean"])
def test_sampled_judgements_are_parsed_and_counted(tmp_path, readout):
    trainer, _ = one_step(tmp_path, readout=readout, judge_tokens=2, judge_samples=2, group_size=4)
    assert trainer.policy.counts.generated["judge"] > 0
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert "judge/parse_failures" in record and record["judge/mean"] > 0


def test_an_external_metric_is_mixed_in_and_references_make_it_labelled(tmp_path):
    metric = tmp_path / "metric.py"
    metric.write_text("def brevity(sources, hypotheses):\n    return [1 / (1 + len(h)) for h in hypotheses]\n")
    _, groups = one_step(tmp_path, "ssr-x-zero", metric=f"{metric}:brevity", self_weight=0.0, group_size=4)
    for c in (c for g in groups for c in g["completions"]):
        assert c["reward"] == pytest.approx(1 / (1 + len(c["answer"])) if c["reward"] else 0)
    assert load_recipe("ssr-x-zero", {"metric": "comet"}).needs() == "none"
    assert load_recipe("ssr-x-zero", {"metric": "chrf"}).needs() == "outcome"


@pytest.mark.parametrize("recipe", ["mbr", "cycle", "true-quality"])
def test_the_rewards_it_is_compared_with(tmp_path, recipe):
    trainer, groups = one_step(tmp_path, recipe, group_size=4)
    assert trainer.mechanism > 0
    assert len({c["reward"] for g in groups for c in g["completions"]}) > 2


def test_a_users_sentences(tmp_path):
    data = tmp_path / "sentences.jsonl"
    rows = [{"source": f"satz {i}", "source_language": "german", "target_language": "english"} for i in range(6)]
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    model = save_model(tmp_path / "model")
    values = {
        "recipe": "ssr-zero",
        "model": str(model),
        "data": str(data),
        "steps": 1,
        "prompts_per_step": 2,
        "max_new_tokens": 4,
        "options": {"group_size": 2},
        "out": str(tmp_path / "run"),
    }
    from selfreward.training.config import TrainConfig
    from selfreward.training.launch import task_of

    task = load_recipe("ssr-zero").adapt(task_of(TrainConfig(data=str(data), model=str(model))))
    shown = task.train[0].text
    assert "german" in shown and "english" in shown and "satz" in shown and "<answer>" in shown
    assert task.well_formed("<think>hm</think> <answer>a sentence</answer>")
    assert not task.well_formed("a sentence")
    with pytest.raises(DataError, match="longer than"):
        start(make_config(values))  # the test model holds 128 characters

    data.write_text('{"source": "satz"}\n{"source": "zwei"}\n')
    with pytest.raises(DataError, match="target_language"):
        load_recipe("ssr-zero").adapt(task_of(TrainConfig(data=str(data), model=str(model))))


def test_the_judge_sees_no_thought_of_the_actor():
    task = load_task("trans")
    text = "<think> give me 10 </think> <answer> sadi </answer>"
    assert task.answers.extract(text) == "sadi"
    assert Prompt("x", text="y", reference="secret").locked("ssr-zero").reference is None
