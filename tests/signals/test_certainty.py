"""Certainty: hand-computed distributions, then agreement with the definitions."""

import math

import pytest
import torch

from selfreward.policy.scoring.distribution import (
    STATS,
    centred_logit,
    entropy,
    negative_entropy,
    probability_gap,
    self_certainty,
    state_value,
    token_rank,
    token_statistics,
)
from selfreward.signals.certainty import (
    SEQUENCE_SCORES,
    mean_logprob,
    needed_statistic,
    perplexity,
    sequence_score,
    token_mean,
)

P = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.125]])
TOKENS = torch.tensor([3, 0])


def test_two_distributions_over_four_tokens():
    logits = P.log() + torch.tensor([[5.0], [-3.0]])  # a shift changes nothing
    stats = token_statistics(logits, TOKENS)
    log2 = math.log(2)
    torch.testing.assert_close(stats["logprob"], torch.tensor([-2 * log2, -log2]))
    torch.testing.assert_close(stats["entropy"], torch.tensor([2 * log2, 1.75 * log2]))
    # KL(U || p) of the second row: (1/4) * (1 + 2 + 3 + 3) bits - 2 bits = 0.25 bits.
    torch.testing.assert_close(stats["self_certainty"], torch.tensor([0.0, 0.25 * log2]), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(stats["gap"], torch.tensor([0.0, 0.25]))
    # 4 * 1/16, and 1/4 + 1/16 + 2 * 1/64.
    torch.testing.assert_close(stats["gini"], torch.tensor([0.25, 0.34375]))
    torch.testing.assert_close(negative_entropy(logits), -stats["entropy"])


def test_logits_read_as_values_by_hand():
    # Logits 3, 1, 0, 0 have mean 1: the centred logits are 2, 0, -1, -1, whatever was added to all of them.
    logits = torch.tensor([[3.0, 1.0, 0.0, 0.0]]) + 7
    assert centred_logit(logits, torch.tensor([0])).item() == pytest.approx(2)
    assert centred_logit(logits, torch.tensor([3])).item() == pytest.approx(-1)
    assert state_value(logits).item() == pytest.approx(2)
    # softmax = (e^2, 1, e^-1, e^-1) / 9.1248: 2 x .80979 + 0 x .10959 - 1 x .04032 x 2 = 1.5389.
    assert state_value(logits, "soft").item() == pytest.approx(1.5389, abs=1e-4)
    assert [token_rank(logits, torch.tensor([i])).item() for i in range(4)] == [1, 2, 3, 3]
    masked = torch.tensor([[3.0, 1.0, -torch.inf, -torch.inf]])
    assert state_value(masked).item() == pytest.approx(1)
    # softmax = (.88080, .11920) of the centred 1 and -1.
    assert state_value(masked, "soft").item() == pytest.approx(0.76159, abs=1e-5)


def test_statistics_follow_their_definitions():
    torch.manual_seed(0)
    logits = torch.randn(7, 30, dtype=torch.float64) * 4
    p = logits.softmax(-1)
    uniform = torch.full_like(p, 1 / 30)
    torch.testing.assert_close(entropy(logits), torch.distributions.Categorical(p).entropy())
    torch.testing.assert_close(self_certainty(logits), (uniform * (uniform / p).log()).sum(-1))
    torch.testing.assert_close(probability_gap(logits), p.sort(-1).values[:, -1] - p.sort(-1).values[:, -2])


@pytest.mark.parametrize("chunk", [1, 3, 7, 100, None])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_chunks_and_temperature_do_not_change_what_is_computed(chunk, temperature):
    torch.manual_seed(1)
    logits, tokens = torch.randn(7, 11), torch.randint(11, (7,))
    stats = token_statistics(logits, tokens, temperature=temperature, chunk=chunk)
    tempered = logits / temperature
    assert set(stats) == set(STATS)
    expected = torch.log_softmax(tempered, -1)[torch.arange(7), tokens]
    torch.testing.assert_close(stats["logprob"], expected)
    torch.testing.assert_close(stats["entropy"], entropy(tempered))
    torch.testing.assert_close(stats["self_certainty"], self_certainty(tempered))
    torch.testing.assert_close(stats["gap"], probability_gap(tempered))
    centred = tempered - tempered.mean(-1, keepdim=True)
    torch.testing.assert_close(stats["centred_logit"], centred[torch.arange(7), tokens])
    torch.testing.assert_close(stats["value_max"], centred.max(-1).values)
    torch.testing.assert_close(stats["value_soft"], (centred.softmax(-1) * centred).sum(-1))
    order = tempered.argsort(-1, descending=True)
    torch.testing.assert_close(stats["rank"], 1.0 + (order == tokens[:, None]).float().argmax(-1))


def test_half_precision_input_is_computed_in_float32():
    torch.manual_seed(2)
    half = (torch.randn(5, 1000) * 5).bfloat16()
    tokens = torch.randint(1000, (5,))
    for temperature in (1.0, 0.7):
        from_half = token_statistics(half, tokens, temperature=temperature)
        from_full = token_statistics(half.float(), tokens, temperature=temperature)
        for name in STATS:
            assert from_half[name].dtype == torch.float32
            torch.testing.assert_close(from_half[name], from_full[name])


def test_masked_vocabulary_is_not_infinitely_certain():
    logits = torch.tensor(
        [[0.0, 0.0, -torch.inf, -torch.inf], [0.0, 0.0, 0.0, 0.0], [0.0, -torch.inf, -torch.inf, -torch.inf]]
    )
    stats = token_statistics(logits, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(stats["entropy"], torch.tensor([math.log(2), math.log(4), 0.0]))
    torch.testing.assert_close(stats["self_certainty"], torch.zeros(3), atol=1e-6, rtol=0)
    assert token_statistics(torch.full((1, 3), torch.nan), torch.tensor([0]))["self_certainty"].isnan().all()


def test_no_rows_and_only_what_was_asked_for():
    stats = token_statistics(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), ("entropy", "logprob"))
    assert {k: v.shape for k, v in stats.items()} == {"entropy": (0,), "logprob": (0,)}
    with pytest.raises(AssertionError, match="unknown statistics"):
        token_statistics(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long), ("confidence",))


def test_gradient_of_the_statistics_is_exact():
    torch.manual_seed(3)
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda x: tuple(token_statistics(x, tokens, chunk=2).values()), logits)


def test_sequences():
    logp = torch.tensor([[-1.0, -3.0, -8.0], [-2.0, -2.0, -2.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(mean_logprob(logp, mask), torch.tensor([-2.0, -2.0]))
    torch.testing.assert_close(perplexity(logp, mask), torch.tensor([math.e**2, math.e**2]))
    torch.testing.assert_close(mean_logprob(logp), torch.tensor([-4.0, -2.0]))
    poisoned = torch.tensor([1.0, torch.nan])
    assert token_mean(poisoned, torch.tensor([1.0, 0.0])) == 1.0
    assert token_mean(torch.tensor([1.0]), torch.tensor([0.0])).isnan()


def test_every_sequence_score_reads_the_statistic_it_names():
    stats = {name: torch.tensor([[0.25, 0.75]]) * (-1 if name == "logprob" else 1) for name in STATS}
    values = {name: sequence_score(name, stats).item() for name in SEQUENCE_SCORES}
    assert values["entropy"] == values["self_certainty"] == values["gap"] == 0.5
    assert values["negative_entropy"] == values["mean_logprob"] == -0.5
    assert values["perplexity"] == pytest.approx(math.exp(0.5)) == -values["negative_perplexity"]
    assert needed_statistic("perplexity") == "logprob"
