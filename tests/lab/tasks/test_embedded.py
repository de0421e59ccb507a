"""The table of embedded tasks: every task says what it is, and every base is found by its name."""

import pytest

from selfreward.errors import ConfigError
from selfreward.lab.bases import shipped
from selfreward.lab.embedded import FURTHER, TASKS, base_of, task_module


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_says_what_it_is_in_one_line(name):
    first, rest = task_module(name).__doc__.split("\n", 1)
    assert first.lower().startswith(name) and first.endswith(".") and rest.startswith("\n")


def test_every_base_is_found_by_its_name():
    bases = {name: base_of(name) for name in (*TASKS, *FURTHER)}
    assert {name: base.name for name, base in bases.items() if base.name != name} == {"facts-direct": "facts"}
    assert set(shipped()) <= set(bases)
    assert all(base.start in (None, *shipped()) for base in bases.values())
    for name, base in bases.items():
        assert base.vocabulary or base.start, name
        assert base.measures or not base.holds, name
        assert (base.probe is None) == (not base.gate), name


def test_an_unknown_base_is_named():
    with pytest.raises(ConfigError, match=r"no embedded base 'chian'.*'chain'"):
        base_of("chian")
