"""A base: the small model that a toy task starts from, as one value that says how it is made and what it must be like.

Its properties are designed: the base reads text in which, say, one solution in three is worked out, and so it is right
one time in three. Whether that came out as planned is measured after training and written to the base's card.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from selfreward.lab.pretraining.further_reading import read_further
from selfreward.lab.pretraining.pretrain import (
    Gate,
    OnStep,
    Pretrained,
    PretrainSettings,
    free_folder,
    llama_config,
    pretrain,
)
from selfreward.lab.pretraining.tokenizers import char_tokenizer, word_tokenizer
from selfreward.runtime.files import whole_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from selfreward.lab.pretraining.documents import Document
    from selfreward.policy.policy import Policy

CARD = "task.json"
"""The card of a base, beside its weights: from what it was made, by which command, and what it is like."""
Measure = Callable[["Policy"], Mapping[str, Any]]
"""What a policy is like, by name; values that are not numbers are left out of a card."""


class Corpus(Protocol):
    """The text that a base reads: a dataclass of shares and error rates, which its card repeats."""

    def documents(self, n: int, seed: int) -> Sequence[Document]:
        """Documents in the order to be read: ``n``, or as many as there are in a corpus of fixed size."""
        ...


@dataclass(frozen=True)
class Within:
    """A designed property: the metric ``name``, less the metric ``over`` if that is given, lies in [low, high]."""

    name: str
    low: float = -math.inf
    high: float = math.inf
    over: str | None = None

    def failure(self, measured: Mapping[str, float]) -> str | None:
        """What is wrong with what was ``measured``, in words; None where the property holds."""
        wanted = [self.name] if self.over is None else [self.name, self.over]
        missing = [name for name in wanted if name not in measured]
        if missing:
            return f"{' and '.join(missing)}: not measured"
        value, least = measured[self.name], 0.0 if self.over is None else measured[self.over]
        if self.low + least <= value <= self.high + least:
            return None
        return f"{' - '.join(wanted)} is {value - least:.3f}, not in [{self.low:g}, {self.high:g}]"


def failures(properties: Sequence[Within], measured: Mapping[str, float]) -> list[str]:
    """Which of the properties do not hold, a sentence each."""
    return [text for p in properties if (text := p.failure(measured)) is not None]


def numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """What of it is a number."""
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


@dataclass(frozen=True)
class Base:
    """How a base is made. :meth:`build` makes it.

    Attributes:
        name: its public name, ``embedded:NAME``.
        corpus: what it reads.
        settings: how it is trained.
        vocabulary: a text whose characters are the tokens, or the words that are; unused with ``start``.
        shape: arguments of :func:`~selfreward.lab.pretraining.pretrain.llama_config`; unused with ``start``.
        start: the embedded base that reads on, in place of a model with random weights.
        added: special tokens that a base with a ``start`` gets beside its own
            (:func:`~selfreward.lab.pretraining.further_reading.add_tokens`).
        measures: what the finished base is like, under the words for it in the card ("measured on ...").
        holds: the properties that it must have, in terms of the first of the ``measures``.
        probe: what is measured during training. It looks at problems of the pre-training split.
        gate: the properties of the probe with which training may end. Where nothing ``holds``, they are what the base
            must have.
        epochs: how often a corpus of fixed size is read; in place of ``settings.updates``.
        seed: is added to the seed that is asked for.
        extras: further JSON files beside the weights, and what they hold.
    """

    name: str
    corpus: Corpus
    settings: PretrainSettings
    vocabulary: str | Sequence[str] = ""
    shape: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    added: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)
    holds: tuple[Within, ...] = ()
    probe: Measure | None = None
    gate: tuple[Within, ...] = ()
    epochs: int | None = None
    seed: int = 0
    extras: Mapping[str, Measure] = field(default_factory=dict)

    def build(self, out: str | Path, seed: int = 0, on_step: OnStep | None = None, **changes: Any) -> Pretrained:
        """Train the base, measure it, and write it to the folder ``out`` with its card. Minutes, mostly.

        The weights depend on the arguments alone (on one machine and thread count). Whatever fails or interrupts it,
        ``out`` is as it was before.

        Args:
            seed: of the initial weights and of the text.
            on_step: told of every update.
            changes: to the settings, by name.

        Raises:
            ConfigError: for a wrong setting, or a folder that holds something else than a model.
        """
        settings, documents = self.read(seed, changes)
        folder = free_folder(Path(out))
        command = [f"selfreward pretrain {self.name} --out DIR --seed {seed}"]
        command += [f"--set {name}={value}" for name, value in changes.items()]
        with whole_folder(folder, durable=False) as part:
            made = self._train(documents, settings, part, on_step)
            broken = failures(self.gate, made.metrics)
            measured = self._measure(part)
            if measured:
                made.metrics = next(iter(measured.values()))
            if self.holds:
                broken = failures(self.holds, made.metrics)
                made.passed = not broken
            card = {
                "task": self.name,
                "command": " ".join(command),
                **({"starts from": self.start} if self.start else {}),
                "documents": asdict(self.corpus),  # type: ignore[call-overload]
                **({"epochs": self.epochs} if self.epochs else {}),
                "updates": made.updates,
                "has_properties": made.passed,
                **({"does not hold": broken} if broken else {}),
                **{where: {name: round(v, 3) for name, v in found.items()} for where, found in measured.items()},
            }
            (part / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        return replace(made, folder=folder)

    def read(self, seed: int, changes: Mapping[str, Any]) -> tuple[PretrainSettings, Sequence[Document]]:
        """The settings with their ``changes``, and the documents."""
        settings = replace(self.settings, seed=self.seed + seed)
        if self.epochs is None:
            settings = settings.updated(**changes)
            return settings, self.corpus.documents(settings.updates * settings.batch, settings.seed)
        documents = self.corpus.documents(0, settings.seed)
        updates = len(documents) * self.epochs // settings.batch
        return replace(settings, updates=updates).updated(**changes), documents

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of a base without a ``start``."""
        if isinstance(self.vocabulary, str):
            return char_tokenizer(self.vocabulary)
        return word_tokenizer(self.vocabulary)

    def _train(
        self, documents: Sequence[Document], settings: PretrainSettings, folder: Path, on_step: OnStep | None
    ) -> Pretrained:
        if self.start is not None:
            return read_further(self.start, documents, settings, folder, on_step, self.added)
        tokenizer = self.tokenizer()
        config = llama_config(tokenizer, **self.shape)
        return pretrain(documents, tokenizer, config, settings, folder, on_step, self._gate(tokenizer))

    def _gate(self, tokenizer: PreTrainedTokenizerFast) -> Gate | None:
        from selfreward.policy.policy import Policy

        if self.probe is None:
            return None
        probe = self.probe

        def look(model: Any) -> tuple[bool, dict[str, float]]:
            found = numbers(probe(Policy(model, tokenizer)))
            return not failures(self.gate, found), found

        return look

    def _measure(self, folder: Path) -> dict[str, dict[str, float]]:
        """What the base in ``folder`` is like, by the words for it; the ``extras`` are written there."""
        from selfreward.policy.loading import load_policy

        if not self.measures and not self.extras:
            return {}
        policy = load_policy(str(folder), device="cpu")
        for name, extra in self.extras.items():
            found = {key: round(value, 3) for key, value in extra(policy).items()}
            (folder / name).write_text(json.dumps(found), encoding="utf-8")
        return {where: numbers(measure(policy)) for where, measure in self.measures.items()}
