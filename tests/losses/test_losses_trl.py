"""Our losses and trl's on one frozen model and batch: the loss and the gradient of every parameter."""

# ruff: noqa: E402 (trl reads its environment when it is imported)
from __future__ import annotations

import os

import pytest

for variable in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE"):
    os.environ.setdefault(variable, "1")
pytest.importorskip("trl", reason="trl, the independent reference, is not installed (pip install selfreward[test])")

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer
from trl.experimental.gkd import GKDTrainer

from selfreward.losses import (
    KL,
    EntropyBonus,
    LossTerm,
    MicroBatch,
    PolicyGradient,
    Preference,
    distillation,
    policy_gradient,
)
from selfreward.types import Row

PROMPT, LENGTHS, MAX_TOKENS, V = 4, (7, 3, 9, 5, 1, 9), 9, 17
TOLERANCE = 1e-5


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {t: i for i, t in enumerate(["<pad>", "<eos>", "<unk>", *"abcdefghijklmn"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.4,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Six rollouts; the fourth has a token that is not the policy's own, the last has no advantage at all."""
    g = torch.Generator().manual_seed(1)
    made = []
    for n, a in zip(LENGTHS, (1.3, -0.9, 0.4, -1.1, 2.0, 0.0), strict=True):
        mask = torch.cat([torch.zeros(PROMPT), torch.ones(n)])
        if n == 5:
            mask[PROMPT + 2] = 0
        tokens = torch.randint(3, V, (PROMPT + n,), generator=g)
        made.append(Row(tokens, mask, a * mask, torch.zeros(PROMPT + n), torch.zeros(PROMPT + n), mask.clone()))
    return made


def pad(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)


def score(model: LlamaForCausalLM, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy ``[B, T]``, position t about token t."""
    tokens = pad([r.tokens for r in rows])
    attention = pad([torch.ones(len(r)) for r in rows]).long()
    logits = model(input_ids=tokens, attention_mask=attention).logits[:, :-1].log_softmax(-1)
    logp = logits.gather(-1, tokens[:, 1:, None])[..., 0]
    entropy = -(logits.exp() * logits).sum(-1)
    return torch.nn.functional.pad(logp, (1, 0)), torch.nn.functional.pad(entropy, (1, 0))


def ours(
    model: LlamaForCausalLM,
    terms: list[LossTerm],
    rows: list[Row],
    reference: torch.Tensor | None = None,
    pairs: list[tuple[int, int, float, float]] | None = None,
) -> tuple[float, list[torch.Tensor]]:
    logp, entropy = score(model, rows)
    total = torch.zeros(())
    for term in terms:
        batch = MicroBatch(
            logp=logp,
            behaviour=pad([r.behaviour for r in rows]),
            advantage=pad([r.advantage for r in rows]),
            mask=pad([r.mask for r in rows]),
            weight=pad(term.weights(rows)),
            nll=pad([r.nll for r in rows]),
            kl=pad([r.kl for r in rows]),
            reference=reference,
            entropy=entropy,
            pairs=pairs or [],
            total_pairs=len(pairs or []),
        )
        total = total + term(batch)[0]
    return gradients(model, total)


def gradients(model: LlamaForCausalLM, loss: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    loss.backward()
    return loss.item(), [p.grad.clone() for p in model.parameters()]


def assert_same(a: tuple[float, list[torch.Tensor]], b: tuple[float, list[torch.Tensor]]) -> None:
    assert a[0] == pytest.approx(b[0], rel=TOLERANCE)
    assert all(g.norm() > 1e-6 for g in b[1])
    for x, y in zip(a[1], b[1], strict=True):
        assert (x - y).norm() <= TOLERANCE * y.norm()


@pytest.fixture(scope="module")
def grpo(tmp_path_factory: pytest.TempPathFactory) -> GRPOTrainer:
    config = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("grpo")),
        use_cpu=True,
        bf16=False,
        report_to="none",
        per_device_train_batch_size=6,
        num_generations=2,
        max_completion_length=MAX_TOKENS,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=llama(0),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["abc"] * 8}),
        processing_class=tokenizer(),
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.fixture(scope="module")
def rollout(grpo: GRPOTrainer, rows: list[Row]) -> dict[str, torch.Tensor]:
    """trl's form of the rows; behaviour and reference are two other models, so every ratio differs from 1."""
    with torch.no_grad():
        logp, _ = score(grpo.model, rows)
        g = torch.Generator().manual_seed(2)
        behaviour = logp + 0.5 * torch.randn(logp.shape, generator=g)
        reference = logp + 0.7 * torch.randn(logp.shape, generator=g)
    for i, row in enumerate(rows):
        row.behaviour = behaviour[i, : len(row)]
    tokens = pad([r.tokens for r in rows])
    mask = pad([r.mask for r in rows])[:, PROMPT:]
    return {
        "prompt_ids": tokens[:, :PROMPT],
        "prompt_mask": torch.ones(len(rows), PROMPT, dtype=torch.long),
        "completion_ids": tokens[:, PROMPT:],
        "completion_mask": pad([torch.ones(n) for n in LENGTHS]).long(),
        "tool_mask": mask.long(),
        "advantages": torch.tensor([float(r.advantage.abs().max() * r.advantage.sum().sign()) for r in rows]),
        "old_per_token_logps": behaviour[:, PROMPT:],
        "ref_per_token_logps": reference[:, PROMPT:],
        "num_items_in_batch": mask.sum(),
        "reference": reference,
    }


GRPO_CASES = {
    **{
        f"clip-{n}": (PolicyGradient(normalise=n, max_tokens=MAX_TOKENS), {"loss_type": n}) for n in ("grpo", "dr_grpo")
    },
    **{f"clip-{n}": (PolicyGradient(normalise=n), {"loss_type": n}) for n in ("dapo", "bnpo")},
    "clip-higher": (
        PolicyGradient(clip_low=0.1, clip_high=0.28, normalise="dapo"),
        {"loss_type": "dapo", "epsilon_low": 0.1, "epsilon_high": 0.28},
    ),
    "dual_clip": (
        PolicyGradient(variant="dual_clip", dual_clip=1.5, normalise="grpo"),
        {"loss_type": "grpo", "delta": 1.5},
    ),
    "gspo": (
        PolicyGradient(variant="gspo", normalise="grpo", clip_low=0.1, clip_high=0.1),
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 0.1,
            "epsilon_high": 0.1,
        },
    ),
    "cispo": (
        PolicyGradient(variant="cispo", clip_high=0.3, normalise="dapo"),
        {"loss_type": "cispo", "epsilon_high": 1.3},
    ),
    "sapo": (PolicyGradient(variant="sapo", normalise="grpo"), {"loss_type": "sapo"}),
}


def trl_loss(grpo: GRPOTrainer, rollout: dict, options: dict) -> tuple[float, list[torch.Tensor]]:
    settings = {
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "entropy_coef": 0.0,
        **options,
    }
    grpo.args.delta = settings.pop("delta", None)
    for name, value in settings.items():
        assert hasattr(grpo, name)
        setattr(grpo, name, value)
    grpo._entropy_bonus_enabled = grpo.entropy_coef != 0
    return gradients(grpo.model, grpo._compute_loss(grpo.model, rollout))


@pytest.mark.parametrize("case", GRPO_CASES)
def test_policy_gradient_is_trls(case: str, grpo: GRPOTrainer, rollout: dict, rows: list[Row]) -> None:
    term, options = GRPO_CASES[case]
    assert_same(ours(grpo.model, [term], rows), trl_loss(grpo, rollout, options))


def test_both_clips_are_active_on_the_frozen_batch(grpo: GRPOTrainer, rollout: dict, rows: list[Row]) -> None:
    with torch.no_grad():
        logp, _ = score(grpo.model, rows)
    surrogate = policy_gradient(logp, pad([r.behaviour for r in rows]), pad([r.advantage for r in rows]))
    assert surrogate.clipped_low.any()
    assert surrogate.clipped_high.any()


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("normalise", ["grpo", "dr_grpo", "dapo"])
def test_kl_to_the_reference_is_trls(
    normalise: str, corrected: bool, grpo: GRPOTrainer, rollout: dict, rows: list[Row]
) -> None:
    terms = [PolicyGradient(normalise=normalise, max_tokens=MAX_TOKENS), KL(0.3, normalise, MAX_TOKENS, corrected)]
    mine = ours(grpo.model, terms, rows, reference=rollout["reference"])
    grpo.args.use_bias_correction_kl = corrected
    assert_same(mine, trl_loss(grpo, rollout, {"loss_type": normalise, "beta": 0.3}))


def test_entropy_bonus_is_trls(grpo: GRPOTrainer, rollout: dict, rows: list[Row]) -> None:
    mine = ours(grpo.model, [PolicyGradient(normalise="grpo"), EntropyBonus(0.2)], rows)
    assert_same(mine, trl_loss(grpo, rollout, {"loss_type": "grpo", "entropy_coef": 0.2}))


@pytest.fixture(scope="module")
def dpo(tmp_path_factory: pytest.TempPathFactory) -> DPOTrainer:
    config = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("dpo")),
        use_cpu=True,
        bf16=False,
        report_to="none",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    data = Dataset.from_dict({"prompt": ["abc"] * 4, "chosen": ["de"] * 4, "rejected": ["fgh"] * 4})
    trainer = DPOTrainer(
        model=llama(0), ref_model=llama(3), args=config, train_dataset=data, processing_class=tokenizer()
    )
    trainer.model.train()
    return trainer


DPO_CASES = {
    "sigmoid": Preference(beta=0.1),
    "hinge": Preference(kind="hinge", beta=0.1),
    "ipo": Preference(kind="ipo", beta=0.1, length_normalise=True),
    "robust": Preference(kind="robust", beta=0.1, label_smoothing=0.2),
    "exo_pair": Preference(kind="exo_pair", beta=0.1, label_smoothing=0.01),
    "nca_pair": Preference(kind="nca_pair", beta=0.1),
    "sppo_hard": Preference(kind="sppo_hard", beta=0.1),
    "apo_zero": Preference(kind="apo_zero", beta=0.1),
    "apo_down": Preference(kind="apo_down", beta=0.1),
    "sigmoid_norm": Preference(beta=0.1, length_normalise=True),
}


@pytest.mark.parametrize("kind", DPO_CASES)
def test_preference_is_trls(kind: str, dpo: DPOTrainer, rows: list[Row]) -> None:
    term = DPO_CASES[kind]
    whole = [
        Row(r.tokens, (torch.arange(len(r)) >= PROMPT).float(), r.advantage, r.behaviour, r.nll, r.kl) for r in rows
    ]
    dpo.loss_types, dpo.loss_weights, dpo.beta = [kind], [1.0], term.beta
    dpo.label_smoothing = term.label_smoothing
    batch = {
        "input_ids": pad([r.tokens for r in whole]),
        "attention_mask": pad([torch.ones(len(r)) for r in whole]).long(),
        "completion_mask": pad([r.mask for r in whole]).long(),
    }
    theirs = gradients(dpo.model, dpo._compute_loss(dpo.model, batch, False))
    with torch.no_grad():
        reference, _ = score(dpo.ref_model, whole)
    pairs = [(0, 3, 1.0, 0.0), (1, 4, 1.0, 0.0), (2, 5, 1.0, 0.0)]
    assert_same(ours(dpo.model, [term], whole, reference, pairs), theirs)


@pytest.mark.parametrize(("direction", "beta"), [("forward", 0.0), ("reverse", 1.0), ("jsd", 0.3)])
def test_distillation_is_trls(direction: str, beta: float) -> None:
    g = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, V, generator=g)
    mine_in, theirs_in = student.clone().requires_grad_(), student.clone().requires_grad_()
    mine = distillation(mine_in.log_softmax(-1), teacher.log_softmax(-1), direction=direction, mix=beta or 0.5).sum()
    theirs = GKDTrainer.generalized_jsd_loss(theirs_in, teacher, beta=beta, reduction="sum")
    mine.backward()
    theirs.backward()
    assert mine.item() == pytest.approx(theirs.item(), rel=TOLERANCE)
    assert (mine_in.grad - theirs_in.grad).norm() <= TOLERANCE * theirs_in.grad.norm()
