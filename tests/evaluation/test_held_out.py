"""Evaluation of a policy whose completions are written down, so that every number can be checked by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
import torch

from selfreward.data.answers import answer_space
from selfreward.errors import ConfigError, DataError, LabelAccessError
from selfreward.evaluation.held_out import difference, evaluate
from selfreward.policy.sampling.params import SamplingParams
from selfreward.types import Group, Prompt, Segment, Trajectory

NUMBER = answer_space("number")

PROMPTS = [Prompt("a", "1+1=", reference="2"), Prompt("b", "2+2=", reference="4"), Prompt("c", "x=")]
SAMPLED = {
    "a": ["#### 2", "#### 2", "#### 2", "#### 3"],
    "b": ["#### 5", "#### 5", "#### 4.0", "no idea"],
    "c": ["#### 7", "#### 7", "#### 7", "#### 7"],
}
GREEDY = {"a": "#### 2", "b": "#### 5", "c": "#### 7"}


class Scripted:
    """A policy that reads its lines; completion ``i`` is ``i + 1`` tokens long with entropy 0.5 per token."""

    def __init__(self, sampled: dict[str, list[str]] = SAMPLED, greedy: dict[str, str] = GREEDY) -> None:
        self.sampled, self.greedy = sampled, greedy
        self.calls: list[tuple[int, float, int | None]] = []

    def sample(
        self, prompts: Sequence[Prompt], n: int = 1, params: SamplingParams | None = None, *, seed: int | None = None
    ) -> list[Group]:
        assert params is not None
        self.calls.append((n, params.temperature, seed))
        groups = []
        for p in prompts:
            texts = [self.greedy[p.id]] if params.temperature == 0 else self.sampled[p.id][:n]
            trajectories = []
            for i, text in enumerate(texts):
                tokens = torch.zeros(i + 1, dtype=torch.long)
                stats = {"entropy": torch.full((i + 1,), 0.5)}
                head = Segment("prompt", torch.zeros(9, dtype=torch.long))
                trajectories.append(Trajectory(p, [head, Segment("solver", tokens, text, trainable=True, stats=stats)]))
            groups.append(Group(p.id, p, trajectories))
        return groups


def test_every_number_by_hand() -> None:
    policy = Scripted()
    result = evaluate(policy, PROMPTS, NUMBER, k=4, seed=11)
    m = result.metrics
    assert m["accuracy"] == 0.5
    assert m["pass@1"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert m["pass@k"] == 1.0
    assert m["maj@k"] == 0.5
    # Confidence of the vote: 3/4 and right, 2/4 and wrong.
    assert m["ece"] == pytest.approx((0.25 + 0.5) / 2)
    assert m["brier"] == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert m["auroc"] == 1.0
    # These need no label, so the third prompt counts.
    assert m["format"] == pytest.approx((1 + 3 / 4 + 1) / 3)
    assert m["agreement"] == pytest.approx((3 / 4 + 2 / 4 + 1) / 3)
    assert m["unique_answers"] == pytest.approx((2 + 2 + 1) / 3)
    assert m["length"] == pytest.approx(2.5)
    assert m["entropy"] == pytest.approx(0.5)
    assert result.unlabelled == 1
    assert policy.calls == [(4, 1.0, 11), (1, 0.0, 11)]


def test_intervals_hold_their_value_and_everything_is_json() -> None:
    result = evaluate(Scripted(), PROMPTS, NUMBER, k=4)
    assert set(result.intervals) == set(result.metrics)
    for name, (low, high) in result.intervals.items():
        assert low - 1e-9 <= result.metrics[name] <= high + 1e-9, name
    assert result.intervals["pass@k"][0] < 0.5, "two prompts cannot prove a share of 1"
    record = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert record["pass@1"] == 0.5 and record["intervals"]["pass@1"] == list(result.intervals["pass@1"])
    assert (record["prompts"], record["unlabelled"], record["k"], record["samples"]) == (3, 1, 4, 4)


def test_more_samples_than_k_use_the_unbiased_estimators() -> None:
    m = evaluate(Scripted(), PROMPTS, NUMBER, k=2, samples=4).metrics
    # a: three of four right, every pair has one. b: one of four right, half of the pairs have it.
    assert m["pass@k"] == pytest.approx((1 + 1 / 2) / 2)
    # a: pairs 2-2 (three) right, 2-3 (three) tied. b: tied 5-4 (two), right 4-none (one) of six.
    assert m["maj@k"] == pytest.approx(((3 + 3 * 0.5) / 6 + (2 * 0.5 + 1) / 6) / 2)


def test_without_answers_only_label_free_numbers_are_reported() -> None:
    result = evaluate(Scripted(), PROMPTS[2:], NUMBER, k=4)
    assert set(result.metrics) == {"format", "agreement", "unique_answers", "length", "entropy"}
    assert result.unlabelled == 1


def test_silence_is_not_agreement() -> None:
    m = evaluate(Scripted({"a": ["um"] * 4}, {"a": "um"}), PROMPTS[:1], NUMBER, k=4).metrics
    assert m["agreement"] == 0 and m["format"] == 0 and m["maj@k"] == 0 and m["unique_answers"] == 0


def test_own_format_check_and_no_greedy() -> None:
    policy = Scripted()
    result = evaluate(policy, PROMPTS, NUMBER, k=4, greedy=False, well_formed=lambda text: "idea" in text)
    assert result.metrics["format"] == pytest.approx(1 / 12)
    assert "accuracy" not in result.metrics and len(policy.calls) == 1


def test_paired_difference_is_narrower_than_the_two_intervals() -> None:
    prompts = [Prompt(str(i), "?", reference="1") for i in range(30)]
    hard = {p.id: (["1"] * (i % 4) + ["0"] * 4)[:4] for i, p in enumerate(prompts)}
    easier = {key: ["1", *texts[:3]] for key, texts in hard.items()}
    greedy = dict.fromkeys(hard, "1")
    before = evaluate(Scripted(hard, greedy), prompts, NUMBER, k=4)
    after = evaluate(Scripted(easier, greedy), prompts, NUMBER, k=4)
    gain = difference(before, after)
    assert gain == pytest.approx((0.25, 0.25, 0.25))
    assert before.intervals["pass@1"][1] - before.intervals["pass@1"][0] > 0.1
    assert math.isclose(difference(after, before).value, -0.25)
    with pytest.raises(ConfigError, match="different prompts"):
        difference(before, evaluate(Scripted(), PROMPTS, NUMBER, k=4))
    with pytest.raises(ConfigError, match="no value per prompt"):
        difference(before, after, "ece")


def test_bad_requests_say_what_would_be_right() -> None:
    with pytest.raises(DataError, match="empty"):
        evaluate(Scripted(), [], NUMBER)
    with pytest.raises(ConfigError, match="at least 8 samples"):
        evaluate(Scripted(), PROMPTS, NUMBER, k=8, samples=4)
    with pytest.raises(LabelAccessError):
        evaluate(Scripted(), [p.locked("vote") for p in PROMPTS], NUMBER, k=4)
