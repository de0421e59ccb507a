"""Real sentences: image captions in two languages, from line-aligned text that the user has.

Nothing is shipped and nothing is downloaded. The folder holds ``train.en``, ``train.de`` and the same for
``val`` and ``test_2016_flickr`` (plain or ``.gz``), as in github: multi30k/dataset, ``data/task1/raw``
(Elliott et al. 2016, W16-3210). Any other pair of line-aligned languages with these names works too.

The base is a decoder of a few million parameters, trained from scratch on the first ``PAIRS`` pairs:

* ``SOURCE<2de>`` is continued by the translation, in both directions;
* ``SOURCE<2de>HYPOTHESIS<judge>`` is continued by one of eleven score tokens ``<0>`` ... ``<10>``: chrF of the
  hypothesis against the reference, in tenths.

The hypotheses of the judge documents are what two small *writers* say, each of which was trained on the
other half of the pairs, so that a hypothesis shows the errors of a model on sentences that it has not
seen; and edited, truncated and foreign references. The judge therefore knows nothing beyond the pairs
that the translator knows: whatever it adds comes from judging being easier than translating.

All later sentences are used by one side only: they are the monolingual prompts of training.
"""

from __future__ import annotations

import gzip
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import DataError
from selfreward.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from selfreward.pretrain import Document, Pretrained
    from selfreward.tasks import Task

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
    from selfreward.answers import Exact
    from selfreward.tasks import Task
    from selfreward.translation import TranslationEvaluator, TranslationMetrics, words_of

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
    )


def well_formed(completion: str) -> bool:
    """Whether there is a translation at all: this base writes nothing around it."""
    return bool(completion.strip())


# ---- documents -----------------------------------------------------------------------------------


def edited(words: Sequence[str], vocabulary: Sequence[str], edits: int, rng: random.Random) -> list[str]:
    """A sentence with ``edits`` random changes: drop, repeat, replace or insert a word, swap two, or cut off."""
    out = list(words)
    for _ in range(edits):
        if not out:
            break
        kind, i = rng.randrange(6), rng.randrange(len(out))
        if kind == 0:
            del out[i]
        elif kind == 1:
            out.insert(i, out[i])
        elif kind == 2:
            out[i] = rng.choice(vocabulary)
        elif kind == 3:
            out.insert(i, rng.choice(vocabulary))
        elif kind == 4 and i + 1 < len(out):
            out[i], out[i + 1] = out[i + 1], out[i]
        elif kind == 5 and len(out) > 3:
            out = out[: rng.randrange(len(out) // 2, len(out))]
    return out


@dataclass(frozen=True)
class Judged:
    """One judge document before it is tokens."""

    source: str
    target_code: str
    hypothesis: str
    score: int


def spoiled_references(
    pairs: Sequence[tuple[str, str]], languages: tuple[str, str], rng: random.Random, per_source: int
) -> Iterator[Judged]:
    """References with 0 to 4 edits, other sentences, and copies of the source, scored by chrF."""
    from selfreward.translation import chrf

    vocabulary = [[w for pair in pairs for w in pair[side].split()] for side in (0, 1)]
    for a, b in ((0, 1), (1, 0)):
        for pair in pairs:
            for _ in range(per_source):
                kind = rng.random()
                if kind < 0.08:
                    hypothesis = rng.choice(pairs)[b]
                elif kind < 0.11:
                    hypothesis = pair[a]
                else:
                    hypothesis = " ".join(edited(pair[b].split(), vocabulary[b], rng.randrange(5), rng))
                yield Judged(pair[a], languages[b], hypothesis, round(10 * chrf([hypothesis], [pair[b]])[0]))


def written(
    pairs: Sequence[tuple[str, str]],
    languages: tuple[str, str],
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    updates: int,
    per_source: int,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    device: str = "cpu",
) -> Iterator[Judged]:
    """What writers say about sentences that they were not trained on, scored by chrF.

    Two writers, one per half of the pairs. Every second hypothesis is begun by the reference, up to a
    random word, and finished by the writer: writers are weaker than the base will be, and without these
    the scores between theirs and those of the references would be missing.
    """
    from selfreward.policy import Policy
    from selfreward.pretrain import PretrainSettings, llama_config, pretrain
    from selfreward.sampling import SamplingParams
    from selfreward.translation import chrf

    halves = pairs[0::2], pairs[1::2]
    settings = PretrainSettings(
        updates=updates, batch=64, pool=20, lr=3e-3, warmup=60, label_smoothing=0.1, seed=seed, device=device
    )
    config = llama_config(tokenizer, width=128, layers=3, heads=4, ff=320, positions=192)
    rng = random.Random(f"multi30k writers {seed}")
    params = SamplingParams(max_new_tokens=LONGEST, stats=(), max_rows=512)
    for own, other in (halves, halves[::-1]):
        documents = translations(own, languages, tokenizer, source_weight=0.1)
        with tempfile.TemporaryDirectory() as folder:
            writer = pretrain(documents, tokenizer, config, settings, Path(folder) / "writer", on_step).model
        policy = Policy(writer, tokenizer)
        for a, b in ((0, 1), (1, 0)):
            prompts, heads = [], []
            for i, pair in enumerate(p for p in other for _ in range(per_source)):
                words = pair[b].split()
                heads.append(" ".join(words[: rng.randrange(len(words))]) if i % 2 and words else "")
                plain = prompt(str(i), pair[a], pair[b], languages[a], languages[b])
                prompts.append(replace(plain, text=f"{plain.text}{heads[-1]}"))
            groups = policy.sample(prompts, 1, params, seed=seed)
            hypotheses = [h + g.completions[0] for h, g in zip(heads, groups, strict=True)]
            scores = chrf(hypotheses, [str(p.answer) for p in prompts])
            for p, hypothesis, score in zip(prompts, hypotheses, scores, strict=True):
                yield Judged(p.fields["source"], languages[b], hypothesis, round(10 * score))


def translations(
    pairs: Sequence[tuple[str, str]],
    languages: tuple[str, str],
    tokenizer: PreTrainedTokenizerFast,
    source_weight: float,
) -> list[Document]:
    """``SOURCE<2xx>TARGET<eos>`` in both directions, sources weighted by ``source_weight``."""
    documents: list[Document] = []
    for a, b in ((0, 1), (1, 0)):
        heads = tokenizer([f"{pair[a]}<2{languages[b]}>" for pair in pairs])["input_ids"]
        tails = tokenizer([pair[b] for pair in pairs])["input_ids"]
        for head, tail in zip(heads, tails, strict=True):
            if max(len(head), len(tail)) <= LONGEST:
                ids = [*head, *tail, tokenizer.eos_token_id]
                documents.append((ids, [source_weight] * (len(head) - 1) + [0.0] + [1.0] * (len(tail) + 1)))
    return documents


def judgements(items: Sequence[Judged], tokenizer: PreTrainedTokenizerFast, score_weight: float) -> list[Document]:
    """``SOURCE<2xx>HYPOTHESIS<judge><score>``, only the score counts: what is judged is not to be imitated."""
    texts = [
        TEMPLATES["judge"].format(source=j.source, target_code=j.target_code, hypothesis=j.hypothesis) + SCORES[j.score]
        for j in items
    ]
    documents: list[Document] = []
    for ids in tokenizer(texts)["input_ids"] if texts else ():
        if len(ids) <= 2 * LONGEST:
            documents.append((ids, [0.0] * (len(ids) - 1) + [score_weight]))
    return documents


# ---- the base ------------------------------------------------------------------------------------


def build(
    out: str | Path,
    folder: str | Path,
    languages: tuple[str, str] = LANGUAGES,
    seed: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    *,
    pairs: int = PAIRS,
    vocabulary: int = 4000,
    width: int = 192,
    layers: int = 3,
    writer_updates: int = 400,
    written_per_source: int = 1,
    spoiled_per_source: int = 1,
    translation_copies: int = 2,
    score_weight: float = 3.0,
    **settings: Any,
) -> Pretrained:
    """Pre-train a base into ``out`` from the first ``pairs`` pairs of ``folder/train.*``.

    Args:
        writer_updates: training steps of each of the two writers; 0 leaves their documents out.
        written_per_source, spoiled_per_source: judge documents per sentence and direction.
        translation_copies: how often a translation document stands in the mixture for each judge document
            of its kind.
        score_weight: loss weight of the one score token, against 1 for each translation token.
        settings: changes to the :class:`~selfreward.pretrain.PretrainSettings`.
    """
    from selfreward.pretrain import PretrainSettings, bpe_tokenizer, llama_config, pretrain

    standard = PretrainSettings(
        updates=2500, batch=64, pool=20, lr=3e-3, warmup=150, label_smoothing=0.1, bf16=True, weights="float16"
    )
    chosen = standard.updated(**{"seed": seed, **settings})
    known = read_corpus(folder, languages, ("train",)).pairs["train"][:pairs]
    specials = [*(f"<2{code}>" for code in languages), "<judge>", *SCORES]
    tokenizer = bpe_tokenizer((side for pair in known for side in pair), vocabulary, specials)
    rng = random.Random(f"multi30k {seed}")
    judged = list(spoiled_references(known, languages, rng, spoiled_per_source))
    if writer_updates:
        judged += written(known, languages, tokenizer, seed, writer_updates, written_per_source, on_step, chosen.device)
    documents = translations(known, languages, tokenizer, source_weight=0.1) * translation_copies
    documents += judgements(judged, tokenizer, score_weight)
    config = llama_config(tokenizer, width=width, layers=layers, heads=4, ff=width * 5 // 2, positions=192)
    return pretrain(documents, tokenizer, config, chosen, out, on_step)
