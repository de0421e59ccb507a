"""The text side of a language model: prompts to token ids, completions to text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from selfreward.errors import DataError
from selfreward.types import Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextCodec:
    """A tokenizer and how it is used.

    Args:
        tokenizer: of the model.
        chat: ``"auto"`` puts plain-text prompts into the chat template where the tokenizer has one,
            ``"never"`` leaves plain text alone. Message prompts always need a template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat: str = "auto") -> None:
        self.tokenizer = tokenizer
        self.chat = chat

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, up to where the completion starts.

        Raises:
            DataError: for a prompt without text and messages.
        """
        if prompt.messages is not None:
            return self.encode_chat(prompt.messages)
        if prompt.text is None:
            raise DataError(f"Prompt {prompt.id!r} has neither text nor messages: Prompt(ID, text=...).")
        return self.encode_text(prompt.text)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a plain text: as a user message where a chat template is in use."""
        if self.chat == "auto" and self.tokenizer.chat_template:
            return self.encode_chat([{"role": "user", "content": text}])
        return list(self.tokenizer(text)["input_ids"])

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of chat turns and of the opening of the model's answer.

        Raises:
            DataError: if the tokenizer has no chat template.
        """
        if not self.tokenizer.chat_template:
            raise DataError(
                "The data holds chat messages but the model's tokenizer has no chat template. "
                "Use an instruction-tuned model, or give plain prompts in the field 'prompt'."
            )
        text = self.tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
        )
        # The template writes the special tokens itself.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_options(self, options: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that continue another one, without the special tokens of a beginning."""
        return [list(self.tokenizer(o, add_special_tokens=False)["input_ids"]) for o in options]

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """Text of completion tokens, without special tokens."""
        ids = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
