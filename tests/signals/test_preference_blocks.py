"""Soft labels, cross-pool pairs, agreement, implicit rewards, win rates, and token credit from opposite requests."""

from __future__ import annotations

import math

import pytest
import torch

from selfreward.credit.pairs import cross_pool, merged, provenance, rank_agreement
from selfreward.errors import ConfigError, RecipeError
from selfreward.losses import MicroBatch, Preference
from selfreward.losses.token_regularised import RegularisedPreference, sequence_weight, token_regularisation
from selfreward.signals.contrast import contrast_credit
from selfreward.signals.implicit import implicit_reward
from selfreward.signals.win_rates import OpponentQueue, antisymmetric, bradley_terry_scores, exploitability, win_rates
from selfreward.statistics import kendall_tau
from selfreward.types import Group, Prompt, Segment, Trajectory


def group(texts, name="p"):
    prompt = Prompt(name, "q")
    head = Segment("prompt", torch.tensor([1]))
    return Group(name, prompt, [Trajectory(prompt, [head, Segment("solver", torch.tensor([2]), t)]) for t in texts])


def batch(logp, reference, extra=None, pairs=((0, 1, 1.0, 0.0),)):
    logp = torch.tensor(logp, requires_grad=True)
    mask = torch.ones_like(logp)
    mask[:, 0] = 0
    zero = torch.zeros_like(mask)
    channels = {"reference": torch.tensor(reference)} | (extra or {})
    return MicroBatch(
        logp, zero, zero, mask, mask, zero, zero, extra=channels, pairs=list(pairs), total_pairs=len(pairs)
    )


def test_soft_labels_by_hand():
    """Log-ratios 2 and 1, beta 1: u = 1. With confidence .75 the loss is .75 log(1 + 1/e) + .25 log(1 + e)."""
    logp, reference = [[0.0, -1.0, -1.0], [0.0, -2.0, -1.0]], [[0.0, -2.0, -2.0], [0.0, -3.0, -1.0]]
    confidence = torch.tensor([[0.0, 0.75, 0.75], [0.0, 0.0, 0.0]])
    soft = Preference(beta=1.0, anchor="reference", confidence="confidence")
    value, _ = soft(batch(logp, reference, {"confidence": confidence}))
    assert float(value) == pytest.approx(0.75 * math.log1p(math.exp(-1)) + 0.25 * math.log1p(math.e))
    sure, _ = soft(batch(logp, reference, {"confidence": torch.zeros(2, 3)}))
    plain, _ = Preference(beta=1.0, anchor="reference")(batch(logp, reference))
    assert float(sure) == float(plain) == pytest.approx(math.log1p(math.exp(-1)))
    assert not soft.needs_reference


def test_confidence_one_half_has_no_gradient_at_the_reference():
    """At u = 0 the slope of -c log s(u) - (1-c) log s(-u) is (1 - 2c) / 2: zero for c = 1/2, DPO's for c = 1."""
    same = [[0.0, -1.0], [0.0, -2.0]]
    for confidence, slope in ((0.5, 0.0), (1.0, -0.5), (0.25, 0.25)):
        data = batch(same, same, {"confidence": torch.full((2, 2), confidence)})
        value, _ = Preference(beta=1.0, anchor="reference", confidence="confidence")(data)
        value.backward()
        assert data.logp.grad[0, 1] == pytest.approx(slope)


def test_channels_that_are_missing_or_senseless_are_errors():
    with pytest.raises(RecipeError, match="'confidence'"):
        Preference(confidence="confidence", anchor="reference")(batch([[0.0, 0.0]] * 2, [[0.0, 0.0]] * 2))
    with pytest.raises(ConfigError, match="pair by pair"):
        Preference(confidence="confidence", label_smoothing=0.1)
    with pytest.raises(ConfigError, match="asks for none"):
        Preference(anchor="reference", reference_free=True)


def test_cross_pool_pairs_by_hand():
    """Now a 3, b 5, c 2; past d 4, e 1; future f 6."""
    pools = {"now": group("abc"), "past": group("de"), "future": group("f")}
    every, scores = merged(pools), [3, 5, 2, 4, 1, 6]
    assert [t.meta["pool"] for t in every] == ["now"] * 3 + ["past"] * 2 + ["future"]
    (anchored,) = cross_pool(every, scores, chosen=("now",), rejected=("now", "past"))
    assert anchored[:2] == (1, 4)
    (guided,) = cross_pool(every, scores, chosen=("now", "future"), rejected=("now",), margin_scale=0.5)
    assert guided == (5, 2, 1.0, 2.0)
    tie = [3, 5, 1, 4, 1, 5]  # equal scores belong to the pool that is named first
    assert cross_pool(every, tie, chosen=("now", "future"), rejected=("now", "past"))[0][:2] == (1, 2)
    assert cross_pool(every, [None, None, None, 4, 1, 6], chosen=("now",), rejected=("past",)) == []
    assert cross_pool(every, [1, 1, 1, 1, 1, 1], chosen=("now",), rejected=("past",)) == []
    assert provenance(every, [guided], "cross_pool")[0]["pools"] == ["future", "now"]
    with pytest.raises(RecipeError, match="one prompt"):
        merged({"now": group("a"), "past": group("b", "other")})


def test_agreement_by_hand():
    """Of the three pairs of [1, 2, 3] and [1, 3, 2] two agree: tau 1/3, rate 2/3. A tie is neither."""
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert rank_agreement([1, 2, 3], [1, 3, 2]) == pytest.approx(2 / 3)
    assert rank_agreement([1, 2], [5, 5]) == 0.5 and rank_agreement([1, 2], [2, 1]) == 0
    assert rank_agreement([1, None], [1, 2]) is None and rank_agreement([1.0, math.nan], [1, 2]) is None


def test_implicit_reward_by_hand():
    mine, ancestor = torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -2.5])
    assert implicit_reward(mine, ancestor) == 1.5
    assert implicit_reward(mine, ancestor, beta=0.1, mean=True) == pytest.approx(0.075)


RPS = torch.tensor([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])  # rock, paper, scissors


def rps(question, pairs):
    return [float(RPS["rps".index(a), "rps".index(b)]) for a, b in pairs]


def test_win_rates_by_hand():
    """Rock, rock, paper: each rock ties the other and loses to paper, 1/4; paper beats both, 1."""
    assert win_rates(rps, "", ["r", "r", "p"]) == [0.25, 0.25, 1.0]
    assert win_rates(rps, "", ["r", "s"], opponents=["p", "p", "r"]) == pytest.approx([1 / 6, 2 / 3])
    assert sum(win_rates(rps, "", list("rrppsss"))) == pytest.approx(7 / 2)  # one half on average, always


def test_a_preference_for_the_first_is_averaged_away():
    assert antisymmetric(0.9, 0.3) == pytest.approx(0.8)
    assert antisymmetric(1.0, 1.0) == antisymmetric(None, None) == 0.5
    assert win_rates(lambda q, pairs: [1.0] * len(pairs), "", ["a", "b"]) == [0.5, 0.5]
    assert win_rates(lambda q, pairs: [None if p == ("a", "b") else 0.0 for p in pairs], "", ["a", "b"]) == [0.75, 0.25]
    with pytest.raises(RecipeError, match="at least two"):
        win_rates(rps, "", ["r"])
    with pytest.raises(RecipeError, match="chance in"):
        win_rates(lambda q, pairs: [7.0] * len(pairs), "", ["a", "b"])


def test_opponents_leave_in_the_order_in_which_they_came():
    queue = OpponentQueue(2)
    queue.push("p", ["a", "b", "c"])
    again = OpponentQueue(2)
    again.load_state_dict(queue.state_dict())
    assert again.opponents("p") == ["b", "c"] and again.opponents("other") == []


def test_bradley_terry_cannot_see_a_cycle():
    """3 wins of 4 are a gap of log 3; rock, paper, scissors are all worth the same."""
    scores = bradley_terry_scores(torch.tensor([[0.0, 3.0], [1.0, 0.0]]) * 1000)
    assert float(scores[0] - scores[1]) == pytest.approx(math.log(3), abs=1e-3)
    assert bradley_terry_scores(RPS).abs().max() < 1e-5


def test_exploitability_of_rock_paper_scissors():
    assert exploitability(torch.tensor([1.0, 0, 0]), RPS) == 0.5
    assert exploitability(torch.tensor([1 / 3] * 3), RPS) == pytest.approx(0, abs=1e-6)
    assert exploitability(torch.tensor([0.5, 0.5, 0]), RPS) == 0.25


def test_token_credit_by_hand():
    """.9 when asked for better, .1 when asked for worse: s(log 9) - 1/2 = .4."""
    credit = contrast_credit(torch.tensor([0.9, 0.1, 0.5]).log(), torch.tensor([0.1, 0.9, 0.5]).log())
    torch.testing.assert_close(credit, torch.tensor([0.4, -0.4, 0.0]))
    assert float(token_regularisation(torch.tensor([[-1.0, -2.0]]), torch.tensor([[0.4, -0.2]]), 1.0)) == 0
    assert float(token_regularisation(torch.tensor([[-1.0, -2.0]]), torch.tensor([[0.4, 0.0]]), 1.0)) == pytest.approx(
        0.4
    )
    assert float(sequence_weight(torch.tensor([1.0]), torch.tensor([1.0]))) == 0.5


def test_the_regularised_loss_by_hand():
    """Equal log-ratios: DPO log 2, weight 1/2. Credit .4 and -.4 on tokens of log-probability -1 and -2, beta 1:
    L_reg = .4 - .8 = -.4 for the chosen one, 0 for the rejected; alpha .5 adds .5 * .5 * -.4 = -.1. Its gradient
    raises the good token and lowers the bad one: -alpha w beta credit = -.1 and .1."""
    same = [[0.0, -1.0, -2.0], [0.0, -1.0, -1.0]]
    credit = torch.tensor([[9.0, 0.4, -0.4], [0.0, 0.0, 0.0]])
    term = RegularisedPreference(beta=1.0, alpha=0.5, anchor="reference")
    data = batch(same, same, {"credit": credit})
    value, metrics = term(data)
    assert float(value) == pytest.approx(math.log(2) - 0.1) and metrics["regulariser"] == pytest.approx(-0.2)
    value.backward()
    # DPO's own part is -1/2 on every chosen token.
    assert data.logp.grad[0].tolist() == pytest.approx([0.0, -0.6, -0.4])
    static, _ = RegularisedPreference(beta=1.0, alpha=0.5, anchor="reference", weighting="static")(
        batch(same, same, {"credit": credit})
    )
    assert float(static) == pytest.approx(math.log(2) - 0.2)
    with pytest.raises(ConfigError, match="weighting"):
        RegularisedPreference(weighting="none")
