"""Distillation: buckets and divergences by hand, gradients against an independent reference."""

from __future__ import annotations

import math

import pytest
import torch

from selfreward.credit.rows import row_of
from selfreward.errors import ConfigError, ModelError
from selfreward.losses import Distillation, divergence, interpolated, with_tail
from selfreward.losses.distillation import SAMPLED, TEACHER, TOKENS, WEIGHT
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.snapshots.frozen import EMATeacher
from selfreward.training.learner import Learner
from selfreward.types import Experience, Prompt
from tests.support.models import make_policy

PARAMS = SamplingParams(max_new_tokens=6, stats=())


def log(*values):
    return torch.tensor(values, dtype=torch.float64).log()


def test_the_tail_is_what_is_left():
    assert torch.allclose(with_tail(log(0.5, 0.25)).exp(), torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64))
    complete = with_tail(log(0.75, 0.25).requires_grad_())
    assert complete[-1].exp() < 2e-6  # nothing is left, and nothing is infinite
    (grad,) = torch.autograd.grad(complete[-1], [complete], allow_unused=True)
    assert torch.isfinite(grad).all()


def test_divergences_by_hand():
    student, teacher = log(0.5, 0.25), log(0.25, 0.25)  # tails .25 and .5
    # KL(T||S) = .25 ln .5 + 0 + .5 ln 2 = .25 ln 2; here KL(S||T) is the same: .5 ln 2 + .25 ln .5.
    assert float(divergence(student, teacher, 0.0)) == pytest.approx(0.25 * math.log(2))
    assert float(divergence(student, teacher, 1.0)) == pytest.approx(0.25 * math.log(2))
    # M = (.375, .25, .375): each side is .5 ln(4/3) + .25 ln(2/3).
    half = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3)
    assert float(divergence(student, teacher, 0.5)) == pytest.approx(half)
    skewed = divergence(log(0.9, 0.05), log(0.2, 0.7), 0.0), divergence(log(0.9, 0.05), log(0.2, 0.7), 1.0)
    assert not math.isclose(float(skewed[0]), float(skewed[1]), rel_tol=0.05)
    with pytest.raises(ConfigError, match=r"0 \.\. 1"):
        divergence(student, teacher, 1.5)


def test_a_trust_region_lies_between():
    assert torch.allclose(
        interpolated(log(0.8, 0.2), log(0.2, 0.8), 0.5).exp(), torch.tensor([0.5, 0.5]).double(), atol=1e-4
    )
    assert torch.allclose(interpolated(log(0.5, 0.25), log(0.1, 0.1), 0.0), log(0.5, 0.25))


def rows_for(policy, k, form="logits"):
    """Rows of four samples with a made-up teacher (another random model), every second completion token weighted."""
    teacher = make_policy(seed=7)
    (group,) = policy.sample([Prompt("p", "1+1=")], 4, PARAMS, seed=1)
    rows = []
    for t in group:
        start = len(t.tokens) - len(t.last)
        (mine,) = policy.score([t.tokens], [start], top_k=k)
        (theirs,) = teacher.score([t.tokens], [start], candidates=[mine["top_tokens"]])
        row = row_of(t)
        weight = torch.cat([torch.zeros(start), torch.ones(len(t.last))])
        weight[::2] = 0
        head = torch.zeros(start, k)
        row.extra = {
            WEIGHT: weight,
            TOKENS: torch.cat([head.long(), mine["top_tokens"]]),
            TEACHER: torch.cat([head, theirs["candidates"]]),
            SAMPLED: torch.cat([torch.zeros(start), theirs["logprob"]]),
        }
        rows.append(row)
    return rows


def gradient(policy, rows, term, micro=16_384):
    for p in policy.parameters():
        p.grad = None
    learner = Learner(policy, torch.optim.SGD(policy.parameters(), lr=0.0), lambda u: 0.0, micro_tokens=micro)
    metrics = learner.accumulate(Experience(rows), range(len(rows)), [term])
    return metrics, torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


def reference(policy, rows, alpha):
    """The loss from full logits, written anew: softmax, gather, sums."""
    total, count = 0.0, 0
    for p in policy.parameters():
        p.grad = None
    for row in rows:
        p = policy.model(input_ids=row.tokens[None]).logits[0].float().softmax(-1)
        for at in torch.nonzero(row.extra[WEIGHT]).flatten().tolist():
            s = p[at - 1][row.extra[TOKENS][at].long()]
            t = row.extra[TEACHER][at].exp()
            s, t = torch.cat([s, 1 - s.sum()[None]]), torch.cat([t, 1 - t.sum()[None]])
            m = (1 - alpha) * s + alpha * t
            if alpha == 0:
                total = total + (t * (t / s).log()).sum()
            elif alpha == 1:
                total = total + (s * (s / t).log()).sum()
            else:
                total = total + (1 - alpha) * (s * (s / m).log()).sum() + alpha * (t * (t / m).log()).sum()
            count += 1
    (total / count).backward()
    return float(total.detach() / count), torch.cat(
        [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    )


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_gradients_equal_an_independent_reference(alpha):
    policy = make_policy()
    rows = rows_for(policy, 6)
    value, wanted = reference(policy, rows, alpha)
    metrics, found = gradient(policy, rows, Distillation(alpha=alpha))
    assert metrics["loss"] == pytest.approx(value, rel=1e-4)
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-3)
    # However it is cut into micro-batches.
    assert torch.allclose(gradient(policy, rows, Distillation(alpha=alpha), micro=12)[1], wanted, atol=1e-5, rtol=1e-3)


def test_chunks_over_the_vocabulary_change_nothing(monkeypatch):
    from selfreward.policy.scoring import forward as scoring

    policy = make_policy()
    rows = rows_for(policy, 6)
    _, whole = gradient(policy, rows, Distillation())
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", 100)  # two positions at a time
    assert torch.allclose(gradient(policy, rows, Distillation())[1], whole, atol=1e-6)


def test_the_sampled_form_is_the_gradient_of_the_reverse_kl_in_expectation():
    policy = make_policy()
    rows = rows_for(policy, 6)
    _, found = gradient(policy, rows, Distillation(form="token"))
    for p in policy.parameters():
        p.grad = None
    total, count = 0.0, 0
    for row in rows:
        logp = policy.model(input_ids=row.tokens[None]).logits[0].float().log_softmax(-1)
        for at in torch.nonzero(row.extra[WEIGHT]).flatten().tolist():
            own = logp[at - 1][row.tokens[at]]
            total, count = total + (own.detach() - row.extra[SAMPLED][at]) * own, count + 1
    (total / count).backward()
    wanted = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-3)


def test_the_ratio_is_capped_and_rows_without_channels_sit_beside():
    policy = make_policy()
    rows = rows_for(policy, 6)
    _, plain = gradient(policy, rows, Distillation())
    for row in rows:
        row.behaviour = row.behaviour - 5.0  # now far likelier than at sampling time: ratio e^5, capped at 2
    assert torch.allclose(gradient(policy, rows, Distillation())[1], 2 * plain, atol=1e-5, rtol=1e-3)
    rows[0].extra = {}
    assert gradient(policy, rows, Distillation())[0]["distillation"] > 0
    experience = Experience([row_of(t) for g in policy.sample([Prompt("p", "1+1=")], 2, PARAMS, seed=1) for t in g])
    learner = Learner(policy, torch.optim.SGD(policy.parameters(), lr=0.1), lambda u: 0.1)
    assert learner.learn(experience, [Distillation()], torch.Generator())["loss"] == 0


def test_options_are_checked():
    for options, words in (
        ({"form": "logit"}, "logits"),
        ({"alpha": -1.0}, "alpha"),
        ({"ratio_cap": 0.0}, "ratio_cap"),
    ):
        with pytest.raises(ConfigError, match=words):
            Distillation(**options)


def test_a_moving_average_by_hand():
    policy, follower = make_policy(), EMATeacher(make_policy())
    with torch.no_grad():
        for p in policy.parameters():
            p.fill_(1.0)
    for p in follower.policy.model.parameters():
        p.fill_(0.0)
    follower.follow(policy, 0.25)
    follower.follow(policy, 0.25)
    assert all(torch.allclose(p, torch.tensor(0.4375)) for p in follower.policy.model.parameters())  # 1 - .75 ** 2
    with pytest.raises(ModelError, match=r"0 \.\. 1"):
        follower.follow(policy, 2.0)
    with pytest.raises(ModelError, match="does not fit"):
        follower.load_state_dict({"nothing": torch.zeros(1)})


def test_a_moving_average_of_half_precision_weights_moves_and_is_resumed():
    """A policy at 1 + 2**-7 in bfloat16 is one rounding step away from a copy at 1: a twentieth of it is no step."""
    policy = make_policy()
    policy.model.bfloat16()
    with torch.no_grad():
        for p in policy.parameters():
            p.fill_(1.0)
    follower = EMATeacher(policy)
    with torch.no_grad():
        for p in policy.parameters():
            p.fill_(1.0 + 2**-7)
    for _ in range(10):
        follower.follow(policy, 0.05)
    again = EMATeacher(policy)
    again.load_state_dict(follower.state_dict())
    for one in (follower, again):
        one.follow(policy, 0.05)
        exact = next(iter(one.state_dict().values()))
        assert exact.dtype == torch.float32 and exact.flatten()[0] == pytest.approx(1 + 2**-7 * (1 - 0.95**11))
        assert {p.dtype for p in one.policy.model.parameters()} == {torch.bfloat16}
        assert all(bool((p == 1.0).all()) for p in one.policy.model.parameters())  # 43 % of the way is rounded down
    for one in (follower, again):
        for _ in range(5):
            one.follow(policy, 0.05)
        assert all(bool((p > 1.0).all()) for p in one.policy.model.parameters())  # 56 % is rounded up
