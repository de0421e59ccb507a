"""Translation of a user's own sentences: the prompts of actor and judge for real checkpoints.

The actor's prompt follows R1-Zero (think, then answer, in tags); the judge's follows GEMBA-DA without a
reference (Kocmi and Federmann 2023, arXiv 2302.14520) with the hard rules that SSR-Zero adds. The
wording is ours: the paper's own templates were not available.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from selfreward.data.answers import Exact, Tagged
from selfreward.data.task import Task
from selfreward.errors import DataError
from selfreward.signals.text_metrics import edit_similarity
from selfreward.types import Prompt

THINK = (
    "A user asks an assistant for a translation. The assistant first thinks about the meaning and the wording inside "
    "<think> </think>, and then gives the translation, and nothing else, inside <answer> </answer>.\n"
    "User: Translate the following {source_language} text into {target_language}:\n{source}\nAssistant:"
)
PLAIN = (
    "Translate the following {source_language} text into {target_language}. Reply with the translation alone.\n"
    "{source}\nTranslation:"
)
JUDGE = (
    "Score the translation below from {source_language} into {target_language} on a continuous scale from 0 to 100, "
    "where 0 means that no meaning is preserved and 100 means perfect meaning and grammar.\n"
    "The score is 0 if the translation contains anything that is not the translation (comments, explanations, tags), "
    "if it is not in {target_language}, or if it offers more than one version.\n"
    '{source_language} source: "{source}"\n{target_language} translation: "{hypothesis}"\n'
    "Reply with the score alone.\nScore:"
)
PAIR = (
    "Which of two translations from {source_language} into {target_language} is better?\n"
    '{source_language} source: "{source}"\nA: "{first}"\nB: "{second}"\nReply with A or B.\nBetter:'
)
BACK = (
    "Translate the following {target_language} text into {source_language}. Reply with the translation alone.\n"
    "{hypothesis}\nTranslation:"
)
TEMPLATES = {"judge": JUDGE, "judge_pair": PAIR, "back": BACK, "answer": " {answer}"}

_THINK_FORMAT = re.compile(r"\s*<think>.*?</think>\s*<answer>[^<>]+</answer>\s*", re.DOTALL)


def translation_task(task: Task, think: bool = True) -> Task:
    """Turn prompts that are bare sentences into a translation task.

    A sentence is the prompt's text; its fields ``target_language`` and (optionally) ``source_language``
    say what is wanted. References, where the data has them, serve evaluation only.

    Raises:
        DataError: naming the prompt that lacks a target language.
    """
    actor = THINK if think else PLAIN
    answers = Tagged("answer") if think else Exact()

    def well_formed(text: str) -> bool:
        return bool(_THINK_FORMAT.fullmatch(text)) if think else bool(text.strip())

    train, test = ([_framed(p, actor) for p in part] for part in (task.train, task.test))
    evaluator = None
    if test and all(p.reference for p in test):
        from selfreward.evaluation.translation import TranslationEvaluator

        evaluator = TranslationEvaluator(test, answers, well_formed, task.settings.get("max_new_tokens", 512))
    return replace(
        task,
        train=train,
        test=test,
        answers=answers,
        well_formed=well_formed,
        templates={**TEMPLATES, "actor": actor},
        metric="chrf++",
        evaluator=evaluator,
        similarity=edit_similarity,
    )


def _framed(prompt: Prompt, actor: str) -> Prompt:
    fields: Mapping[str, Any] = prompt.fields
    source = str(fields.get("source", prompt.question))
    target = fields.get("target_language") or fields.get("target")
    if not target:
        raise DataError(
            f"Prompt {prompt.id!r} has no field 'target_language'; a sentence to translate looks like "
            '{"source": "Guten Morgen.", "source_language": "German", "target_language": "English"}.'
        )
    known = {
        **fields,
        "source": source,
        "target_language": str(target),
        "source_language": str(fields.get("source_language") or "the source language"),
    }
    return replace(prompt, text=actor.format(**known), messages=None, fields=known)
