"""The policy: a causal language model and its tokenizer, seen as four verbs.

``sample`` writes completions, ``score`` reads probabilities, ``choose`` answers a closed question, and
``snapshot`` freezes the weights. Everything speaks in prompts and groups; nobody outside this file
and its two neighbours (``sampling``, ``scoring``) pads a tensor or moves one to a device.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from selfreward.errors import DataError, ModelError, RecipeError
from selfreward.policy import sharding
from selfreward.policy.architecture import causal_model
from selfreward.policy.sampling.default import default_sampler
from selfreward.policy.sampling.params import Completion, Sampler, SamplingParams, occurrences
from selfreward.policy.scoring.forward import must_fit, next_token_logprobs, score_tokens
from selfreward.policy.sharding import spread
from selfreward.runtime import distributed
from selfreward.runtime.checkpoint import whole_folder
from selfreward.runtime.distributed import is_main, size, whole
from selfreward.runtime.seeding import stream_seed
from selfreward.types import Group, Message, Prompt, Segment, Trajectory

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


@dataclass
class TokenCount:
    """Tokens by kind of work and role, for cost accounting."""

    generated: dict[str, int]
    scored: dict[str, int]

    def add(self, kind: str, role: str, n: int) -> None:
        counts = getattr(self, kind)
        counts[role] = counts.get(role, 0) + n


class Policy:
    """A model that samples, scores and judges.

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
        self.model = model
        self.tokenizer = tokenizer
        self.chat = chat
        self.counts = TokenCount({}, {})
        self._adapter: dict[str, Tensor] | None = None  # a snapshot of a LoRA policy swaps this in
        self._seed, self._calls = 0, 0
        for module in model.modules():
            # Dropout would make the scored distribution differ from the sampled one.
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.eval()
        self.sampler = sampler or default_sampler(causal_model(model))

    # ---------------------------------------------------------------- facts

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def is_lora(self) -> bool:
        return hasattr(self.model, "peft_config")

    @property
    def context(self) -> int | None:
        """Longest sequence that the model accepts, or None where it does not say."""
        return getattr(causal_model(self.model).config.get_text_config(), "max_position_embeddings", None)

    @property
    def end_tokens(self) -> list[int]:
        """Ids that end a completion."""
        found: list[int] = []
        generation = getattr(causal_model(self.model), "generation_config", None)
        for value in (getattr(generation, "eos_token_id", None), self.tokenizer.eos_token_id):
            if value is not None:
                found += value if isinstance(value, list) else [value]
        return list(dict.fromkeys(int(v) for v in found))

    @property
    def pad_token(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else (self.end_tokens or [0])[0]

    def parameters(self) -> list[torch.nn.Parameter]:
        """The trainable parameters, in the model's own order."""
        return [p for p in self.model.parameters() if p.requires_grad]

    # ---------------------------------------------------------------- text and tokens

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, up to where the completion starts."""
        if prompt.messages is not None:
            return self.encode_chat(prompt.messages)
        assert prompt.text is not None
        return self.encode_text(prompt.text)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a plain text: as a user message where a chat template is in use."""
        if self.chat == "auto" and self.tokenizer.chat_template:
            return self.encode_chat([{"role": "user", "content": text}])
        return list(self.tokenizer(text)["input_ids"])

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        if not self.tokenizer.chat_template:
            raise DataError(
                "The data holds chat messages but the model's tokenizer has no chat template. "
                "Use an instruction-tuned model, or give plain prompts in the field 'prompt'."
            )
        text = self.tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
        )
        # The template writes the special tokens itself.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """Text of completion tokens, without special tokens."""
        ids = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    # ---------------------------------------------------------------- verbs

    def seed(self, seed: int, *key: object) -> None:
        """Start a fresh, reproducible sequence of draws; the trainer does so once per step."""
        self._seed, self._calls = stream_seed(seed, *key), 0

    def sample(
        self,
        prompts: Sequence[Prompt],
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
        encoded = [self.encode(p) for p in prompts]
        kept = self._seed, self._calls
        if seed is not None:
            self.seed(seed)
        again = occurrences([(p.id, *ids) for p, ids in zip(prompts, encoded, strict=True)])
        names = [f"{p.id}/{k}" if k else p.id for p, k in zip(prompts, again, strict=True)]
        completions = self.sample_ids(encoded, n, params, keys=names, role=role)
        if seed is not None:
            self._seed, self._calls = kept
        groups = []
        for prompt, ids, drawn, before in zip(prompts, encoded, completions, again, strict=True):
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
        role: str = "solver",
    ) -> list[dict[str, Tensor]]:
        """Log-probabilities (and statistics) of given tokens; see
        :func:`selfreward.policy.scoring.forward.score_tokens`.

        Raises:
            DataError: for a sequence without tokens, or a longer one than the model reads.
        """
        must_fit(self.context, [(f"sequence {i}", len(s)) for i, s in enumerate(sequences)])
        self.counts.add("scored", role, sum(len(s) for s in sequences))

        def part(mine: list[int]) -> list[dict[str, Tensor]]:
            return score_tokens(
                self.model,
                [sequences[i] for i in mine],
                [starts[i] for i in mine],
                stats=stats,
                temperature=temperature,
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
        tails = [list(self.tokenizer(o, add_special_tokens=False)["input_ids"]) for o in options]
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

    # ---------------------------------------------------------------- frozen copies

    def snapshot(self) -> Policy:
        """A frozen copy of the current weights.

        With LoRA only the adapter is copied; the base weights are shared and the adapter is swapped in
        for the duration of each call.
        """
        if self.is_lora:
            frozen = copy.copy(self)
            frozen._adapter = {k: v.detach().clone() for k, v in self.adapter_weights().items()}
        else:
            frozen = copy.copy(self)
            copied = sharding.sharded_copy if sharding.is_sharded(self.model) else copy.deepcopy
            frozen.model = copied(self.model)
            frozen.model.requires_grad_(False)
            # A copied function is the same function: this one would go on using the live model's head.
            vars(frozen.model).pop("_selfreward_head", None)
        frozen.sampler = self.sampler.for_copies()
        return frozen

    def state_dict(self) -> dict[str, Tensor]:
        """The trainable weights (shared tensors once), on the CPU."""
        names = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                names[name] = whole(parameter.detach()).cpu().contiguous()
        return names

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ModelError: if the names or shapes are those of another model.
        """
        mine = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        if set(mine) != set(state):
            odd = sorted(set(mine) ^ set(state))[:3]
            raise ModelError(f"The saved weights belong to another model: they differ in {odd}.")
        with torch.no_grad():
            for name, parameter in mine.items():
                if parameter.shape != state[name].shape:
                    raise ModelError(
                        f"The saved weight {name} has shape {tuple(state[name].shape)}, "
                        f"the model needs {tuple(parameter.shape)}."
                    )
                distributed.fill(parameter, state[name])

    def save(self, folder: str | Path) -> None:
        """Write a folder that ``AutoModelForCausalLM`` (or PEFT, for LoRA) loads; it is there whole or not at all.

        With sharded weights all processes call this, and the first one writes.
        """
        gathered = sharding.whole_state(self.model)
        if gathered is not None and not is_main():
            return
        given: dict[str, Any] = {} if gathered is None else {"state_dict": gathered}
        with whole_folder(Path(folder)) as partial:
            self.model.save_pretrained(str(partial), **given)
            self.tokenizer.save_pretrained(str(partial))

    def adapter_weights(self) -> dict[str, Tensor]:
        """The LoRA weights in the model by name, as they are now; empty for a policy without an adapter."""
        return {n: p for n, p in self.model.named_parameters() if "lora_" in n}

    @contextlib.contextmanager
    def own_weights(self) -> Iterator[None]:
        """While open, the model computes with this policy's weights.

        They are in it already, but for a snapshot of a LoRA policy, which shares the model with the live policy: its
        adapter is swapped in for the time. Whoever calls ``model`` without a verb of the policy does so in here.
        """
        if self._adapter is None:
            yield
            return
        live = self.adapter_weights()
        kept = {k: v.detach().clone() for k, v in live.items()}
        with torch.no_grad():
            for k, v in live.items():
                v.copy_(self._adapter[k])
        try:
            yield
        finally:
            with torch.no_grad():
                for k, v in live.items():
                    v.copy_(kept[k])
