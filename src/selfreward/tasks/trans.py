"""Trans: translation between two synthetic languages in both directions, and its base models.

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

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from selfreward.answers import AnswerSpace
from selfreward.errors import ConfigError, nearest
from selfreward.tasks import Task, split_of
from selfreward.translation import edit_similarity
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy import Policy
    from selfreward.pretrain import Document, Pretrained
    from selfreward.translation import JudgeGate

Language = Literal["s", "t"]
Part = Literal["parallel", "judge", "dev", "train", "test"]

SCORES = tuple(str(k) for k in range(11))
TEMPLATES = {
    "actor": "<2{target_code}> {source} =",
    "back": "<2{source_code}> {hypothesis} =",
    "answer": "<answer> {answer} </answer>",
    "judge": "<judge> {source} | {hypothesis} |",
    "scores": " ".join(SCORES),
}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-4,
    "steps": 150,
    "prompts_per_step": 16,
    "group_size": 8,
    "max_new_tokens": 40,
}

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_FORMAT = re.compile(r"(?:<think> [^<>]+ </think> )?<answer> [^<>]+ </answer>")


# ---- the languages -------------------------------------------------------------------------------


def _coin(consonants: str, vowels: str, n: int) -> list[str]:
    """``n`` invented words of two syllables, no two alike."""
    syllables = [c + v for c in consonants for v in vowels]
    words = [a + b for a in syllables for b in syllables]
    return random.Random(consonants).sample(words, n)


NOUNS, ADJECTIVES, VERBS, ADVERBS = 24, 14, 16, 6
TWO_SENSES, MERGED = 4, 3
_S = _coin("bdlmrv", "aeiou", NOUNS + ADJECTIVES + VERBS + ADVERBS)
_T = _coin("fkpstz", "aeiou", NOUNS + ADJECTIVES + TWO_SENSES + VERBS - MERGED + ADVERBS)


def _deal(words: Sequence[str], *sizes: int) -> Iterator[list[str]]:
    at = 0
    for size in sizes:
        yield list(words[at : at + size])
        at += size


S_NOUNS, S_ADJECTIVES, S_VERBS, S_ADVERBS = _deal(_S, NOUNS, ADJECTIVES, VERBS, ADVERBS)
T_NOUNS, T_ADJECTIVES, _T_VERBS, T_ADVERBS = _deal(_T, NOUNS, ADJECTIVES + TWO_SENSES, VERBS - MERGED, ADVERBS)
# Verbs 0 and 1 of S are one verb in T, as are 2 and 3, 4 and 5: which one is meant depends on the subject.
T_VERBS = [_T_VERBS[v // 2 if v < 2 * MERGED else v - MERGED] for v in range(VERBS)]
S_PLURAL, S_NOT, S_AGREE = "-s", "no", ("-o", "-i")
T_PLURAL, T_NOT, T_AGREE, T_OBJECT = "-lu", "ez", ("-en", "-ur"), "-ko"
WORDS: dict[Language, list[str]] = {
    "s": [*_S, S_PLURAL, S_NOT, *S_AGREE],
    "t": [*_T, T_PLURAL, T_NOT, *T_AGREE, T_OBJECT],
}
MARKS = ["<2s>", "<2t>", "<judge>", "<text>", "<think>", "</think>", "<answer>", "</answer>", "=", "|", '"', *SCORES]


@dataclass(frozen=True)
class NounPhrase:
    noun: int
    adjective: int | None
    plural: bool

    @property
    def noun_class(self) -> int:
        return self.noun % 2

    def s(self) -> list[str]:
        head = [] if self.adjective is None else [S_ADJECTIVES[self.adjective]]
        return [*head, S_NOUNS[self.noun], *([S_PLURAL] if self.plural else [])]

    def t(self, is_object: bool) -> list[str]:
        words = [T_NOUNS[self.noun], *([T_PLURAL] if self.plural else []), *([T_OBJECT] if is_object else [])]
        if self.adjective is not None:
            words += [t_adjective(self.adjective, self.noun_class), T_AGREE[self.noun_class]]
        return words


def t_adjective(adjective: int, noun_class: int) -> str:
    """The T word for an adjective of S; the first ``TWO_SENSES`` have a second one beside nouns of class 1."""
    return T_ADJECTIVES[ADJECTIVES + adjective if adjective < TWO_SENSES and noun_class else adjective]


@dataclass(frozen=True)
class Sentence:
    """What is said, in neither language."""

    subject: NounPhrase
    verb: int
    object: NounPhrase
    adverb: int | None
    negated: bool

    @staticmethod
    def random(rng: random.Random) -> Sentence:
        def phrase() -> NounPhrase:
            adjective = rng.randrange(ADJECTIVES) if rng.random() < 0.6 else None
            return NounPhrase(rng.randrange(NOUNS), adjective, rng.random() < 0.35)

        subject, verb = phrase(), rng.randrange(VERBS)
        if verb < 2 * MERGED:
            verb = verb // 2 * 2 + subject.noun_class
        adverb = rng.randrange(ADVERBS) if rng.random() < 0.4 else None
        return Sentence(subject, verb, phrase(), adverb, rng.random() < 0.25)

    @property
    def s(self) -> str:
        verb = [*([S_NOT] if self.negated else []), S_VERBS[self.verb], S_AGREE[self.subject.plural]]
        adverb = [] if self.adverb is None else [S_ADVERBS[self.adverb]]
        return " ".join([*self.subject.s(), *verb, *self.object.s(), *adverb])

    @property
    def t(self) -> str:
        adverb = [] if self.adverb is None else [T_ADVERBS[self.adverb]]
        verb = [T_VERBS[self.verb], *([T_NOT] if self.negated else [])]
        return " ".join([*self.subject.t(False), *self.object.t(True), *adverb, *verb])

    def text(self, language: Language) -> str:
        return self.s if language == "s" else self.t

    @property
    def part(self) -> Part:
        """Where this sentence belongs: by hash, so that every generator respects the same borders."""
        split = split_of(self.s)
        if split != "pretrain":
            return split
        bucket = hashlib.sha256(f"part {self.s}".encode()).digest()[0] % 10
        return "parallel" if bucket < 2 else "judge" if bucket < 9 else "dev"


_GLOSS: dict[Language, dict[str, str]] = {
    # Word by word into T; what has no counterpart (agreement) is left out.
    "t": {
        **dict(zip(S_NOUNS, T_NOUNS)),
        **dict(zip(S_ADJECTIVES, T_ADJECTIVES)),
        **dict(zip(S_VERBS, T_VERBS)),
        **dict(zip(S_ADVERBS, T_ADVERBS)),
        S_PLURAL: T_PLURAL,
        S_NOT: T_NOT,
    },
    "s": {},
}
_GLOSS["s"] = {
    **{t: s for s, t in reversed(list(_GLOSS["t"].items()))},
    **{T_ADJECTIVES[ADJECTIVES + a]: S_ADJECTIVES[a] for a in range(TWO_SENSES)},
}


def gloss(source: str, target: Language) -> str:
    """Word for word, in the order of the source and without suffixes of agreement and case."""
    table = _GLOSS[target]
    return " ".join(table[w] for w in source.split() if w in table)


def sentences(part: Part, rng: random.Random) -> Iterator[Sentence]:
    """Endless random sentences of one part."""
    while True:
        sentence = Sentence.random(rng)
        if sentence.part == part:
            yield sentence


# ---- the task ------------------------------------------------------------------------------------


class Answer(AnswerSpace):
    """The text between the first ``<answer>`` and its closing tag, compared word by word."""

    def extract(self, text: str) -> str | None:
        found = _ANSWER.search(text)
        return " ".join(found[1].split()) or None if found else None

    def canonical(self, answer: str) -> str:
        return " ".join(answer.split())


def well_formed(completion: str) -> bool:
    """Whether a completion is one answer in its tags, perhaps behind one thought, and nothing else."""
    return _FORMAT.fullmatch(completion) is not None


def quality(completion: str, reference: str) -> float:
    """True quality Q in [0, 1]: word edit similarity of the extracted answer to the only right one."""
    return edit_similarity(Answer().extract(completion), reference)


def prompt(name: str, sentence: Sentence, target: Language) -> Prompt:
    """The prompt that asks for ``sentence`` in language ``target``."""
    source: Language = "s" if target == "t" else "t"
    fields = {
        "source": sentence.text(source),
        "source_language": source.upper(),
        "target_language": target.upper(),
        "source_code": source,
        "target_code": target,
    }
    return Prompt(name, TEMPLATES["actor"].format(**fields), fields=fields, reference=sentence.text(target))


def _prompts(part: Part, n: int) -> list[Prompt]:
    """``n`` prompts of distinct sentences, in turn into T and into S."""
    found: dict[str, Prompt] = {}
    for sentence in sentences(part, random.Random(f"trans {part}")):
        if len(found) == n:
            break
        name, target = f"trans-{part}-{len(found)}", ("t", "s")[len(found) % 2]
        found.setdefault(sentence.s, prompt(name, sentence, target))  # type: ignore[arg-type]
    return list(found.values())


def judge_prompt(source: str, hypothesis: str) -> str:
    """The text after which a base says a score."""
    return TEMPLATES["judge"].format(source=source, hypothesis=hypothesis)


@cache
def load() -> Task:
    """2000 monolingual training prompts and 400 test prompts, half of them in each direction."""
    from selfreward.translation import TranslationEvaluator

    test = _prompts("test", 400)
    return Task(
        name="trans",
        train=_prompts("train", 2000),
        test=test,
        answers=Answer(),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        metric="quality",
        evaluator=TranslationEvaluator(test[:200], Answer(), well_formed, SETTINGS["max_new_tokens"], edit_similarity),
    )


# ---- the text that bases learn from --------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the pre-training text.

    Attributes:
        parallel: sentences in the parallel set, each with one fixed noisy translation per direction.
        right, glossed: shares of right and of word-by-word translations; the rest is careless.
        slip: chance of a random word in place of each word, in every translation.
        careless: chance that a careless translator takes the other sense of a word with two, or leaves
            out a suffix; each time anew.
        thought: share of completions that begin with a thought (a gloss).
        broken: share with the wrong format.
        quoted: share with quotation marks around the answer, which no rule forbids.
        judged: share of judge documents, each on a new sentence.
        mono: share of monolingual documents.
        own_errors: whether the judge has seen translations as the base writes them; without, only
            random edits.
    """

    parallel: int = 1500
    right: float = 0.36
    glossed: float = 0.37
    slip: float = 0.03
    careless: float = 0.35
    thought: float = 0.15
    broken: float = 0.20
    quoted: float = 0.04
    judged: float = 0.45
    mono: float = 0.05
    own_errors: bool = True

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents; the parallel set is repeated as often as its share asks for."""
        rng = random.Random(f"trans corpus {seed}")
        pool = [d for s, _ in zip(sentences("parallel", rng), range(self.parallel)) for d in self.pair(s, rng)]
        judged = sentences("judge", rng)
        found: list[Document] = []
        while len(found) < n:
            kind = rng.random()
            if kind < self.judged:
                found.append(self.judgement(next(judged), rng))
            elif kind < self.judged + self.mono:
                found.append(("<text>", next(judged).text(rng.choice(("s", "t")))))
            else:
                found.append(pool[rng.randrange(len(pool))])
        return found

    def pair(self, sentence: Sentence, rng: random.Random) -> Iterator[tuple[str, str]]:
        """The prompt and completion in both directions."""
        for target in ("t", "s"):
            asked = prompt("", sentence, target)  # type: ignore[arg-type]
            source = asked.fields["source"]
            yield str(asked.text), self.completion(source, self.translation(sentence, target, rng), target, rng)  # type: ignore[arg-type]

    def translation(self, sentence: Sentence, target: Language, rng: random.Random) -> str:
        """One noisy translation."""
        kind = rng.random()
        words = sentence.text(target).split()
        if self.right <= kind < self.right + self.glossed:
            words = gloss(sentence.text("s" if target == "t" else "t"), target).split()
        elif kind >= self.right:
            words = [w for word in words for w in self._careless(word, target, rng)]
        return " ".join(rng.choice(WORDS[target]) if rng.random() < self.slip else w for w in words)

    def _careless(self, word: str, target: Language, rng: random.Random) -> list[str]:
        if rng.random() >= self.careless:
            return [word]
        if word.startswith("-"):
            return []
        return [_OTHER_SENSE[target].get(word, word)]

    def completion(self, source: str, translation: str, target: Language, rng: random.Random) -> str:
        """The translation in its tags, or in one of the wrong formats that base models produce."""
        kind = rng.random()
        if kind < self.broken:
            return rng.choice(
                (
                    translation,
                    f"<answer> {translation}",
                    f"<think> {gloss(source, target)} <answer> {translation} </answer>",
                    f"<answer> {translation} </answer> {gloss(source, target)}",
                )
            )
        if kind < self.broken + self.quoted:
            return f'<answer> " {translation} " </answer>'
        thought = f"<think> {gloss(source, target)} </think> " if rng.random() < self.thought else ""
        return f"{thought}<answer> {translation} </answer>"

    def judgement(self, sentence: Sentence, rng: random.Random) -> tuple[str, str]:
        """A judge prompt and its score: tenths of the edit similarity.

        By the hard rules of the judge's instructions it is 0 for another sentence's translation, a
        source that was left as it is, and two translations at once.
        """
        target: Language = rng.choice(("s", "t"))
        source, gold = sentence.text("s" if target == "t" else "t"), sentence.text(target)
        kind, zero = rng.random(), False
        if kind < 0.12:
            zero = True
            other = Sentence.random(rng).text(target)
            hypothesis = rng.choice((other, other, source, f"{gold} {self.translation(sentence, target, rng)}"))
        elif self.own_errors and kind < 0.65:
            hypothesis = self.translation(sentence, target, rng)
        else:
            hypothesis = edited(gold, WORDS[target], rng.randrange(5), rng)
        score = 0 if zero else round(10 * edit_similarity(hypothesis, gold))
        return judge_prompt(source, hypothesis), SCORES[score]


_OTHER_SENSE: dict[Language, dict[str, str]] = {
    "t": {
        **{T_ADJECTIVES[a]: T_ADJECTIVES[ADJECTIVES + a] for a in range(TWO_SENSES)},
        **{T_ADJECTIVES[ADJECTIVES + a]: T_ADJECTIVES[a] for a in range(TWO_SENSES)},
    },
    "s": {S_VERBS[v]: S_VERBS[v + 1 - 2 * (v % 2)] for v in range(2 * MERGED)},
}


_KIN: dict[str, list[str]] = {
    word: [w for w in dict.fromkeys(kind) if w != word]
    for kind in (S_NOUNS, S_ADJECTIVES, S_VERBS, S_ADVERBS, T_NOUNS, T_ADJECTIVES, T_VERBS, T_ADVERBS, S_AGREE, T_AGREE)
    for word in kind
}


def edited(text: str, vocabulary: Sequence[str], edits: int, rng: random.Random) -> str:
    """``text`` with ``edits`` random changes: drop, insert or replace a word, or swap two.

    Half of the changes put a word of the same kind in place of another: they leave the sentence fluent,
    and only a judge that reads the source can see them.
    """
    words = text.split()
    for _ in range(edits):
        kind, i = rng.randrange(8), rng.randrange(len(words))
        if kind == 0 and len(words) > 1:
            del words[i]
        elif kind == 1:
            words.insert(i, rng.choice(vocabulary))
        elif kind == 2 and i + 1 < len(words):
            words[i], words[i + 1] = words[i + 1], words[i]
        elif kind == 3:
            words[i] = rng.choice(vocabulary)
        else:
            words[i] = rng.choice(_KIN.get(words[i]) or list(vocabulary))
    return " ".join(words)


# ---- bases ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """A base of this task: what it reads, its size, and its pre-training seed."""

    corpus: Corpus = Corpus()
    width: int = 64
    layers: int = 2
    seed: int = 0


VARIANTS = {
    "trans": Variant(),
    "trans-weak-judge": Variant(Corpus(judged=0.06, own_errors=False)),
    "trans-other": Variant(seed=1),
    "trans-large": Variant(width=96, layers=2, seed=2),
}
"""The base, one with a judge that has read little, and the two external judges: of another pre-training
seed, and of twice the size."""


def build(
    out: str | Path,
    seed: int | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    variant: str = "trans",
    **settings: Any,
) -> Pretrained:
    """Pre-train one of :data:`VARIANTS` into ``out``; ``seed`` replaces its own."""
    from selfreward.pretrain import PretrainSettings, llama_config, pretrain, word_tokenizer

    if variant not in VARIANTS:
        raise ConfigError(f"Task trans has no base {variant!r}.{nearest(variant, VARIANTS)}")
    made = VARIANTS[variant]
    own = PretrainSettings(updates=7000, seed=made.seed if seed is None else seed)
    chosen = own.updated(**settings)
    tokenizer = word_tokenizer([*MARKS, *WORDS["s"], *WORDS["t"]])
    documents = made.corpus.documents(min(120_000, chosen.updates * chosen.batch), chosen.seed)
    config = llama_config(tokenizer, width=made.width, layers=made.layers, ff=made.width * 5 // 2, positions=128)
    return pretrain(documents, tokenizer, config, chosen, out, on_step)


# ---- what a base is like -------------------------------------------------------------------------


def self_scores(policy: Policy, sources: Sequence[str], hypotheses: Sequence[str | None]) -> list[float]:
    """Expected score in [0, 1] that ``policy`` gives each hypothesis; 0 for a missing one."""
    from selfreward.signals.judge import expected_score

    asked = [i for i, h in enumerate(hypotheses) if h]
    scores = [0.0] * len(hypotheses)
    choice = policy.choose([judge_prompt(sources[i], str(hypotheses[i])) for i in asked], SCORES)
    for i, value in zip(asked, expected_score(choice.probs, [k / 10 for k in range(11)]).tolist(), strict=True):
        scores[i] = value
    return scores


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found: true quality of greedy and sampled completions, format, and the judge's gate."""

    greedy_quality: float
    quality: float
    exact: float
    format: float
    gate: JudgeGate


def measure(
    policy: Policy, prompts: Sequence[Prompt], samples: int = 8, seed: int = 0, judge: Policy | None = None
) -> Measured:
    """Look at a base before any training; ``judge`` is the policy itself unless given.

    The gate looks at completions that have an answer: the others are sorted out by a rule, and would
    make the judge look better than it is.
    """
    from selfreward.sampling import SamplingParams
    from selfreward.translation import judge_gate

    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(prompts, samples, params, seed=seed)
    best = policy.sample(prompts, 1, replace(params, temperature=0.0), seed=seed)
    space = Answer()
    truths = [[quality(c, str(g.prompt.answer)) for c in g.completions] for g in groups]
    found = [[space.extract(c) for c in g.completions] for g in groups]
    flat = self_scores(
        judge or policy,
        [g.prompt.fields["source"] for g in groups for _ in g],
        [h for row in found for h in row],
    )
    scores = [flat[i * samples : (i + 1) * samples] for i in range(len(groups))]
    kept = [[i for i, h in enumerate(row) if h] for row in found]
    n = len(groups) * samples
    return Measured(
        greedy_quality=sum(quality(g.completions[0], str(g.prompt.answer)) for g in best) / len(best),
        quality=sum(map(sum, truths)) / n,
        exact=sum(q == 1 for row in truths for q in row) / n,
        format=sum(well_formed(c) for g in groups for c in g.completions) / n,
        gate=judge_gate(
            [[row[i] for i in k] for row, k in zip(scores, kept, strict=True) if len(k) > 1],
            [[row[i] for i in k] for row, k in zip(truths, kept, strict=True) if len(k) > 1],
            seed=seed,
        ),
    )
