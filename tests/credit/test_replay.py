"""A replay store forgets the oldest, and a restored one goes on as if never stopped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from selfreward.credit.replay import Replay
from selfreward.errors import CheckpointError, ConfigError
from selfreward.runtime.checkpoint import load_checkpoint, save_checkpoint
from selfreward.types import Group, Prompt, Row, Segment, Trajectory


def row(n: int) -> Row:
    ones = torch.ones(n)
    return Row(torch.arange(n), ones, 0.1 * ones, -ones, 0 * ones, ones / 3)


def group(meta: object = 0.5) -> Group:
    prompt = Prompt("p", messages=({"role": "user", "content": "?"},), fields={"level": 3}).locked("vote", ["level"])
    solver = Segment(
        "solver", torch.tensor([4, 5]), "ab", torch.tensor([-0.1, -2.0]), True, stats={"entropy": torch.ones(2)}
    )
    return Group("p/0", prompt, [Trajectory(prompt, [solver], reward=1.0, meta={"class": None})], {"share": meta})


def test_the_oldest_make_room() -> None:
    store: Replay[int] = Replay(capacity=3)
    assert store.add([1, 2], step=1) == 0
    assert store.add([3, 4], step=2) == 1
    assert sorted(store.sample(9)) == [2, 3, 4]


def test_expiry() -> None:
    store: Replay[int] = Replay(capacity=9)
    for step in range(5):
        store.add([step], step)
    assert store.expire(step=5, max_age=2) == 3
    assert sorted(store.sample(9)) == [3, 4]


def test_a_draw_never_repeats_an_item() -> None:
    store: Replay[int] = Replay(capacity=9)
    store.add(range(9), step=0)
    drawn = store.sample(5)
    assert len(set(drawn)) == len(drawn) == 5
    assert store.sample(0) == []
    assert Replay(1).sample(3) == []


def test_recency_halves_the_chance_per_half_life() -> None:
    """Ages 0 and 10 at half life 10: the young one is drawn two times in three."""
    store: Replay[str] = Replay(capacity=2)
    store.add(["old"], step=0)
    store.add(["young"], step=10)
    counts = Counter(store.sample(1, half_life=10)[0] for _ in range(3000))
    assert counts["young"] / 3000 == pytest.approx(2 / 3, abs=0.03)
    even = Counter(store.sample(1)[0] for _ in range(3000))
    assert even["young"] / 3000 == pytest.approx(1 / 2, abs=0.03)


def test_very_old_items_can_still_be_drawn() -> None:
    store: Replay[int] = Replay(capacity=2)
    store.add([0], step=0)
    store.add([1], step=10**6)
    assert store.sample(2, half_life=1) == [1, 0]


def test_a_restored_store_draws_the_same(tmp_path: Path) -> None:
    """Through a checkpoint on disk, with rows and groups, in the middle of a run."""
    store: Replay[object] = Replay(capacity=6, seed=7)
    store.add([row(2), row(3), group(), row(4)], step=1)
    store.sample(2)
    save_checkpoint(tmp_path, 1, {"replay": store.state_dict()})
    restored: Replay[object] = Replay(capacity=6, seed=0)
    restored.load_state_dict(load_checkpoint(tmp_path / "step-00000001")["replay"])
    for s in (store, restored):
        s.add([row(5), row(6), row(7)], step=2)
    for _ in range(3):
        assert [repr(x) for x in store.sample(4, half_life=3)] == [repr(x) for x in restored.sample(4, half_life=3)]


def test_rows_come_back_bit_equal_and_independent() -> None:
    store: Replay[Row] = Replay(capacity=1)
    kept = row(3)
    kept.extra = {"target": torch.tensor([0.0, 0.5, 0.0])}
    store.add([kept], step=4)
    restored: Replay[Row] = Replay(capacity=1)
    restored.load_state_dict(store.state_dict())
    a, b = store.sample(1)[0], restored.sample(1)[0]
    for name in ("tokens", "mask", "advantage", "behaviour", "nll", "kl"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert torch.equal(a.extra["target"], b.extra["target"])
    b.mask.zero_()
    assert a.mask.sum() == 3


def test_groups_come_back_whole_and_locked() -> None:
    store: Replay[Group] = Replay(capacity=1)
    store.add([group()], step=0)
    store.load_state_dict(store.state_dict())
    (back,) = store.sample(1)
    assert back.prompt == group().prompt
    assert back.prompt.locked_by == "vote"
    assert repr(back) == repr(group())


def test_a_smaller_capacity_keeps_the_newest() -> None:
    store: Replay[int] = Replay(capacity=5)
    store.add(range(5), step=0)
    small: Replay[int] = Replay(capacity=2)
    small.load_state_dict(
        json.loads(json.dumps({**store.state_dict(), "generator": None}))
        | {"generator": store.state_dict()["generator"]}
    )
    assert sorted(small.sample(5)) == [3, 4]


def test_errors_name_the_place() -> None:
    store: Replay[Group] = Replay(capacity=1)
    store.add([group(meta=object())], step=0)
    with pytest.raises(CheckpointError, match=r"item\.meta\.share"):
        store.state_dict()
    with pytest.raises(ConfigError, match="capacity"):
        Replay(0)
    with pytest.raises(ConfigError, match="half_life"):
        store.sample(1, half_life=0)
    with pytest.raises(CheckpointError, match="damaged"):
        store.load_state_dict({"items": [], "steps": [1], "generator": torch.Generator().get_state()})
