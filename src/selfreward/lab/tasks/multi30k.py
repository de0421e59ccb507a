"""Real sentences: image captions in two languages, from line-aligned text that the user has.

Nothing is shipped and nothing is downloaded. The folder holds ``train.en``, ``train.de`` and the same for
``val`` and ``test_2016_flickr`` (plain or ``.gz``), as in github: multi30k/dataset, ``data/task1/raw``
(Elliott et al. 2016, W16-3210). Any other pair of line-aligned languages with these names works too.

The base (:mod:`selfreward.lab.tasks.multi30k_base`) is trained on the first ``PAIRS`` pairs. It continues
``SOURCE<2de>`` by the translation, and ``SOURCE<2de>HYPOTHESIS<judge>`` by one of eleven score tokens.
All later sentences are used by one side only: they are the monolingual prompts of training.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import DataError
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.data.task import Task

LANGUAGES = ("en", "de")
NAMES = {"en": "English", "de": "German", "fr": "French", "cs": "Czech"}
PAIRS = 15_000
LONGEST = 60
SCORES = tuple(f"<{k}>" for k in range(11))
TEMPLATES = {
    "actor": "{source}<2{target_code}>",
    "back": "{hypothesis}<2{source_code}>",
    "judge": "{source}<2{target_code}>{hypothesis}<judge>",
    "scores": " ".join(SCORES),
}
SETTINGS: dict[str, Any] = {
    "lr": 5e-5,
    "adam_eps": 1e-8,
    "steps": 100,
    "prompts_per_step": 32,
    "group_size": 8,
    "max_new_tokens": 48,
}


# ---- text ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Line-aligned sentences: ``pairs[part]`` holds (first language, second language)."""

    languages: tuple[str, str]
    pairs: dict[str, list[tuple[str, str]]]


def read_corpus(
    folder: str | Path,
    languages: tuple[str, str] = LANGUAGES,
    parts: Sequence[str] = ("train", "val", "test_2016_flickr"),
) -> Corpus:
    """Read ``PART.LANGUAGE`` or ``PART.LANGUAGE.gz`` for every part and language.

    Raises:
        DataError: for a missing file, an unreadable one, or two sides of different length.
    """
    home = Path(folder).expanduser()
    if not home.is_dir():
        raise DataError(f"Folder {folder} does not exist; it should hold line-aligned text such as train.en, train.de.")
    pairs = {}
    for part in parts:
        first, second = ([line.strip() for line in _lines(home, part, code)] for code in languages)
        if len(first) != len(second):
            raise DataError(
                f"{home}: {part}.{languages[0]} has {len(first)} lines but {part}.{languages[1]} has {len(second)}; "
                "line i of both must be the same sentence."
            )
        pairs[part] = list(zip(first, second, strict=True))
    return Corpus(languages, pairs)


def _lines(home: Path, part: str, code: str) -> list[str]:
    plain, packed = home / f"{part}.{code}", home / f"{part}.{code}.gz"
    try:
        if plain.is_file():
            return plain.read_text(encoding="utf-8").splitlines()
        if packed.is_file():
            return gzip.decompress(packed.read_bytes()).decode("utf-8").splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{home}: cannot read {part}.{code}: {error}") from None
    raise DataError(f"{home} has neither {plain.name} nor {packed.name}.")


# ---- the task ------------------------------------------------------------------------------------


def prompt(name: str, source: str, reference: str | None, source_code: str, target_code: str) -> Prompt:
    """The prompt after which a base of this task writes the translation of ``source``."""
    fields = {
        "source": source,
        "source_language": NAMES.get(source_code, source_code),
        "target_language": NAMES.get(target_code, target_code),
        "source_code": source_code,
        "target_code": target_code,
    }
    return Prompt(name, TEMPLATES["actor"].format(**fields), fields=fields, reference=reference)


def load(
    folder: str | Path,
    languages: tuple[str, str] = LANGUAGES,
    pairs: int = PAIRS,
    test: str = "val",
    eval_prompts: int = 400,
) -> Task:
    """Monolingual training prompts in both directions, and the sentences of part ``test`` as test prompts.

    Of each pair behind the first ``pairs`` only one side is a prompt, in turn. Test prompts run in both
    directions, and training looks at the first ``eval_prompts`` of them. References are there for evaluation;
    no label-free recipe sees them.
    """
    from selfreward.data.answers import Exact
    from selfreward.data.task import Task
    from selfreward.evaluation.translation import TranslationEvaluator, TranslationMetrics
    from selfreward.signals.text_metrics import edit_similarity, words_of

    corpus = read_corpus(folder, languages, ("train", test))
    seen = {side for pair in corpus.pairs["train"][:pairs] for side in pair}
    train, held = [], []
    for i, pair in enumerate(corpus.pairs["train"][pairs:], pairs):
        a, b = (0, 1) if i % 2 == 0 else (1, 0)
        if pair[a] and pair[a] not in seen:
            train.append(prompt(f"train-{i}-{languages[a]}", pair[a], pair[b], languages[a], languages[b]))
    for i, pair in enumerate(corpus.pairs[test]):
        for a, b in ((0, 1), (1, 0)):
            held.append(prompt(f"{test}-{i}-{languages[a]}", pair[a], pair[b], languages[a], languages[b]))
    if not train:
        raise DataError(
            f"{folder}: the training text has {len(corpus.pairs['train'])} pairs; more than {pairs} are needed."
        )
    vocabularies = {
        code: {w for pair in corpus.pairs["train"] for w in words_of(pair[side])} for side, code in enumerate(languages)
    }
    evaluator = TranslationEvaluator(
        held[:eval_prompts],
        Exact(),
        well_formed,
        SETTINGS["max_new_tokens"],
        samples=2,
        metrics=TranslationMetrics(vocabularies),
    )
    return Task(
        name="multi30k",
        train=train,
        test=held,
        answers=Exact(),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        metric="chrf++",
        evaluator=evaluator,
        similarity=edit_similarity,
    )


def well_formed(completion: str) -> bool:
    """Whether there is a translation at all: this base writes nothing around it."""
    return bool(completion.strip())
