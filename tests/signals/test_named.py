"""Signals by name: what each needs, how it is called, and the recipe that trains on any of them."""

from __future__ import annotations

import pytest

from selfreward.data.answers import Number
from selfreward.data.rollout_files import text_group
from selfreward.errors import ConfigError, UnavailableError
from selfreward.rollouts.run import RunContext
from selfreward.signals.named import parse_signal, score_groups, split_signals
from selfreward.signals.registry import SIGNALS, signal
from selfreward.signals.text_metrics import mean_similarity
from selfreward.training.config import make_config
from selfreward.training.launch import start
from selfreward.types import Prompt
from tests.support.models import make_policy


def group(completions, reference=None, key="q"):
    prompt = Prompt(key, "?", reference=reference)
    return text_group(prompt, completions, key)


def context(**given):
    space = Number()
    return RunContext(space, lambda text: space.extract(text) is not None, **given)


def test_texts_alone_are_enough_for_the_signals_of_agreement_and_form():
    # Four readable answers 8, 8, 8.0 and 7, and one without an answer.
    groups = [group(["it is 8", "8", "8.0", "maybe 7", "no idea"], reference="7")]
    expected = {
        "vote": [1, 1, 1, 0, 0],
        "cluster_share": [0.6, 0.6, 0.6, 0.2, 0],
        "gold": [0, 0, 0, 1, 0],
        "format_only": [1, 1, 1, 1, 0],
        "length": [7, 1, 3, 7, 7],
        "constant": [1] * 5,
        "vote:quorum=0.8": [0] * 5,  # 3 of the 4 that answered is .75
    }
    for spec, values in expected.items():
        assert score_groups(spec, context(), groups) == [pytest.approx(values)], spec


def test_what_is_missing_is_said_and_not_made_up():
    groups = [group(["1", "2"])]
    for spec, words in (
        ("gold", "reference answer"),
        ("mean_logprob", "needs a model"),
        ("judge_expected", "needs a model"),
        ("cross_vote", "another view"),
    ):
        with pytest.raises(UnavailableError, match=words):
            score_groups(spec, context(), groups)
    with pytest.raises(ConfigError, match="Did you mean 'quorum'"):
        parse_signal("vote:quorom=1")
    with pytest.raises(ConfigError, match="Did you mean 'vote'"):
        parse_signal("vot")


def test_a_view_that_comes_with_the_group_is_voted_on_together():
    g = group(["8", "8", "7"])
    g.meta["view"] = group(["7", "7.0", "9"])
    assert score_groups("cross_vote", context(), [g]) == [[0, 0, 1]]


def test_statistics_come_from_the_sampler_or_from_one_scoring_pass():
    policy = make_policy()
    prompts = [Prompt(str(i), f"{i}+1=") for i in range(2)]
    groups = policy.sample(prompts, 3, seed=0)
    first = score_groups("negative_entropy", context(policy=policy), groups)
    assert "scored" not in policy.counts.scored and not policy.counts.scored  # nothing was computed again
    for t in (t for g in groups for t in g):
        t.last.stats.clear()
    again = score_groups("negative_entropy", context(policy=policy), groups)
    assert sum(policy.counts.scored.values()) > 0
    for a, b in zip(first, again, strict=True):
        assert b == pytest.approx(a, abs=1e-4)


def test_signals_and_their_options_share_the_comma():
    assert split_signals("vote, borda:by=gap,power=2,length") == ["vote", "borda:by=gap,power=2", "length"]
    assert parse_signal("borda:by=gap,power=2") == ("borda", {"by": "gap", "power": 2})
    for spec in SIGNALS:
        assert parse_signal(spec) == (spec, {})


def test_mean_similarity_worked_by_hand():
    same = lambda a, b: [float(x == y) for x, y in zip(a, b, strict=True)]  # noqa: E731
    assert mean_similarity(["a", "a", "b", None], same) == [0.5, 0.5, 0, 0]
    assert mean_similarity(["a", None], same) == [0, 0]


@pytest.mark.parametrize(("spec", "labels"), [("judge_expected", "none"), ("cross_vote", "none"), ("gold", "outcome")])
def test_any_signal_trains(tmp_path, spec, labels):
    values = {"recipe": "signal", "model": "embedded:chain", "steps": 2, "eval_prompts": 4, "out": str(tmp_path / "r")}
    trainer = start(make_config(values, [f"signal={spec}", "prompts_per_step=4", "group_size=8", "max_new_tokens=16"]))
    assert trainer.recipe.needs() == labels
    summary = trainer.fit()
    assert summary["mechanism"]["count"] > 0


def test_everyday_names_of_signals_mean_the_same_everywhere():
    assert parse_signal("self-certainty") == ("self_certainty", {})
    assert parse_signal("judge:template=mine")[0] == "judge_expected"
    assert signal("entropy") is signal("negative_entropy")
