"""Pre-training: what the loop minimises, in which order it sees documents, and what it leaves on disk."""

import math

import pytest
import torch

from selfreward.errors import ConfigError, DataError
from selfreward.lab.pretraining.documents import conversation, curriculum, encode
from selfreward.lab.pretraining.pretrain import (
    PretrainSettings,
    batches,
    llama_config,
    pretrain,
    weighted_cross_entropy,
)
from selfreward.lab.pretraining.tokenizers import bpe_tokenizer, char_tokenizer, word_tokenizer

PAIRS = [("ab", "ba"), ("abc", "cba"), ("bca", "acb"), ("ca", "ac")]


def tiny(tmp_path, name="base", documents=PAIRS, gate=None, on_step=None, **settings):
    tokenizer = char_tokenizer("abc")
    shape = llama_config(tokenizer, width=16, layers=1, heads=2, ff=16, positions=16)
    chosen = PretrainSettings(batch=2, warmup=2).updated(**{"updates": 6, **settings})
    return pretrain(documents, tokenizer, shape, chosen, tmp_path / name, on_step, gate)


# ---- tokenizers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokenizer", "text", "length"),
    [
        (char_tokenizer("0123456789+-=#? \n"), "12+3 =#\n?-", 10),
        (word_tokenizer(["the", "cat", "<jd>", "."]), "<jd> the cat .", 4),
        (bpe_tokenizer(["the cat sat"] * 5, 300), "Ein Häuschen,  the cat\n(!) 猫", None),
    ],
)
def test_texts_survive_encoding_saving_and_loading(tmp_path, tokenizer, text, length):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    for t in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        ids = t(text)["input_ids"]
        assert t.decode(ids) == text
        assert length is None or len(ids) == length
        assert t.unk_token_id not in ids
        assert len({t.pad_token_id, t.bos_token_id, t.eos_token_id}) == 3
        assert set(t(text)) == {"input_ids", "attention_mask"}


def test_unknown_characters_are_unknown_tokens():
    tokenizer = char_tokenizer("ab")
    assert tokenizer("axb")["input_ids"][1] == tokenizer.unk_token_id


def test_specials_are_single_tokens_that_decoding_can_drop():
    tokenizer = bpe_tokenizer(["a cat"] * 5, 280, ["<2de>"])
    ids = tokenizer("a cat<2de>")["input_ids"]
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<2de>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a cat"


# ---- documents, loss, batches --------------------------------------------------------------------


def test_parts_are_taken_as_they_are_and_turns_end_where_the_model_has_spoken():
    tokenizer = char_tokenizer("abc")
    end = tokenizer.eos_token_id
    a, b, c = tokenizer("abc")["input_ids"]
    (ids, two), (weights, given) = encode(
        [[("ab", None), ("c", 0.5)], conversation([("a", "b", 1.0), ("c", "", 0.0)], told=0.2)], tokenizer, 0.1
    )
    assert ids.tolist() == [a, b, c] and weights.tolist() == pytest.approx([0.1, 0.1, 0.5])
    assert two.tolist() == [a, b, end, c, end] and given.tolist() == pytest.approx([0.2, 1.0, 1.0, 0.2, 0.0])


def test_a_curriculum_begins_with_its_lesson():
    assert curriculum(iter("abcd"), 3, 1, lambda x: (x, "easy"), lambda x: (x, "hard")) == [
        ("a", "easy"),
        ("b", "hard"),
        ("c", "hard"),
    ]
    assert curriculum(iter("abcd"), 1, 5, lambda x: (x, "easy"), lambda x: (x, "hard")) == [("a", "easy")]


def test_text_pairs_end_and_weigh_their_prompt_less():
    tokenizer = char_tokenizer("abc")
    a, b = tokenizer("ab")["input_ids"]
    (ids, given), (weights, given_weights) = encode([("ab", "b"), ([a, b], [0.0, 2.0])], tokenizer, 0.1)
    assert ids.tolist() == [a, b, b, tokenizer.eos_token_id]
    assert weights.tolist() == pytest.approx([0.1, 0.1, 1.0, 1.0])
    assert given.tolist() == [a, b] and given_weights.tolist() == [0.0, 2.0]
    with pytest.raises(DataError, match="2 tokens but 1"):
        encode([([a, b], [1.0])], tokenizer, 0.1)


def test_the_loss_is_the_weighted_mean_over_predicted_tokens():
    logits = torch.zeros(1, 3, 4)
    logits[0, 0] = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    ids, weight = torch.tensor([[0, 3, 1]]), torch.tensor([[9.0, 1.0, 3.0]])
    expected = (1 * -math.log(0.4) + 3 * -math.log(0.25)) / 4
    assert weighted_cross_entropy(logits, ids, weight, 0.0).item() == pytest.approx(expected)
    smooth = 0.8 * -math.log(0.4) + 0.2 * -sum(map(math.log, (0.1, 0.2, 0.3, 0.4))) / 4
    expected = (smooth + 3 * -math.log(0.25)) / 4
    assert weighted_cross_entropy(logits, ids, weight, 0.2).item() == pytest.approx(expected)


@pytest.mark.parametrize("pool", [1, 3])
def test_every_document_comes_once_per_epoch(pool):
    lengths = [5, 1, 4, 2, 3, 6, 7]
    stream = batches(lengths, PretrainSettings(batch=2, pool=pool), torch.Generator().manual_seed(0))
    first, second = ([next(stream) for _ in range(4)] for _ in range(2))
    for epoch in (first, second):
        assert sorted(i for b in epoch for i in b) == list(range(7))
        assert all(len(b) <= 2 for b in epoch)
    assert first != second


def test_without_shuffling_documents_come_as_given():
    stream = batches([3] * 5, PretrainSettings(batch=2, shuffle=False), torch.Generator())
    assert [next(stream) for _ in range(4)] == [[0, 1], [2, 3], [4], [0, 1]]


def test_a_token_budget_counts_padding_and_takes_a_long_document_alone():
    lengths = [1, 2, 3, 4, 5, 50]
    stream = batches(lengths, PretrainSettings(batch_tokens=10, pool=100), torch.Generator().manual_seed(0))
    cut = sorted(sorted(next(stream)) for _ in range(3))
    assert cut == [[0, 1, 2], [3, 4], [5]]  # with padding 3*3, 2*5, and 50, which no budget of 10 holds


def test_the_rate_rises_stays_and_falls():
    settings = PretrainSettings(lr=1.0, warmup=10)
    rates = [settings.rate(u, 50, 100) for u in (1, 10, 11, 50, 75, 100)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 1.0, 0.5, 0.0])


# ---- the loop ------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_the_folder_holds_what_was_trained(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    losses = []
    made = tiny(tmp_path, updates=60, lr=0.03, weights="float32", on_step=lambda u, r: losses.append(r["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert (made.updates, made.passed, len(losses)) == (60, None, 60)
    loaded = AutoModelForCausalLM.from_pretrained(made.folder)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), made.model.parameters(), strict=True))
    assert loaded.generation_config.eos_token_id == AutoTokenizer.from_pretrained(made.folder).eos_token_id
    assert [p.name for p in made.folder.parent.iterdir()] == [made.folder.name]  # nothing half-made beside it


def test_half_precision_files_load_as_single_precision(tmp_path):
    from transformers import AutoModelForCausalLM

    half, single = tiny(tmp_path, "h"), tiny(tmp_path, "s", weights="float32")
    size = [(m.folder / "model.safetensors").stat().st_size for m in (half, single)]
    assert size[0] < 0.7 * size[1]
    loaded = AutoModelForCausalLM.from_pretrained(half.folder)
    assert loaded.dtype == torch.float32
    for a, b in zip(loaded.parameters(), single.model.parameters(), strict=True):
        assert torch.equal(a, b.half().float())


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state_alone(tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b, c = tiny(tmp_path, "a"), tiny(tmp_path, "b"), tiny(tmp_path, "c", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(a.model.parameters(), b.model.parameters(), c.model.parameters(), strict=True))
    assert all(torch.equal(x, y) for x, y, _ in pairs)
    assert not all(torch.equal(x, z) for x, _, z in pairs)


def test_a_passed_gate_starts_the_cooldown(tmp_path):
    looks, rates = [], []

    def gate(model):
        assert not model.training
        looks.append(len(rates) + 1)
        return len(looks) >= 2, {"skill": 0.5 * len(looks)}

    made = tiny(
        tmp_path,
        gate=gate,
        updates=100,
        gate_every=10,
        cooldown=15,
        on_step=lambda u, r: rates.append(r["lr"]),
    )
    assert looks == [10, 20, 35]
    assert made.updates == 35 and made.passed and made.metrics == {"skill": 1.5}
    assert rates[2:20] == pytest.approx([4e-3] * 18) and rates[-1] == pytest.approx(0.0)


def test_a_gate_that_never_passes_ends_at_the_limit_with_a_cold_rate(tmp_path):
    rates = []
    made = tiny(
        tmp_path,
        gate=lambda model: (False, {}),
        updates=20,
        gate_every=5,
        cooldown=10,
        on_step=lambda u, r: rates.append(r["lr"]),
    )
    assert made.updates == 20 and made.passed is False
    assert rates[9] == pytest.approx(4e-3) and rates[-1] == pytest.approx(0.0)


def test_bfloat16_autocast_trains(tmp_path):
    made = tiny(tmp_path, bf16=True, batch_tokens=12, pool=4)
    assert math.isfinite(made.loss)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updats": 3}, "Did you mean 'updates'"),
        ({"updates": "many"}, "of type int"),
        ({"updates": 0}, "above 0"),
        ({"lr": -1}, "above 0"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"weights": "float8"}, "float16"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        PretrainSettings().updated(**changes)


def test_documents_must_exist_and_fit(tmp_path):
    with pytest.raises(DataError, match="documents"):
        tiny(tmp_path, documents=[])
    with pytest.raises(DataError, match="has 21 tokens; it must have 2 to 16"):
        tiny(tmp_path, documents=[("a" * 10, "b" * 10)])
    assert not (tmp_path / "base").exists()


def test_other_folders_are_not_overwritten_but_models_are(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="other files"):
        tiny(tmp_path)
    assert (tmp_path / "base" / "thesis.tex").exists()
    first = tiny(tmp_path, "model")
    again = tiny(tmp_path, "model", seed=1)
    assert first.folder == again.folder
