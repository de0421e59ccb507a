"""A task factory: the model writes new problems from examples, and what is kept becomes an example.

Few-shot list continuation (Self-Instruct, arXiv 2212.10560, as SeRL uses it online, arXiv 2505.20347): a
list of known problems ends where the next one would begin; what the model writes is cut into problems,
and only valid and new ones are handed out, each with an id of its own.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from selfreward.policy.sampling.params import SamplingParams
from selfreward.runtime.user_code import named_function
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

INSTRUCTION = (
    "Write good new mathematics word problems in the style of the following ones. Do not solve them and do not "
    "repeat them; each one must have a single definite answer.\n\n"
)
# Problems about things that a text model cannot see or make (Self-Instruct and SeRL).
KEYWORDS = (
    "image",
    "images",
    "graph",
    "graphs",
    "picture",
    "pictures",
    "file",
    "files",
    "map",
    "maps",
    "plot",
    "plots",
)


# ---- novelty ---------------------------------------------------------------------------------------


def longest_common_subsequence(a: Sequence[object], b: Sequence[object]) -> int:
    """Length of the longest sequence that both contain in order. Example: ``abcd`` and ``acbd``: 3."""
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def rouge_l(a: Sequence[object], b: Sequence[object]) -> float:
    """ROUGE-L F1 of two token sequences, in [0, 1] (Lin 2004).

    Example: ``the cat sat`` and ``the cat`` by words: recall 2/3, precision 1, F 0.8.
    """
    if not a or not b:
        return 0.0
    return 2 * longest_common_subsequence(a, b) / (len(a) + len(b))


def units(text: str) -> list[str]:
    """What novelty and length are counted in: words without case and punctuation, or characters of a text
    that is one word."""
    words = text.split()
    if len(words) > 1:
        bare = (w.strip(string.punctuation).casefold() for w in words)
        return [w for w in bare if w]
    return list(text)


def is_novel(text: str, known: Iterable[str], most: float = 0.7) -> bool:
    """Whether no known text has a ROUGE-L above ``most`` with this one.

    Shared units bound the common subsequence from above, which spares most comparisons.
    """
    mine = units(text)
    counts = Counter(mine)
    for other in known:
        theirs = units(other)
        if not mine or not theirs:
            continue
        bound = 2 * (counts & Counter(theirs)).total() / (len(mine) + len(theirs))
        if bound > most and rouge_l(mine, theirs) > most:
            return False
    return True


def flaw(text: str, least: int = 4, most: int = 150, keywords: Sequence[str] = KEYWORDS) -> str | None:
    """Why a written problem is not used, or None: ``length``, ``keyword``, ``program`` or ``start``.

    The filters of Self-Instruct that SeRL keeps: more than 3 and at most 150 words (units), nothing about
    images or files, no request for a program, and a first character that is a letter or digit of ASCII.
    """
    found = units(text)
    if not least <= len(found) <= most:
        return "length"
    if set(found) & set(keywords):
        return "keyword"
    if text.casefold().startswith("write a program"):
        return "program"
    if text[0] in string.punctuation or not text[0].isascii():
        return "start"
    return None


# ---- lists -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ListFormat:
    """How problems are listed, and how a continuation is cut into problems again.

    Attributes:
        header: the text before the list.
        item: one listed problem, with {n} and {question}.
        lead: how the next problem begins; the list ends with it.
        separator: regular expression between two problems of a continuation.
        suffix: what a problem ends in as a question, and a listed problem does not.
        problem: regular expression that a problem must match as a whole; empty accepts all.
    """

    header: str = INSTRUCTION
    item: str = "{n}. {question}\n"
    lead: str = "{n}."
    separator: str = r"\n\s*\d+\s*[.)]|\n\s*\n"
    suffix: str = ""
    problem: str = ""

    @staticmethod
    def of(templates: Mapping[str, str]) -> ListFormat:
        """The task's own format, from its templates ``list_header``, ``list_item`` and so on."""
        names = ("header", "item", "lead", "separator", "suffix", "problem")
        return ListFormat(**{n: templates[f"list_{n}"] for n in names if f"list_{n}" in templates})

    def write(self, questions: Sequence[str]) -> str:
        """The prompt that asks for more problems like these."""
        items = [
            self.item.format(n=n, question=q.removesuffix(self.suffix) if self.suffix else q)
            for n, q in enumerate(questions, start=1)
        ]
        return self.header + "".join(items) + self.lead.format(n=len(questions) + 1)

    def read(self, continuation: str, finished: bool = True) -> list[str]:
        """The problems of a continuation; the last one is dropped where the text was cut off."""
        parts = re.split(self.separator, continuation)
        if not finished:
            parts = parts[:-1]
        return [p.strip() + self.suffix for p in parts if p.strip()]


# ---- the factory -----------------------------------------------------------------------------------


@dataclass
class TaskFactory:
    """Writes problems, filters them, and remembers what proved useful.

    Attributes:
        shots: examples per list, ``from_pool`` of them from the pool of kept problems (as far as there are).
        novelty: largest ROUGE-L with any seed or waiting problem; 1 switches the filter off.
        lifetime: steps for which a proposal that found no use keeps waiting.
        pool_size: newest kept problems that are remembered.
        check: a further condition on a question.
    """

    shots: int = 8
    from_pool: int = 2
    novelty: float = 0.7
    lifetime: int = 1
    pool_size: int = 1000
    least_units: int = 4
    most_units: int = 150
    check: Callable[[str], bool] | None = None
    seeds: dict[str, None] = field(default_factory=dict, init=False)
    pool: list[str] = field(default_factory=list, init=False)
    waiting: list[tuple[str, int]] = field(default_factory=list, init=False)
    serial: int = field(default=0, init=False)

    def add_seeds(self, questions: Iterable[str]) -> None:
        """Add human problems to the seeds."""
        self.seeds |= dict.fromkeys(questions)

    def examples(self, generator: torch.Generator) -> list[str]:
        """``shots`` examples in random order."""
        old = self.pool[:]
        kept = _draw(old, min(self.from_pool, len(old)), generator)
        seeds = list(self.seeds)
        return _draw([*kept, *_draw(seeds, min(self.shots - len(kept), len(seeds)), generator)], None, generator)

    def propose(
        self,
        policy: Policy,
        n: int,
        step: int,
        form: ListFormat,
        params: SamplingParams,
        generator: torch.Generator,
        rounds: int = 4,
    ) -> tuple[list[Prompt], dict[str, int]]:
        """Up to ``n`` new problems as prompts with fresh ids, and how many were written and refused for what.

        Lists are continued in up to ``rounds`` calls of ``n`` / 4 lists. Surplus problems wait for the
        next steps and expire after ``lifetime``.
        """
        self.waiting = [(q, born) for q, born in self.waiting if step - born <= self.lifetime]
        counts: Counter[str] = Counter()
        for _ in range(rounds):
            if len(self.waiting) >= n:
                break
            lists = [
                Prompt(f"list-{step}-{i}", text=form.write(self.examples(generator))) for i in range(max(1, n // 4))
            ]
            for group in policy.sample(lists, 1, params, role="proposer"):
                for text in form.read(group.completions[0], group.trajectories[0].finished):
                    counts["written"] += 1
                    reason = self.refusal(text, form)
                    counts[reason or "accepted"] += 1
                    if reason is None:
                        self.waiting.append((text, step))
        taken, self.waiting = self.waiting[:n], self.waiting[n:]
        prompts = []
        for question, _ in taken:
            prompts.append(Prompt(f"own-{self.serial}", text=question))
            self.serial += 1
        return prompts, dict(counts)

    def refusal(self, question: str, form: ListFormat) -> str | None:
        """Why a written problem is refused, or None."""
        if form.problem and not re.fullmatch(form.problem, question):
            return "form"
        if reason := flaw(question, self.least_units, self.most_units):
            return reason
        if self.check is not None and not self.check(question):
            return "check"
        known = [*self.seeds, *(q for q, _ in self.waiting)]
        if self.novelty < 1 and not is_novel(question, known, self.novelty):
            return "known"
        return None

    def keep(self, questions: Iterable[str]) -> None:
        """Put problems that proved useful into the pool of examples."""
        self.pool = [*self.pool, *questions][-self.pool_size :]

    def state_dict(self) -> dict[str, Any]:
        return {
            "seeds": list(self.seeds),
            "pool": list(self.pool),
            "waiting": [[q, born] for q, born in self.waiting],
            "serial": self.serial,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seeds = dict.fromkeys(state["seeds"])
        self.pool = list(state["pool"])
        self.waiting = [(str(q), int(born)) for q, born in state["waiting"]]
        self.serial = int(state["serial"])


class Introspection:
    """Problems of several kinds that a model writes after examples of each kind, one per answer.

    The examples are given ones and the newest of its own that proved to be of that kind. What was written is one line;
    what is known, held out or written before is dropped.

    Args:
        shots: examples shown to the writer, in random order.
        size: own problems kept per kind.
    """

    def __init__(self, shots: int = 4, size: int = 64) -> None:
        self.shots, self.size = shots, size
        self.kept: dict[str, list[str]] = {}

    def write(
        self,
        policy: Policy,
        seeds: Mapping[str, Sequence[str]],
        templates: Mapping[str, str],
        n: int,
        params: SamplingParams,
        generator: Callable[..., torch.Generator],
        held_out: Iterable[str] = (),
    ) -> list[tuple[str, str]]:
        """(id, problem) of what is new among ``n`` attempts per kind.

        Args:
            seeds: the given examples by kind; ``templates`` with ``{seeds}`` in their place, one per line, or in one
                line where no template has a line break.
            generator: makes a generator from a key, for the order of the examples.
        """
        space = "\n" if any("\n" in t for t in templates.values()) else " "
        asked = []
        for kind, own in seeds.items():
            pool = [*own, *self.kept.get(kind, [])]
            for i in range(n):
                shown = _draw(pool, self.shots, generator("shots", kind, i))
                text = templates[kind].format(seeds=space.join(shown))
                asked.append(Prompt(f"{kind}-{i}", text, fields={"kind": kind}))
        known, found = set(held_out), []
        for group in policy.sample(asked, 1, params, role="writer"):
            kind, key = group.prompt.fields["kind"], group.completions[0].strip().split("\n")[0]
            if key and _new(key, known | {*seeds[kind], *self.kept.get(kind, [])}):
                known.add(key)
                found.append((group.prompt.id, key))
        return found

    def keep(self, kind: str, key: str) -> bool:
        """Let a problem join the examples of ``kind``; returns whether it is new there."""
        pool = self.kept.setdefault(kind, [])
        if key in pool:
            return False
        pool.append(key)
        del pool[: -self.size]
        return True


def _new(key: str, known: set[str]) -> bool:
    """Sentences must differ in more than a few words; single words only must not be the same."""
    return is_novel(key, known) if " " in key else key not in known


def _draw(items: Sequence[str], n: int | None, generator: torch.Generator) -> list[str]:
    """``n`` different items in random order; all of them for None."""
    order = torch.randperm(len(items), generator=generator).tolist()
    return [items[i] for i in (order if n is None else order[:n])]


def load_check(spec: str) -> Callable[[str], bool] | None:
    """The function that ``module:function`` names; None for an empty text.

    Raises:
        ConfigError: if there is no such function.
    """
    return named_function(spec, "check") if spec else None
