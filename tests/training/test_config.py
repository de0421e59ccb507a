"""A configuration from a file, options and ``--set``: what counts more, and where a mistake is."""

from __future__ import annotations

import math

import pytest

from selfreward.errors import ConfigError
from selfreward.training.config import TrainConfig, make_config, read_config, split_options, write_config


def test_set_counts_more_than_values_and_texts_are_typed():
    config = make_config({"recipe": "vote", "steps": 3, "lr": "1e-3"}, ["steps=7", "quorum=0.5", "limit=none"])
    assert (config.steps, config.lr, config.limit, config.options) == (7, 1e-3, None, {"quorum": 0.5})


@pytest.mark.parametrize(
    ("values", "settings", "sentence"),
    [
        ({"steps": 0}, [], "my.yaml: steps is 0; it must be 1 or more."),
        ({"steps": "many"}, [], "my.yaml: steps is 'many', but it should be a valid integer"),
        ({"stesp": 1}, [], "my.yaml: There is no option 'stesp', neither of the run nor of recipe 'vote'."),
        ({"missing": "maybe"}, [], "my.yaml: recipe 'vote': missing is 'maybe', but it should be"),
        ({}, ["steps=0"], "--set: steps is 0; it must be 1 or more."),
        ({}, ["lr=fast"], "--set: lr is 'fast', but it should be a valid number"),
        ({"steps": 3}, ["steps=0"], "--set: steps is 0; it must be 1 or more."),
    ],
)
def test_a_mistake_is_named_with_its_place(values, settings, sentence):
    with pytest.raises(ConfigError) as error:
        make_config(values, settings, where=dict.fromkeys(values, "my.yaml"))
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"eval_samples": 0}, "eval_samples is 0; it must be 1 or more."),
        ({"log_groups": -2}, "log_groups is -2; it must be -1 or more."),
        ({"probe_samples": 1}, "probe_samples is 1; it must be 2 or more."),
        ({"grad_clip": 0.0}, "grad_clip is 0.0; it must be above 0."),
        ({"engine_tolerance": -1.0}, "engine_tolerance is -1.0; it must be above 0."),
        ({"step_timeout_s": math.nan}, "step_timeout_s is nan; it must be 0 (no limit) or more."),
        ({"max_log_ratio": -1.0}, "max_log_ratio is -1.0; it must be 0 (no limit) or more."),
        ({"holdout": 1.0}, "holdout is 1.0; it must lie in [0, 1)."),
    ],
)
def test_bounds_hold_for_configurations_made_in_code(values, sentence):
    with pytest.raises(ConfigError) as error:
        TrainConfig(**values)
    assert str(error.value) == sentence


def test_what_is_no_key_of_a_run_belongs_to_the_recipe():
    assert split_options({"steps": 3, "quorum": 0.5, "options": {"missing": "own"}}) == {
        "steps": 3,
        "options": {"missing": "own", "quorum": 0.5},
    }


def test_a_configuration_is_read_as_it_was_written(tmp_path):
    config = make_config({"recipe": "vote", "out": str(tmp_path)}, ["group_size=4", "lr=1e-3"])
    write_config(config, tmp_path / "config.yaml")
    assert TrainConfig(**read_config(tmp_path / "config.yaml")) == config
