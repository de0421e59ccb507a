"""The few types that flow through the house. Read this file first.

Dimension letters used in names and docstrings everywhere: ``B`` sequences, ``T`` tokens, ``G``
trajectories of one group, ``N`` items, ``V`` vocabulary, ``K`` choices or samples.
Token tensors that flow between blocks are one-dimensional and live on the CPU; padding and devices
are the business of policies and of the learner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from selfreward.errors import LabelAccessError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor

Labels = Literal["none", "seed", "outcome", "preference", "environment"]
Message = Mapping[str, str]


@dataclass(frozen=True)
class Prompt:
    """One question for the model.

    Exactly one of ``text`` (a plain string) and ``messages`` (chat turns with ``role`` and
    ``content``) is set. ``fields`` holds the other columns of the user's data. The reference answer
    is readable here only while the prompt is unlocked; a recipe is handed :meth:`locked` copies
    that do not contain it.
    """

    id: str
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = field(default=None, repr=False)
    locked_by: str | None = None

    @property
    def answer(self) -> str | None:
        """The reference answer, or None where the data has none.

        Raises:
            LabelAccessError: on a locked prompt. The answer is not in the object at all.
        """
        if self.locked_by is not None:
            raise LabelAccessError(
                f"Recipe {self.locked_by!r} declares labels='none' but read the answer of prompt "
                f"{self.id!r}. Declare the labels that it needs (labels='outcome'), or do not read it."
            )
        return self.reference

    @property
    def question(self) -> str:
        """The text that the user asks: ``text``, or the content of the last user message."""
        if self.text is not None:
            return self.text
        assert self.messages is not None
        return next(m["content"] for m in reversed(self.messages) if m["role"] == "user")

    def locked(self, by: str, fields: Sequence[str] = ()) -> Prompt:
        """A copy for recipe ``by``: no answer in it, and only the declared ``fields``."""
        kept = {k: v for k, v in self.fields.items() if k in fields}
        return replace(self, fields=kept, reference=None, locked_by=by)


@dataclass
class Segment:
    """A run of tokens with one author: the unit of credit.

    Attributes:
        role: who wrote it: ``"prompt"``, ``"solver"``, ``"judge"``, ``"tool"``, ...
        tokens: long ``[T]``.
        text: the decoded tokens, without the end-of-sequence token.
        logprobs: float ``[T]``, behaviour log-probabilities (of the tempered distribution that was
            sampled from); None for text that the policy did not write.
        trainable: whether losses may touch it.
        finished: ended by an end-of-sequence token, not by the length limit.
        reward: reward of this segment alone (multi-turn credit); None means "the trajectory's".
        kl_weight: weight of this segment's tokens in a KL term.
        stats: per-token statistics taken while sampling, each float ``[T]`` (``entropy``,
            ``self_certainty``).
    """

    role: str
    tokens: Tensor
    text: str = ""
    logprobs: Tensor | None = None
    trainable: bool = False
    finished: bool = True
    reward: float | None = None
    kl_weight: float = 1.0
    stats: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.tokens.numel())


@dataclass
class Trajectory:
    """An ordered list of segments that belong to one prompt."""

    prompt: Prompt
    segments: list[Segment]
    reward: float = 0.0
    parent: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> Tensor:
        """Long ``[T]``: all segments in order."""
        import torch

        return torch.cat([s.tokens for s in self.segments])

    @property
    def last(self) -> Segment:
        """The last segment that the policy wrote."""
        for segment in reversed(self.segments):
            if segment.trainable:
                return segment
        return self.segments[-1]

    @property
    def completion(self) -> str:
        """The text of :attr:`last`."""
        return self.last.text

    @property
    def finished(self) -> bool:
        return self.last.finished


@dataclass
class Group:
    """All trajectories that share a baseline. A signal always sees a whole group.

    ``key`` is unique per prompt, view and role; derived tasks get fresh keys.
    """

    key: str
    prompt: Prompt
    trajectories: list[Trajectory]
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.trajectories)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self.trajectories)

    @property
    def completions(self) -> list[str]:
        return [t.completion for t in self.trajectories]

    @property
    def rewards(self) -> list[float]:
        return [t.reward for t in self.trajectories]

    def only(self, keep: Sequence[bool]) -> Group:
        """The group without the trajectories whose ``keep`` is False; credit is then taken among the rest."""
        if len(keep) != len(self.trajectories):
            raise RecipeError(f"Group {self.key!r} has {len(self)} trajectories but was given {len(keep)} choices.")
        kept = [t for t, k in zip(self.trajectories, keep, strict=True) if k]
        return Group(self.key, self.prompt, kept, self.meta)

    def reward_with(self, rewards: Sequence[float] | Tensor) -> None:
        """Write one finite reward per trajectory.

        Raises:
            RecipeError: on a wrong length or a value that is not a finite number.
        """
        import math

        values = list(rewards)
        if len(values) != len(self.trajectories):
            raise RecipeError(
                f"Group {self.key!r} has {len(self.trajectories)} trajectories but was given {len(values)} rewards."
            )
        for i, (trajectory, value) in enumerate(zip(self.trajectories, values, strict=True)):
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise RecipeError(f"Reward {i} of group {self.key!r} is {value!r}, not a number.") from None
            if not math.isfinite(number):
                raise RecipeError(f"Reward {i} of group {self.key!r} is {number}; rewards must be finite.")
            trajectory.reward = number


@dataclass
class Row:
    """One token sequence as the losses consume it. All tensors are ``[T]`` over the whole sequence.

    Position ``t`` of every weight refers to the prediction *of* token ``t``. A language model never predicts position
    0, which has weight 0 then. In rows of another kind of policy a token is a decision: its number in ``tokens`` where
    there are finitely many, else a vector in ``extra``, where the observations are, too.

    Attributes:
        tokens: long, prompt and completion.
        mask: float 0/1, tokens whose log-probability the policy-gradient or preference loss uses.
        advantage: float, per-token advantage (0 where ``mask`` is 0).
        behaviour: float, log-probabilities at sampling time (0 where unknown).
        nll: float, weight of the token in a likelihood loss.
        kl: float, weight of the token in a KL term.
        extra: further channels by name for loss terms of a recipe's own, ``[T]`` or ``[T, K]`` (targets of a
            regression, weights of a second likelihood, a teacher's log-probabilities of K tokens).
    """

    tokens: Tensor
    mask: Tensor
    advantage: Tensor
    behaviour: Tensor
    nll: Tensor
    kl: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.tokens.numel())


@dataclass
class Pair:
    """A preference: row ``chosen`` over row ``rejected`` of the same experience."""

    chosen: int
    rejected: int
    weight: float = 1.0
    margin: float = 0.0


@dataclass
class Experience:
    """What one ``collect`` hands to the losses.

    ``groups`` are kept for the rollout log and the monitors; ``stats`` are numbers that a recipe
    wants in the step's record.
    """

    rows: list[Row]
    pairs: list[Pair] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    stats: dict[str, float] = field(default_factory=dict)
