"""The policy over the tokens of a language model, seen as four verbs.

``sample`` writes completions, ``score`` reads probabilities, ``choose`` answers a closed question, and ``snapshot``
freezes the weights. Recipes and signals speak in prompts, groups and token ids of unequal length; batches, padding and
devices are settled in here and in the files that this one calls. What the training loop asks of it beside the verbs is
:class:`~selfreward.policy.protocol.TrainablePolicy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from selfreward.errors import ModelError, RecipeError
from selfreward.policy import sharding
from selfreward.policy.architecture import causal_model
from selfreward.policy.batching import MICRO_TOKENS, right_pad
from selfreward.policy.language_model import LanguageModel
from selfreward.policy.protocol import Likelihoods, TokenCount, TrainablePolicy, Wanted
from selfreward.policy.sampling.params import Completion, Sampler, SamplingParams, occurrences
from selfreward.policy.scoring import forward
from selfreward.policy.scoring.forward import must_fit, next_token_logprobs, score_tokens
from selfreward.policy.sharding import spread
from selfreward.runtime.distributed import size
from selfreward.runtime.seeding import stream_seed
from selfreward.types import Group, Prompt, Row, Segment, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Choice(NamedTuple):
    """Closed-question read-out.

    Attributes:
        probs: float ``[N, K]``, renormalised over the options.
        mass: float ``[N]``, the probability that the model gave to the options together before
            renormalising: near 0 means that it did not understand the question.
    """

    probs: Tensor
    mass: Tensor


class Policy(LanguageModel, TrainablePolicy):
    """A language model that samples, scores, judges and can be trained.

    Args:
        model: any Hugging Face causal LM, or a PEFT model around one.
        tokenizer: its tokenizer.
        sampler: how completions are drawn; by default chosen by the architecture.
        chat: ``"auto"`` puts plain-text prompts into the chat template where the tokenizer has one,
            ``"never"`` leaves plain text alone. Message prompts always need a template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        sampler: Sampler | None = None,
        chat: str = "auto",
    ) -> None:
        super().__init__(model, tokenizer, sampler=sampler, chat=chat)
        self.counts = TokenCount()
        self._seed, self._calls = 0, 0

    # ---------------------------------------------------------------- verbs

    def seed(self, seed: int, *key: object) -> None:
        """Start a fresh, reproducible sequence of draws; the trainer does so once per step."""
        self._seed, self._calls = stream_seed(seed, *key), 0

    def sample(
        self,
        prompts: Sequence[Prompt | str],
        n: int | Sequence[int] = 1,
        params: SamplingParams | None = None,
        *,
        role: str = "solver",
        view: str = "",
        seed: int | None = None,
    ) -> list[Group]:
        """``n`` completions of every prompt, as one group per prompt.

        A prompt that stands in the call again has draws, and a group key, of its own.

        Args:
            n: completions of every prompt, or one number (0 or more) per prompt.
            role: who speaks; it names the segments, the cost account and, with ``view``, the group key.
            seed: draw from this seed and leave the policy's own sequence of draws untouched.
        """
        params = params or SamplingParams()
        asked = [Prompt(str(i), text=p) if isinstance(p, str) else p for i, p in enumerate(prompts)]
        encoded = [self.encode(p) for p in asked]
        kept = self._seed, self._calls
        if seed is not None:
            self.seed(seed)
        again = occurrences([(p.id, *ids) for p, ids in zip(asked, encoded, strict=True)])
        names = [f"{p.id}/{k}" if k else p.id for p, k in zip(asked, again, strict=True)]
        completions = self.sample_ids(encoded, n, params, keys=names, role=role)
        if seed is not None:
            self._seed, self._calls = kept
        groups = []
        for prompt, ids, drawn, before in zip(asked, encoded, completions, again, strict=True):
            head = Segment("prompt", torch.tensor(ids, dtype=torch.long))
            trajectories = [Trajectory(prompt, [head, self.segment(role, c)]) for c in drawn]
            key = "/".join(x for x in (prompt.id, view, role) if x)
            groups.append(Group(f"{key}#{before + 1}" if before else key, prompt, trajectories))
        return groups

    def sample_ids(
        self,
        prompts: Sequence[Sequence[int]],
        n: int | Sequence[int],
        params: SamplingParams,
        *,
        keys: Sequence[str] | None = None,
        role: str = "solver",
    ) -> list[list[Completion]]:
        """The same on token ids, for multi-turn and spliced contexts.

        Raises:
            DataError: for a prompt without tokens, or one that does not fit into the model with what it is to write.
        """
        if not prompts:
            return []
        counts = [n] * len(prompts) if isinstance(n, int) else [int(k) for k in n]
        if len(counts) != len(prompts) or min(counts) < 0:
            raise RecipeError(f"{len(prompts)} prompts were given {counts} completions; one number >= 0 per prompt.")
        asked = [(f"prompt {keys[i] if keys else i}", len(p)) for i, p in enumerate(prompts) if counts[i]]
        must_fit(self.context, asked, params.max_new_tokens)
        self._calls += 1
        call = self._calls
        names = [f"{call}/{k}" for k in (keys or range(len(prompts)))]

        def draw(mine: list[int]) -> list[list[Completion]]:
            return self.sampler(
                causal_model(self.model),
                [prompts[i] for i in mine],
                [counts[i] for i in mine],
                params,
                keys=[names[i] for i in mine],
                seed=self._seed,
                end_tokens=self.end_tokens,
                pad_token=self.pad_token,
            )

        self.sampler.prepare(self.model, prompts)
        with self.own_weights():
            drawn = spread(counts, draw)
        self.counts.add("generated", role, sum(len(c.tokens) for group in drawn for c in group))
        if not all(bool(torch.isfinite(c.logprobs).all()) for group in drawn for c in group):
            raise ModelError(
                "The model gives NaN or infinite probabilities while sampling. Its weights are damaged, or the number "
                "format overflows (a model trained in bfloat16 does not run in float16: try dtype=bfloat16 or float32)."
            )
        return drawn

    def segment(self, role: str, completion: Completion) -> Segment:
        """A completion as the trainable segment of a trajectory, with its text."""
        tokens = completion.tokens
        text = self.decode(tokens[:-1] if completion.finished else tokens)
        return Segment(
            role,
            tokens,
            text,
            completion.logprobs,
            trainable=True,
            finished=completion.finished,
            stats=completion.stats,
        )

    def score(
        self,
        sequences: Sequence[Tensor],
        starts: Sequence[int],
        *,
        stats: Sequence[str] = (),
        temperature: float = 1.0,
        hidden_at: Sequence[int] | None = None,
        top_k: int = 0,
        candidates: Sequence[Tensor] | None = None,
        role: str | None = "solver",
        max_tokens: int = MICRO_TOKENS,
    ) -> list[dict[str, Tensor]]:
        """Log-probabilities (and statistics) of given tokens; see
        :func:`selfreward.policy.scoring.forward.score_tokens`.

        Args:
            role: the account on which the tokens are counted as scored; None counts them nowhere.

        Raises:
            DataError: for a sequence without tokens, or a longer one than the model reads.
        """
        must_fit(self.context, [(f"sequence {i}", len(s)) for i, s in enumerate(sequences)])
        if role is not None:
            self.counts.add("scored", role, sum(len(s) for s in sequences))

        def part(mine: list[int]) -> list[dict[str, Tensor]]:
            return score_tokens(
                self.model,
                [sequences[i] for i in mine],
                [starts[i] for i in mine],
                stats=stats,
                temperature=temperature,
                max_tokens=max_tokens,
                hidden_at=None if hidden_at is None else [hidden_at[i] for i in mine],
                top_k=top_k,
                candidates=None if candidates is None else [candidates[i] for i in mine],
            )

        with self.own_weights():
            return spread([len(s) for s in sequences], part)

    def score_targets(
        self,
        contexts: Sequence[Sequence[int]],
        targets: Sequence[Sequence[Sequence[int]]],
        *,
        stats: Sequence[str] = (),
        temperature: float = 1.0,
        role: str = "solver",
    ) -> list[list[dict[str, Tensor]]]:
        """Log-probabilities (and statistics) of many targets under each context, which is read only once.

        See :func:`selfreward.policy.scoring.targets.score_targets`; contexts that are prefixes of one another (the
        successive states of a response) share a forward.
        """
        from selfreward.policy.scoring.targets import neighbours, score_targets

        if len(contexts) != len(targets):
            raise RecipeError(f"{len(contexts)} contexts were given with {len(targets)} lists of targets.")
        longest = [len(c) + max(map(len, own), default=0) for c, own in zip(contexts, targets, strict=True)]
        must_fit(self.context, [(f"context {i} with its longest target", n) for i, n in enumerate(longest) if n])
        blocks = neighbours(contexts, size())

        def part(mine: list[int]) -> list[tuple[list[list[dict[str, Tensor]]], int]]:
            return [
                score_targets(
                    self.model,
                    [contexts[i] for i in blocks[b]],
                    [targets[i] for i in blocks[b]],
                    stats=stats,
                    temperature=temperature,
                )
                for b in mine
            ]

        with self.own_weights():
            scored = spread([len(b) for b in blocks], part)
        self.counts.add("scored", role, sum(read for _, read in scored))
        found: list[list[dict[str, Tensor]]] = [[] for _ in contexts]
        for block, (values, _) in zip(blocks, scored, strict=True):
            for i, value in zip(block, values, strict=True):
                found[i] = value
        return found

    def choose(self, contexts: Sequence[str | Prompt], options: Sequence[str], *, role: str = "judge") -> Choice:
        """Probabilities of ``K`` fixed continuations after each of ``N`` contexts, without sampling.

        Options that are single tokens cost one forward per context; longer ones are scored whole.

        Raises:
            RecipeError: if two options are the same, or start the same way as single tokens.
            DataError: for a context without tokens, or a longer one than the model reads.
        """
        if not contexts:
            return Choice(torch.zeros(0, len(options)), torch.zeros(0))
        heads = [self.encode(c) if isinstance(c, Prompt) else self.encode_text(c) for c in contexts]
        tails = self.encode_options(options)
        if len({tuple(t) for t in tails}) != len(tails) or not all(tails):
            raise RecipeError(f"The options {list(options)} are not distinct token sequences for this tokenizer.")
        must_fit(self.context, [(f"context {i}", len(h)) for i, h in enumerate(heads)])
        # Every option is one scored continuation; micro-batching keeps the cost of identical heads low.
        sequences = [torch.tensor(h + t, dtype=torch.long) for h in heads for t in tails]
        starts = [len(h) for h in heads for _ in tails]
        if all(len(t) == 1 for t in tails):
            self.counts.add("scored", role, sum(map(len, heads)))
            first = [t[0] for t in tails]
            with self.own_weights():
                rows = spread(
                    [len(h) for h in heads],
                    lambda mine: list(next_token_logprobs(self.model, [heads[i] for i in mine])[:, first]),
                )
            log_K = torch.stack(rows)
        else:
            scored = self.score(sequences, starts, role=role)
            log_K = torch.stack([s["logprob"].sum() for s in scored]).view(len(heads), len(tails))
        return Choice(log_K.softmax(-1), log_K.logsumexp(-1).exp())

    def ask(
        self, template: str, fields: Sequence[Mapping[str, Any]], options: Sequence[str], *, role: str = "judge"
    ) -> Choice:
        """Fill ``template`` (``str.format`` fields) once per item and :meth:`choose` among ``options``."""
        try:
            contexts = [template.format(**f) for f in fields]
        except KeyError as error:
            raise RecipeError(f"The judge template names a field {error} that the item does not have.") from None
        return self.choose(contexts, options, role=role)

    # ---------------------------------------------------------------- being trained

    def likelihoods(self, rows: Sequence[Row], wanted: Wanted, temperature: float = 1.0) -> Likelihoods:
        """One forward with gradient over the rows' tokens; see :class:`~selfreward.policy.protocol.TrainablePolicy`."""
        out = forward.forward_tokens(self.model, right_pad([r.tokens for r in rows]), wanted, temperature)
        stats = {name: out[name] for name in wanted.with_gradient}
        return Likelihoods(out["logprob"], stats, out.get("candidates"))

    def logprobs(
        self, rows: Sequence[Row], temperature: float = 1.0, *, role: str | None = None, max_tokens: int | None = None
    ) -> list[Tensor]:
        """Float ``[T]`` per row: the log-probability of every token, without gradient."""
        scored = self.score(
            [r.tokens for r in rows],
            [0] * len(rows),
            temperature=temperature,
            role=role,
            max_tokens=max_tokens or MICRO_TOKENS,
        )
        return [s["logprob"] for s in scored]

    def shared_forwards(self, rows: Sequence[Row], max_tokens: int) -> list[tuple[list[int], int]]:
        """Rows that begin alike: their indices, and the distinct tokens to read."""
        return forward.sharing(self.model, [r.tokens for r in rows], max_tokens)

    def micro_tokens(self) -> int:
        """By device and width, see :func:`selfreward.policy.scoring.forward.micro_tokens`."""
        return forward.micro_tokens(self.model)

    def finish_backward(self, done: int) -> None:
        """Empty passes until the other processes, with which sharded layers run, have done theirs."""
        sharding.fill_backward(self.model, done)

    @property
    def numbers(self) -> Mapping[str, float]:
        """What the sampler has measured of itself."""
        return self.sampler.numbers

    def describe(self, row: Row) -> str:
        """The row's text."""
        return self.decode(row.tokens)
