"""Rollout engines: completions from a server in a process and an environment of its own.

    selfreward serve MODEL --python VENV/bin/python
    selfreward train vote --model MODEL --data prompts.jsonl --engine vllm:http://127.0.0.1:8000/v1

``vllm:URL`` is a vLLM server whose weights follow the training: they are sent before the first completion that is
drawn after a change. A server can take new weights, answer politely, and go on using some of the old ones, so nothing
is believed: at first contact it is sent weights that were changed on purpose, and after every sending its
log-probabilities of the same probe are compared with the trainer's own; so is every completion that is scored here.

``fixed:URL[#MODEL]`` is any server with the OpenAI completions interface. Its weights stay what they are, and what it
writes is foreign text to the trainer, which scores it itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.errors import ConfigError, UserError
from selfreward.policy.engine.agreement import TOLERANCE, TOLERANCE_HALF, Agreement, OnStale
from selfreward.policy.engine.completions import Answers, drawn_group, written_group
from selfreward.policy.engine.weights import SentWeights
from selfreward.policy.precision import HALF
from selfreward.policy.sampling.params import Completion, Sampler, SamplingParams
from selfreward.policy.scoring.forward import score_tokens
from selfreward.runtime.endpoint import Endpoint
from selfreward.runtime.seeding import stream_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from selfreward.policy.policy import Policy

KINDS = ("vllm", "fixed")
WRITTEN = {"config.json", "generation_config.json", "model.safetensors"}


def make_engine(
    spec: str, policy: Policy, folder: Path, *, tolerance: float | None = None, on_stale: OnStale = "stop"
) -> EngineSampler:
    """The sampler that ``vllm:URL`` or ``fixed:URL[#MODEL]`` names.

    Args:
        folder: where weights for the server are written; it must see the same files.

    Raises:
        ConfigError: for a specification that is neither, or a folder with something else in it.
    """
    kind, _, rest = spec.partition(":")
    url, _, model = rest.partition("#")
    if kind not in KINDS or not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"engine is {spec!r}; it is local, vllm:http://HOST:PORT/v1 (its weights follow the training) or "
            "fixed:http://HOST:PORT/v1#MODEL (any OpenAI-compatible server, whose weights do not)."
        )
    foreign = sorted({p.name for p in folder.iterdir()} - WRITTEN) if folder.is_dir() else []
    if foreign:
        raise ConfigError(
            f"engine_folder {folder} holds {foreign[0]}; it is replaced at every sending. Name a new one."
        )
    server = Endpoint(url.rstrip("/"), model, timeout_s=600.0, at_once=32)
    half = next(policy.model.parameters()).dtype in HALF
    return EngineSampler(
        server,
        policy.tokenizer,
        policy.sampler,
        follows=kind == "vllm",
        folder=folder.absolute(),
        tolerance=tolerance if tolerance is not None else (TOLERANCE_HALF if half else TOLERANCE),
        on_stale=on_stale,
    )


@dataclass
class EngineSampler(Sampler):
    """A :class:`~selfreward.policy.sampling.params.Sampler` that asks a server, one request per group.

    Log-probabilities of completions are the server's where they are those of the distribution that the loss scores
    (it samples from the whole tempered distribution), and otherwise the trainer's. Statistics are always the
    trainer's: they come from its own forward, in which every completion is compared.

    Args:
        local: draws for frozen copies of the policy, whose weights the server does not have.
        follows: whether the server is sent the weights.
        folder: where they are written for it.
        tolerance: mean |difference| of log-probabilities per token, in nats, beyond which the server is stale.
        on_stale: ``stop`` raises; ``warn`` says so and goes on with the trainer's log-probabilities.

    Attributes:
        numbers: what the last sending and comparison found, for the metrics.
    """

    server: Endpoint
    tokenizer: PreTrainedTokenizerBase
    local: Sampler
    follows: bool = True
    folder: Path = Path("engine")
    tolerance: float = TOLERANCE
    on_stale: OnStale = "stop"

    def __post_init__(self) -> None:
        self.agreement = Agreement(self.server.url, self.tolerance, self.on_stale)
        self.weights = SentWeights(self.server, self.folder, self.agreement)
        self.numbers = self.agreement.numbers

    def for_copies(self) -> Sampler:
        """A server has the live weights only: copies are sampled here."""
        return self.local

    def prepare(self, model: torch.nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        """Send the weights if they have changed, and compare. All processes come here together.

        Raises:
            TrainingError: the server keeps old weights (with ``on_stale="stop"``).
            UserError: it does not answer, or takes no weights.
        """
        if self.follows:
            self.weights.follow(model, prompts)

    def __call__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        n: Sequence[int],
        params: SamplingParams,
        *,
        keys: Sequence[str],
        seed: int,
        end_tokens: Sequence[int],
        pad_token: int,
    ) -> list[list[Completion]]:
        asked = [i for i in range(len(prompts)) if n[i]]
        self.server.model = self.server.model or self.server.first_model()

        def group(i: int) -> Answers | None:
            own = prompts[i], n[i], params, stream_seed(seed, keys[i]), end_tokens
            if self.follows:
                return drawn_group(self.server, *own)
            return written_group(self.server, self.tokenizer, *own)

        with ThreadPoolExecutor(self.server.at_once) as pool:
            groups = list(pool.map(group, asked))
        lost = sum(g is None for g in groups)
        if lost:
            raise UserError(
                f"The server at {self.server.url} gave no completions for {lost} of {len(asked)} prompts; the last "
                f"reason: {self.server.reason}. Start it again and continue the run with --resume."
            )
        flat = [(i, *row) for i, rows in zip(asked, groups, strict=True) for row in rows or []]
        completions = iter(self._completions(model, [(prompts[i], t, lp) for i, t, lp in flat], params, end_tokens))
        return [[next(completions) for _ in range(n[i])] for i in range(len(prompts))]

    def _completions(
        self,
        model: PreTrainedModel,
        rows: Sequence[tuple[Sequence[int], list[int], list[float] | None]],
        params: SamplingParams,
        end_tokens: Sequence[int],
    ) -> list[Completion]:
        sequences = [torch.tensor([*prompt, *tokens], dtype=torch.long) for prompt, tokens, _ in rows]
        starts = [len(prompt) for prompt, _, _ in rows]
        temperature = params.temperature or 1.0
        truncated = params.temperature > 0 and (params.top_p < 1 or params.top_k > 0)
        given = self.follows and not truncated
        # Without statistics to take, a few completions are scored for the comparison alone.
        scored = range(len(rows)) if params.stats or not given or self.on_stale == "warn" else range(min(8, len(rows)))
        own = score_tokens(
            model,
            [sequences[i] for i in scored],
            [starts[i] for i in scored],
            stats=params.stats,
            temperature=temperature,
        )
        theirs = [torch.tensor(logprobs or [], dtype=torch.float32) for _, _, logprobs in rows]
        if given and own:
            gaps = torch.cat([(a["logprob"] - theirs[i]).abs() for i, a in zip(scored, own, strict=True)])
            self.agreement.numbers["engine/gap"] = float(gaps.mean())
            if float(gaps.mean()) > self.tolerance and temperature != 1:
                self._blame_mode(model, sequences, starts, theirs)
            self.agreement.judge(gaps, f"{len(gaps)} sampled tokens", "while sampling", speaks=True)
        result = []
        for i, (_, tokens, _) in enumerate(rows):
            mine = own[i] if i < len(own) else {}
            logprobs = theirs[i] if given and not self.agreement.stale else mine["logprob"]
            stats = {k: mine[k] for k in params.stats}
            result.append(Completion(torch.tensor(tokens, dtype=torch.long), logprobs, tokens[-1] in end_tokens, stats))
        return result

    def _blame_mode(
        self, model: PreTrainedModel, sequences: list[Tensor], starts: list[int], theirs: list[Tensor]
    ) -> None:
        """A server that reports log-probabilities before the temperature is told apart from a stale one."""
        some = range(min(8, len(sequences)))
        raw = score_tokens(model, [sequences[i] for i in some], [starts[i] for i in some])
        gaps = torch.cat([(a["logprob"] - theirs[i]).abs() for i, a in zip(some, raw, strict=True)])
        if float(gaps.mean()) <= self.tolerance:
            raise UserError(
                f"The server at {self.server.url} reports log-probabilities before the temperature is applied. Start "
                "it with --logprobs-mode processed_logprobs, as `selfreward serve` does, or train at temperature=1."
            )
