"""Losses by hand on a few tokens, then the properties that the trainer relies on."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.errors import ConfigError, RecipeError
from selfreward.losses import (
    KL,
    NLL,
    EntropyBonus,
    LossTerm,
    MicroBatch,
    PolicyGradient,
    Preference,
    distillation,
    k3_kl,
    kto,
    policy_gradient,
    preference,
    token_weights,
    weighted_nll,
)
from selfreward.types import Row

LOG = math.log


def row(mask: list[float], advantage: float = 1.0, nll: list[float] | None = None, **given: torch.Tensor) -> Row:
    m = torch.tensor(mask)
    fields = {
        "tokens": torch.arange(len(mask)) % 5,
        "mask": m,
        "advantage": advantage * m,
        "behaviour": torch.zeros(len(mask)),
        "nll": torch.tensor(nll) if nll else torch.zeros(len(mask)),
        "kl": m.clone(),
    }
    return Row(**{**fields, **given})


def ratios(values: list[float], advantage: list[float], **options: object) -> tuple[list[float], list[float]]:
    """Loss of each token and its derivative by the log-probability, for given ratios to the behaviour."""
    logp = torch.tensor(values).log().requires_grad_()
    loss = policy_gradient(logp, torch.zeros(len(values)), torch.tensor(advantage), **options).loss
    loss.sum().backward()
    return [round(x, 4) for x in loss.tolist()], [round(x, 4) for x in logp.grad.tolist()]


# ---- policy gradient


def test_clip_takes_the_gradient_of_tokens_that_went_far_enough() -> None:
    """r = 1.5 and 0.5 for a good and a bad token: the clip is at 1.2 and 0.8."""
    loss, gradient = ratios([1.5, 0.5, 1.5, 0.5], [2.0, 2.0, -2.0, -2.0])
    assert loss == [-2.4, -1.0, 3.0, 1.6]
    assert gradient == [0.0, -1.0, 3.0, 0.0]


def test_clip_reports_where_it_acted() -> None:
    logp = torch.tensor([1.5, 0.5, 1.5, 0.5]).log()
    _, low, high = policy_gradient(logp, torch.zeros(4), torch.tensor([2.0, 2.0, -2.0, -2.0]))
    assert low.tolist() == [False, False, False, True]
    assert high.tolist() == [True, False, False, False]


def test_dual_clip_bounds_the_loss_of_bad_tokens() -> None:
    loss, gradient = ratios([5.0, 2.0, 5.0], [-1.0, -1.0, 1.0], variant="dual_clip", dual_clip=3.0)
    assert loss == [3.0, 2.0, -1.2]
    assert gradient == [0.0, 2.0, 0.0]


def test_cispo_caps_the_weight_but_keeps_the_gradient() -> None:
    _, gradient = ratios([1.5, 0.5], [2.0, 2.0], variant="cispo")
    assert gradient == [-2.4, -1.0]


def test_reinforce_and_importance() -> None:
    assert ratios([0.5], [2.0], variant="reinforce") == ([round(-2 * LOG(0.5), 4)], [-2.0])
    assert ratios([0.5], [2.0], variant="importance") == ([-1.0], [-1.0])


def test_sapo_is_a_soft_clip() -> None:
    loss, gradient = ratios([1.0, 4.0], [1.0, 1.0], variant="sapo")
    assert loss[0] == -2.0  # 4 sigmoid(0)
    assert gradient[0] == -1.0
    assert -1.0 < gradient[1] < 0


def test_gspo_clips_whole_sequences() -> None:
    """Log ratios 0.4 and 0 average to 0.2 on two tokens: r = e^0.2 > 1.2, so both lose their gradient."""
    mask = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    logp = torch.tensor([[9.0, 0.4, 0.0], [9.0, 0.1, 9.0]], requires_grad=True)
    s = policy_gradient(logp, torch.zeros(2, 3), mask, variant="gspo", mask=mask)
    assert s.clipped_high.tolist() == [[False, True, True], [False, False, False]]
    (s.loss * mask).sum().backward()
    assert logp.grad[0].tolist() == [0, 0, 0]
    assert logp.grad[1].tolist() == pytest.approx([0, -math.exp(0.1), 0])


def test_an_extreme_ratio_gives_no_nan() -> None:
    for variant in ("clip", "dual_clip", "cispo", "sapo", "importance"):
        logp = torch.tensor([0.0, -500.0], requires_grad=True)
        loss = policy_gradient(logp, torch.tensor([-500.0, 0.0]), torch.tensor([1.0, -1.0]), variant=variant).loss
        loss.sum().backward()
        assert loss.isfinite().all()
        assert logp.grad.isfinite().all()


def test_policy_gradient_names_the_nearest_variant() -> None:
    with pytest.raises(ConfigError, match="'cispo'"):
        policy_gradient(torch.zeros(1), torch.zeros(1), torch.zeros(1), variant="cisp")
    with pytest.raises(ValueError, match="one shape"):
        policy_gradient(torch.zeros(2), torch.zeros(1), torch.zeros(2))
    with pytest.raises(ValueError, match="gspo"):
        policy_gradient(torch.zeros(2), torch.zeros(2), torch.zeros(2), variant="gspo")


def test_k3_by_hand_and_in_expectation() -> None:
    """d = log 2: 2 - log 2 - 1. And under the policy's own distribution its mean is the KL."""
    assert k3_kl(torch.tensor(0.0), torch.tensor(LOG(2))).item() == pytest.approx(1 - LOG(2))
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    assert (p * k3_kl(p.log(), q.log())).sum().item() == pytest.approx((p * (p / q).log()).sum().item())


# ---- preferences


def test_dpo_by_hand() -> None:
    """beta (1 - (-1)) = 0.2: -log sigmoid(0.2) and gradient -0.1 sigmoid(-0.2)."""
    chosen = torch.tensor([1.0], requires_grad=True)
    loss = preference(chosen, torch.tensor([-1.0]), beta=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(LOG(1 + math.exp(-0.2)))
    assert chosen.grad.item() == pytest.approx(-0.1 / (1 + math.exp(0.2)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hinge", 1 - 0.2 + 0.05),
        ("ipo", (2 - 0.5 - 5) ** 2),
        ("sigmoid", LOG(1 + math.exp(-0.15))),
    ],
)
def test_a_margin_asks_for_more(kind: str, expected: float) -> None:
    loss = preference(torch.tensor([1.0]), torch.tensor([-1.0]), kind=kind, beta=0.1, margin=0.05)
    assert loss.item() == pytest.approx(expected)


def test_confidence_in_a_pair_is_the_pair_and_its_mirror() -> None:
    a, b = torch.tensor([0.7]), torch.tensor([-0.4])
    smooth = preference(a, b, label_smoothing=0.3)
    assert smooth.item() == pytest.approx(0.7 * preference(a, b).item() + 0.3 * preference(b, a).item())


def test_robust_is_unbiased_under_flipped_labels() -> None:
    a, b, e = torch.tensor([3.0]), torch.tensor([1.0]), 0.2
    noisy = (1 - e) * preference(a, b, kind="robust", label_smoothing=e) + e * preference(
        b, a, kind="robust", label_smoothing=e
    )
    assert noisy.item() == pytest.approx(preference(a, b).item())


def test_orpo_compares_odds() -> None:
    """Mean probabilities 0.8 and 0.5: odds 4 and 1."""
    a, b = torch.tensor([0.8, 1.0]).log(), torch.tensor([0.5, 0.5]).log()
    loss = preference(a, b, kind="orpo", beta=1.0)
    assert loss[0].item() == pytest.approx(LOG(1 + 1 / 4))
    assert loss.isfinite().all()


def test_kto_pulls_both_ways_around_the_reference_point() -> None:
    x = torch.tensor([0.5, 0.5], requires_grad=True)
    loss = kto(x, torch.tensor([True, False]), reference_point=0.5, beta=1.0, undesirable_weight=2.0)
    loss.sum().backward()
    assert loss.tolist() == [0.5, 1.0]
    assert x.grad.tolist() == [-0.25, 0.5]


# ---- likelihood


def test_weighted_nll_ignores_what_has_no_weight() -> None:
    logp = torch.tensor([-torch.inf, LOG(0.5)], requires_grad=True)
    loss = weighted_nll(logp, torch.tensor([0.0, 2.0]))
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.0, 2 * LOG(2)])
    assert logp.grad.tolist() == [0.0, -2.0]


def test_distillation_by_hand() -> None:
    student, teacher = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]).log()
    assert distillation(student, teacher, direction="forward").item() == pytest.approx(LOG(2))
    assert distillation(student, student, direction="reverse").item() == 0
    # Mixture (0.75, 0.25): half of log(4/3), and half of the KL of the student to it.
    expected = 0.5 * LOG(4 / 3) + 0.5 * (0.5 * LOG(0.5 / 0.75) + 0.5 * LOG(0.5 / 0.25))
    assert distillation(student, teacher, direction="jsd").item() == pytest.approx(expected)


# ---- normalisation


def test_weights_by_hand() -> None:
    """Two completions, of 1 and 3 tokens, in a budget of 4."""
    rows = [row([0, 1]), row([0, 1, 1, 1])]
    assert [w.tolist() for w in token_weights(rows, "grpo")] == [
        [0, 0.5],
        pytest.approx([0, 1 / 6, 1 / 6, 1 / 6]),
    ]
    assert [w.tolist() for w in token_weights(rows, "dr_grpo", 4)] == [[0, 0.125], [0, 0.125, 0.125, 0.125]]
    assert [w.tolist() for w in token_weights(rows, "dapo")] == [[0, 0.25], [0, 0.25, 0.25, 0.25]]


def test_rows_without_advantage_count_in_the_denominator() -> None:
    live, dead = row([0, 1, 1]), row([0, 1, 1], advantage=0.0)
    assert not PolicyGradient().active(dead)
    assert PolicyGradient().weights([live, dead])[0].sum() == 0.5


def test_likelihood_counts_only_its_own_rows() -> None:
    imitated, other = row([0, 1, 1], nll=[0, 0.5, 0.5]), row([0, 1, 1])
    assert NLL(normalise="grpo").weights([imitated, other])[0].tolist() == [0, 0.25, 0.25]


def test_normalisation_errors() -> None:
    with pytest.raises(ConfigError, match="'dapo'"):
        token_weights([row([0, 1])], "dap")
    with pytest.raises(ConfigError, match="max_tokens"):
        PolicyGradient(normalise="dr_grpo")


# ---- terms


class Bigram(torch.nn.Module):
    """A language model in one matrix, so that all rows share parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(5, 5, dtype=torch.float64, generator=torch.manual_seed(3)))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.table[tokens[:, :-1]].log_softmax(-1)
        logp = logits.gather(-1, tokens[:, 1:, None])[..., 0]
        entropy = -(logits.exp() * logits).sum(-1)
        return torch.nn.functional.pad(logp, (1, 0)), torch.nn.functional.pad(entropy, (1, 0))


def pad(tensors: list[torch.Tensor], fill: float = 0) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill)


def evaluate(
    term: LossTerm, rows: list[Row], split: list[list[int]], pairs: list[tuple[int, int, float, float]] | None = None
) -> tuple[float, torch.Tensor, dict[str, float]]:
    """Total loss, gradient and metrics over micro-batches, as the trainer adds them up."""
    model, weights, pairs = Bigram(), term.weights(rows), pairs or []
    total, metrics = 0.0, {}
    for part in split:
        chosen = [rows[i] for i in part]
        logp, entropy = model(pad([r.tokens for r in chosen]))
        padding = pad([torch.zeros(len(r)) for r in chosen], fill=1) > 0
        batch = MicroBatch(
            logp=logp.masked_fill(padding, -torch.inf),
            behaviour=pad([r.behaviour for r in chosen], fill=torch.nan),
            advantage=pad([r.advantage for r in chosen]),
            mask=pad([r.mask for r in chosen]),
            weight=pad([weights[i] for i in part]),
            nll=pad([r.nll for r in chosen]),
            kl=pad([r.kl for r in chosen]),
            reference=pad([r.behaviour - 0.3 for r in chosen], fill=torch.nan),
            entropy=entropy.masked_fill(padding, torch.nan),
            pairs=[(part.index(c), part.index(r), w, m) for c, r, w, m in pairs if c in part],
            total_pairs=len(pairs),
        )
        loss, found = term(batch)
        loss.backward()
        total += loss.item()
        for name, value in found.items():
            metrics[name] = metrics.get(name, 0.0) + value
    return total, model.table.grad, metrics


@pytest.fixture(scope="module")
def update() -> list[Row]:
    """Eight rows of different lengths around the behaviour policy, so that some ratios are clipped."""
    g = torch.Generator().manual_seed(0)
    rows = []
    for i in range(8):
        n = 3 + i % 4
        tokens = torch.randint(0, 5, (n,), generator=g)
        with torch.no_grad():
            logp = Bigram()(tokens[None])[0][0]
        mask = (torch.arange(n) >= 1 + i % 2).float()
        rows.append(
            row(
                mask.tolist(),
                advantage=float(i - 3),
                nll=(0.5 * mask).tolist(),
                tokens=tokens,
                behaviour=logp + 0.4 * torch.randn(n, generator=g),
            )
        )
    return rows


PAIRS = [(0, 1, 1.0, 0.0), (2, 3, 0.5, 0.1), (4, 5, 0.25, 0.0), (6, 7, 1.0, 0.2)]
TERMS = [
    PolicyGradient(normalise="grpo"),
    PolicyGradient(normalise="dr_grpo", max_tokens=6),
    PolicyGradient(normalise="dapo"),
    PolicyGradient(variant="gspo", normalise="grpo"),
    PolicyGradient(variant="cispo"),
    KL(0.1),
    KL(0.1, "grpo", corrected=True),
    NLL(0.3),
    EntropyBonus(0.01),
    Preference(),
    Preference(length_normalise=True, reference_free=True, margin=0.5, beta=2.0),
]


@pytest.mark.parametrize("term", TERMS, ids=str)
@settings(max_examples=15, deadline=None)
@given(order=st.permutations([0, 1, 2, 3]), cuts=st.sets(st.integers(1, 3)))
def test_any_split_into_micro_batches_is_the_same_update(
    term: LossTerm, update: list[Row], order: list[int], cuts: set[int]
) -> None:
    """Rows 2i and 2i+1 stay together because they are a pair; everything else is free."""
    pairs = PAIRS if term.uses_pairs else None
    loss, gradient, metrics = evaluate(term, update, [list(range(8))], pairs)
    edges = [0, *sorted(cuts), 4]
    split = [[r for i in order[a:b] for r in (2 * i, 2 * i + 1)] for a, b in pairwise(edges)]
    other_loss, other_gradient, other_metrics = evaluate(term, update, split, pairs)
    assert gradient.norm() > 0
    assert other_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-5, atol=1e-9)
    assert other_metrics == pytest.approx(metrics, rel=1e-5, abs=1e-7)


def test_skipping_inactive_rows_changes_nothing(update: list[Row]) -> None:
    term = PolicyGradient()
    active = [i for i, r in enumerate(update) if term.active(r)]
    assert active == [0, 1, 2, 4, 5, 6, 7]
    whole, some = evaluate(term, update, [list(range(8))]), evaluate(term, update, [active])
    assert some[0] == pytest.approx(whole[0])
    torch.testing.assert_close(some[1], whole[1])


def test_what_each_term_needs() -> None:
    assert [t.needs_reference for t in (PolicyGradient(), KL(0.1), KL(0.0), Preference(), NLL(), EntropyBonus())] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    assert not Preference(reference_free=True).needs_reference
    assert EntropyBonus().needs_entropy
    assert Preference().uses_pairs


def test_pair_weights_and_metrics(update: list[Row]) -> None:
    """The loss is the weighted mean over the pairs of the update, also when a micro-batch has few of them."""
    one, _, metrics = evaluate(Preference(), update, [[0, 1]], [(0, 1, 1.0, 0.0)])
    half, _, _ = evaluate(Preference(), update, [[0, 1]], [(0, 1, 0.5, 0.0)])
    mirror, _, mirrored = evaluate(Preference(), update, [[0, 1]], [(1, 0, 1.0, 0.0)])
    assert half == pytest.approx(one / 2)
    assert metrics["preference_accuracy"] + mirrored["preference_accuracy"] == 1
    assert metrics["preference_margin"] == pytest.approx(-mirrored["preference_margin"])
    assert (one < mirror) == (metrics["preference_accuracy"] == 1)


def test_a_term_that_misses_its_input_says_so(update: list[Row]) -> None:
    zeros = torch.zeros(1, 2)
    batch = MicroBatch(zeros, zeros, zeros, zeros, zeros, zeros, zeros, pairs=[(0, 0, 1.0, 1.0)], total_pairs=1)
    with pytest.raises(RecipeError, match="reference"):
        KL(0.1)(batch)
    with pytest.raises(RecipeError, match="entropy"):
        EntropyBonus()(batch)
    with pytest.raises(RecipeError, match="margins"):
        Preference(kind="nca_pair", reference_free=True)(batch)


def test_a_micro_batch_without_pairs_has_a_zero_gradient(update: list[Row]) -> None:
    loss, gradient, _ = evaluate(Preference(), update, [[0, 1]], [])
    assert loss == 0
    assert gradient.norm() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PolicyGradient(variant="clp"), "'clip'"),
        (lambda: PolicyGradient(clip_low=1.5), "clip_low"),
        (lambda: PolicyGradient(variant="dual_clip", dual_clip=1.1), "dual_clip"),
        (lambda: KL(-1.0), "negative"),
        (lambda: Preference(kind="sigmoyd"), "'sigmoid'"),
        (lambda: Preference(beta=0), "positive"),
        (lambda: Preference(kind="nca_pair", margin=1.0), "no margin"),
        (lambda: Preference(kind="hinge", label_smoothing=0.1), "label_smoothing"),
        (lambda: Preference(label_smoothing=0.5), "0.5 excluded"),
        (lambda: Preference(kind="exo_pair"), "exo_pair"),
        (lambda: Preference(kind="orpo"), "reference_free"),
    ],
)
def test_bad_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]
