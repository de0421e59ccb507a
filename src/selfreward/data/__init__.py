"""What is asked: prompts from anywhere, tasks, and how final answers are found and compared."""

from selfreward.data.prompts import load_prompts
from selfreward.data.rows import ANSWER_FIELDS, PROMPT_FIELDS, write_jsonl
from selfreward.data.stream import Lengths, PromptStream, check_lengths, fingerprint, split_holdout

__all__ = [
    "ANSWER_FIELDS",
    "PROMPT_FIELDS",
    "Lengths",
    "PromptStream",
    "check_lengths",
    "fingerprint",
    "load_prompts",
    "split_holdout",
    "write_jsonl",
]
