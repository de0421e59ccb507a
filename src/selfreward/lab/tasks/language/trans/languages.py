"""The two languages of :mod:`selfreward.lab.tasks.language.trans`: words, grammar, sentences, prompts, true quality."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selfreward.data.answers import AnswerSpace
from selfreward.lab.tasks.splits import split_of
from selfreward.signals.text_metrics import edit_similarity
from selfreward.types import Prompt

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
TOKENS = (*MARKS, *WORDS["s"], *WORDS["t"])
"""The vocabulary of a base: one token per word."""

# The other of two words that are one word in the other language.
OTHER_SENSE: dict[Language, dict[str, str]] = {
    "t": {
        **{T_ADJECTIVES[a]: T_ADJECTIVES[ADJECTIVES + a] for a in range(TWO_SENSES)},
        **{T_ADJECTIVES[ADJECTIVES + a]: T_ADJECTIVES[a] for a in range(TWO_SENSES)},
    },
    "s": {S_VERBS[v]: S_VERBS[v + 1 - 2 * (v % 2)] for v in range(2 * MERGED)},
}


# Words of the same kind: what can stand in each other's place without breaking the grammar.
KIN: dict[str, list[str]] = {
    word: [w for w in dict.fromkeys(kind) if w != word]
    for kind in (S_NOUNS, S_ADJECTIVES, S_VERBS, S_ADVERBS, T_NOUNS, T_ADJECTIVES, T_VERBS, T_ADVERBS, S_AGREE, T_AGREE)
    for word in kind
}


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


def prompts_of(part: Part, n: int) -> list[Prompt]:
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
