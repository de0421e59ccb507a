"""Trans (translation): between two synthetic languages, both ways, by a base that judges better than it writes.

Sentences of S are ``adjective noun (-s) (no) verb -o|-i adjective noun (-s) adverb``; the verb's suffix agrees
with the number of the subject. In T the adjective follows its noun with a suffix of the noun's class, the object
bears ``-ko``, and adverb, verb and negation come last. Four adjectives of S have two translations, by the
class of their noun; three verbs of T have two, by the class of the subject. Every sentence thus has exactly
one translation, which is used for measurement only.

A completion is ``<answer> SENTENCE </answer>``, perhaps behind ``<think> ... </think>``. The base has read a
*small noisy* parallel text (right, word by word, or careless; a quarter of it with the wrong format), judgements
``<judge> SOURCE | HYPOTHESIS |`` with a score from ``0`` to ``10`` on *more* sentences, and monolingual text. So it
judges better than it translates. That gap is what a self-judge lives on; large models have it by nature, here
it is taught.
"""

from __future__ import annotations

from functools import cache

from selfreward.data.task import Task
from selfreward.lab.tasks.language.trans.base import BASES as BASES
from selfreward.lab.tasks.language.trans.languages import SETTINGS, TEMPLATES, WORDS, Answer, prompts_of, well_formed
from selfreward.signals.text_metrics import edit_similarity


@cache
def load() -> Task:
    """2000 monolingual training prompts and 400 test prompts, half of them in each direction."""
    from selfreward.evaluation.translation import TranslationEvaluator, TranslationMetrics
    from selfreward.signals.text_metrics import words_of

    test = prompts_of("test", 400)
    return Task(
        name="trans",
        train=prompts_of("train", 2000),
        test=test,
        answers=Answer(),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        metric="quality",
        evaluator=TranslationEvaluator(
            test[:200],
            Answer(),
            well_formed,
            SETTINGS["max_new_tokens"],
            edit_similarity,
            metrics=TranslationMetrics({k: set(words_of(" ".join(v))) for k, v in WORDS.items()}),
        ),
        similarity=edit_similarity,
    )
