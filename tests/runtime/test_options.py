"""Options as users write them, and the sentences that wrong ones get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from annotated_types import Ge, Gt, Le, Lt

from selfreward.errors import ConfigError
from selfreward.runtime.options import check_bounds, coerce_fields, parse_settings


@dataclass
class Options:
    steps: Annotated[int, Ge(1)] | None = None
    lr: Annotated[float, Gt(0), Le(1)] = 0.1
    share: Annotated[float, Ge(0), Lt(1), "lie in [0, 1)"] = 0.5
    name: str = ""


def test_settings_are_keys_and_values():
    assert parse_settings(["lr=1e-5", " steps = 20", "name=a=b", "lr=2"]) == {"lr": "2", "steps": " 20", "name": "a=b"}
    for text in ("steps", "=3", " =3"):
        with pytest.raises(ConfigError, match=r"--set takes KEY=VALUE, not"):
            parse_settings([text])


def test_texts_become_what_the_field_holds():
    assert coerce_fields(Options, {"steps": " 20", "lr": "1e-5"}, where="here") == {"steps": 20, "lr": 1e-5}
    assert coerce_fields(Options, {"steps": "none"}, where="here") == {"steps": None}
    with pytest.raises(ConfigError, match=r"here has no key 'step'. Did you mean 'steps'\?"):
        coerce_fields(Options, {"step": 1}, where="here")
    with pytest.raises(ConfigError, match=r"here: steps is 'many', but it should be a valid integer"):
        coerce_fields(Options, {"steps": "many"}, where="here")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 or more."),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0 and be 1 or less."),
        ({"lr": 2.0}, "lr is 2.0; it must be above 0 and be 1 or less."),
        ({"lr": float("nan")}, "lr is nan; it must be above 0 and be 1 or less."),
        ({"share": 1.0}, "share is 1.0; it must lie in [0, 1)."),
    ],
)
def test_what_is_out_of_bounds_gets_a_sentence(values, sentence):
    with pytest.raises(ConfigError) as error:
        check_bounds(Options, values)
    assert str(error.value) == sentence
    with pytest.raises(ConfigError) as error:
        check_bounds(Options, values, where="my.yaml")
    assert str(error.value) == "my.yaml: " + sentence


def test_what_is_inside_the_bounds_or_open_passes():
    check_bounds(Options, {"steps": None, "lr": 1.0, "share": 0.0, "name": "x"})
