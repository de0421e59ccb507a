"""The pre-training text of :mod:`selfreward.lab.tasks.language.trans`: translations, judgements, plain sentences."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfreward.lab.tasks.language.trans.languages import (
    KIN,
    OTHER_SENSE,
    SCORES,
    WORDS,
    Language,
    Sentence,
    gloss,
    judge_prompt,
    prompt,
    sentences,
)
from selfreward.signals.text_metrics import edit_similarity

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document


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
        most: documents that are written at most; they are read again.
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
    most: int = 120_000

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents, or ``most``; the parallel set is repeated as often as its share asks for."""
        rng = random.Random(f"trans corpus {seed}")
        pool = [d for s, _ in zip(sentences("parallel", rng), range(self.parallel)) for d in self.pair(s, rng)]
        judged = sentences("judge", rng)
        found: list[Document] = []
        while len(found) < min(n, self.most):
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
        return [OTHER_SENSE[target].get(word, word)]

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
            words[i] = rng.choice(KIN.get(words[i]) or list(vocabulary))
    return " ".join(words)
