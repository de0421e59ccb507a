"""Tokenizers for small models made from scratch: by character, by word, or byte pairs learnt from text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"


def char_tokenizer(alphabet: Iterable[str], specials: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """One token per character; ``decode(encode(text)) == text`` for every text over the alphabet.

    Args:
        alphabet: single characters.
        specials: further special tokens beside padding, begin, end and unknown; ``skip_special_tokens``
            drops them.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    core = Tokenizer(models.WordLevel(_vocabulary(alphabet, specials), unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return _fast(core, specials)


def word_tokenizer(words: Iterable[str], specials: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """One token per space-separated word; decoding puts single spaces between words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    core = Tokenizer(models.WordLevel(_vocabulary(words, specials), unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _fast(core, specials)


def bpe_tokenizer(lines: Iterable[str], vocab_size: int, specials: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair tokens learnt from ``lines``; any text round-trips, nothing is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS, UNK, *specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(lines, trainer)
    return _fast(core, specials)


def _vocabulary(tokens: Iterable[str], specials: Sequence[str]) -> dict[str, int]:
    ordered = dict.fromkeys([PAD, BOS, EOS, UNK, *specials, *tokens])
    return {token: i for i, token in enumerate(ordered)}


def _fast(core: Any, specials: Sequence[str]) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    core.add_special_tokens([PAD, BOS, EOS, UNK, *specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        additional_special_tokens=list(specials),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
