"""A base as one value: what it reads, what it must be like, and that a folder holds all of it or nothing."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.lab.pretraining.base import Base, Within, failures
from selfreward.lab.pretraining.pretrain import PretrainSettings

SETTINGS = PretrainSettings(updates=4, batch=2, warmup=1, gate_every=2, cooldown=2)
SHAPE = {"width": 16, "layers": 1, "heads": 2, "ff": 16, "positions": 16}


@dataclass(frozen=True)
class Reversed:
    """Words and the same words backwards."""

    words: tuple[str, ...] = ("ab", "abc", "bca", "ca")

    def documents(self, n, seed):
        return [(word, word[::-1]) for word in self.words] * (n // 4 + 1)


def base(**changes):
    made = Base("toy", Reversed(), SETTINGS, vocabulary="abc", shape=SHAPE)
    return replace(made, **changes)


def card(folder):
    return json.loads((folder / "task.json").read_text())


def test_a_property_says_how_it_fails():
    assert Within("skill", 0.2, 0.4).failure({"skill": 0.3}) is None
    assert Within("skill", 0.2, 0.4).failure({"skill": 0.5}) == "skill is 0.500, not in [0.2, 0.4]"
    assert Within("skill", low=0.2, over="luck").failure({"skill": 0.5, "luck": 0.3}) is None
    assert Within("skill", low=0.2, over="luck").failure({"skill": 0.4, "luck": 0.3}) == (
        "skill - luck is 0.100, not in [0.2, inf]"
    )
    assert Within("skill", low=0.2, over="luck").failure({"luck": 0.3}) == "skill: not measured"
    assert len(failures([Within("skill", 0.2), Within("luck", 0.2)], {"skill": float("nan"), "luck": 1.0})) == 1


def test_the_card_says_how_a_base_was_made_and_what_does_not_hold(tmp_path):
    found = {"skill": 0.51234, "luck": 0.5, "note": "not a number"}
    made = base(
        measures={"measured here": lambda policy: found, "measured there": lambda policy: {"skill": 1}},
        holds=(Within("skill", low=0.5), Within("luck", high=0.4)),
        extras={"known.json": lambda policy: {"a": 0.12345}},
    ).build(tmp_path / "toy", seed=3, updates=2)
    assert (made.folder, made.passed, made.updates) == (tmp_path / "toy", False, 2)
    assert card(made.folder) == {
        "task": "toy",
        "command": "selfreward pretrain toy --out DIR --seed 3 --set updates=2",
        "documents": {"words": ["ab", "abc", "bca", "ca"]},
        "updates": 2,
        "has_properties": False,
        "does not hold": ["luck is 0.500, not in [-inf, 0.4]"],
        "measured here": {"skill": 0.512, "luck": 0.5},
        "measured there": {"skill": 1},
    }
    assert json.loads((made.folder / "known.json").read_text()) == {"a": 0.123}


def test_a_gate_decides_where_nothing_else_must_hold(tmp_path):
    looks = []

    def probe(policy):
        looks.append(policy.decode(policy.encode_text("ab")))
        return {"skill": 0.1 * len(looks)}

    steps = {}
    made = base(probe=probe, gate=(Within("skill", low=0.2),)).build(tmp_path / "toy", on_step=steps.__setitem__)
    assert looks == ["ab", "ab"] and [u for u, record in steps.items() if "skill" in record] == [2, 4]
    assert made.passed is True and made.metrics == {"skill": 0.2}
    assert card(made.folder)["has_properties"] is True and "does not hold" not in card(made.folder)
    assert base().build(tmp_path / "none").passed is None


def test_a_corpus_of_fixed_size_is_read_as_often_as_it_says(tmp_path):
    settings, documents = base(epochs=3).read(0, {})
    assert len(documents) == 4 and settings.updates == 4 * 3 // 2
    assert base(epochs=3).read(0, {"updates": 5})[0].updates == 5
    assert base(seed=7).read(2, {})[0].seed == 9


def test_the_same_seed_gives_the_same_weights(tmp_path):
    a, b, c = (base().build(tmp_path / name, seed).model for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    rows = list(zip(a.parameters(), b.parameters(), c.parameters(), strict=True))
    assert all(torch.equal(x, y) for x, y, _ in rows) and not all(torch.equal(x, z) for x, _, z in rows)


def test_what_fails_or_is_interrupted_leaves_everything_as_it_was(tmp_path):
    def interrupted(policy):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base(measures={"measured": interrupted}).build(tmp_path / "toy")
    assert not list(tmp_path.iterdir())
    first = card(base().build(tmp_path / "toy").folder)
    with pytest.raises(KeyboardInterrupt):
        base(measures={"measured": interrupted}).build(tmp_path / "toy", seed=1)
    assert card(tmp_path / "toy") == first and [p.name for p in tmp_path.iterdir()] == ["toy"]
    with pytest.raises(ConfigError, match="Did you mean 'updates'"):
        base().build(tmp_path / "other", update=3)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="other files"):
        base().build(tmp_path / "thesis")


def test_reading_on_starts_from_another_base_and_may_add_tokens(tmp_path):
    from transformers import AutoTokenizer

    made = Base(
        "toy", Reversed(), SETTINGS, start="prefs", added={"<new>": "rock"}, measures={"measured": lambda policy: {}}
    ).build(tmp_path / "toy", updates=1, lr=1e-9)
    assert card(made.folder)["starts from"] == "prefs"
    index = AutoTokenizer.from_pretrained(made.folder).get_vocab()
    table = made.model.get_input_embeddings().weight
    assert torch.allclose(table[index["<new>"]], table[index["rock"]], atol=1e-5)
