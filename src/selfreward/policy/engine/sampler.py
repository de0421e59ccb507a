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

import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from selfreward.errors import ConfigError, TrainingError, UserError
from selfreward.policy.architecture import causal_model
from selfreward.policy.engine.export import server_state, write_model
from selfreward.policy.precision import HALF
from selfreward.policy.sampling.params import Completion, Sampler, SamplingParams
from selfreward.policy.scoring.forward import score_tokens
from selfreward.runtime import distributed
from selfreward.runtime.checkpoint import whole_folder
from selfreward.runtime.endpoint import Endpoint
from selfreward.runtime.seeding import stream_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from selfreward.policy.policy import Policy


OnStale = Literal["stop", "warn"]


KINDS = ("vllm", "fixed")


WRITTEN = {"config.json", "generation_config.json", "model.safetensors"}


PROBES, PROBE_TOKENS = 4, 64


# Mean |difference| of log-probabilities per token (nats) that two programs with the same weights may have.
TOLERANCE, TOLERANCE_HALF = 0.002, 0.05


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
    numbers: dict[str, float] = field(default_factory=dict)
    _sent: tuple[int, ...] = ()
    _tried: bool = False
    _tied: bool = False
    _stale: bool = False
    _probe: list[Tensor] = field(default_factory=list)

    def for_copies(self) -> Sampler:
        """A server has the live weights only: copies are sampled here."""
        return self.local

    # ---------------------------------------------------------------- weights

    def prepare(self, model: torch.nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        """Send the weights if they have changed, and compare. All processes come here together.

        Raises:
            TrainingError: the server keeps old weights (with ``on_stale="stop"``).
            UserError: it does not answer, or takes no weights.
        """
        if not self.follows:
            return
        if not self._probe:
            self._probe = probe_of(prompts)
        if not self._tried:
            self._tried = True
            self._trial(model)
        if distributed.any_of(fingerprint(model) != self._sent):
            self._send(model)
            self._compare(model, "after the weights were sent")
            self._sent = fingerprint(model)

    def _trial(self, model: torch.nn.Module) -> None:
        """Send weights that differ visibly everywhere: small updates could hide a part that is never replaced."""
        kept = [distributed.local(p).detach().cpu().clone() for p in model.parameters()]
        try:
            with torch.no_grad():
                for i, parameter in enumerate(model.parameters()):
                    mine = distributed.local(parameter)
                    noise = torch.Generator().manual_seed(i)  # alike in every process that has the weight whole
                    drawn = torch.randn(mine.shape, generator=noise).to(mine)
                    scale = 0.5 * mine.float().std().to(mine) if mine.ndim > 1 and mine.numel() > 1 else 0.2 * mine
                    mine.add_(drawn * scale)
            self._send(model)
            self._compare(model, "after weights that were changed on purpose were sent, as a trial")
        finally:
            with torch.no_grad():
                for parameter, before in zip(model.parameters(), kept, strict=True):
                    distributed.local(parameter).copy_(before)

    def _send(self, model: torch.nn.Module) -> None:
        state, self._tied = server_state(model)

        def write_and_load() -> float:
            begun = time.monotonic()
            with whole_folder(self.folder, durable=False) as partial:
                write_model(causal_model(model), state, partial)  # type: ignore[arg-type]
            body = {"method": "reload_weights", "kwargs": {"weights_path": str(self.folder)}}
            self._must("../collective_rpc", body)
            self._must("../reset_prefix_cache", {})
            return time.monotonic() - begun

        self.numbers["engine/send_s"] = distributed.once(write_and_load)

    def _must(self, path: str, body: dict[str, Any]) -> None:
        what = f"The server at {self.server.url} did not take the weights in {self.folder}"
        try:
            done = self.server.post(path, body, lambda answer: True)
        except UserError as error:
            raise UserError(
                f"{what}: {error} A vLLM server takes weights when it was started with VLLM_SERVER_DEV_MODE=1; "
                "`selfreward serve` does that."
            ) from None
        if not done:
            raise UserError(f"{what}: {self.server.reason}. It must run, and see the same files.")

    def _compare(self, model: torch.nn.Module, when: str) -> None:
        own = score_tokens(causal_model(model), self._probe, [1] * len(self._probe))  # type: ignore[arg-type]
        theirs = distributed.once(lambda: self._ask_all([self._probe_body(p) for p in self._probe], prompt_logprobs))
        gaps = torch.cat([(a["logprob"] - torch.tensor(b)).abs() for a, b in zip(own, theirs, strict=True)])
        self.numbers["engine/probe_gap"] = float(gaps.mean())
        self._judge(gaps, f"{len(gaps)} probe tokens", when, speaks=distributed.is_main())

    def _probe_body(self, tokens: Tensor) -> dict[str, Any]:
        return {"prompt": tokens.tolist(), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}

    def _judge(self, gaps: Tensor, of: str, when: str, speaks: bool) -> None:
        """Say that the server is stale, or that it no longer is.

        Args:
            speaks: whether a warning is this process's to give: each alone has seen what it sampled.
        """
        mean = float(gaps.mean())
        stale = not mean <= self.tolerance  # NaN is stale, too
        self.numbers["engine/stale"] = float(stale)
        if not stale:
            self._stale = False
            return
        said = (
            f"The server at {self.server.url} does not compute what the trainer computes: {when}, the "
            f"log-probabilities of {of} are {mean:.3f} nats apart on average (largest {float(gaps.max()):.3f}; "
            f"engine_tolerance is {self.tolerance:g}). {self._cause()}"
        )
        if self.on_stale == "stop":
            raise TrainingError(said)
        if not self._stale and speaks:
            print(f"warning: {said} Going on, because engine_stale=warn.", file=sys.stderr)
        self._stale = True

    def _cause(self) -> str:
        cure = "Start the server with `selfreward serve MODEL`, or train with --engine local."
        if self._tied:
            return (
                "The model's word embeddings are tied, which is a known cause: vLLM on CPUs keeps a copy of the output "
                "head from its start and a reload does not replace it. `selfreward serve MODEL` writes the model with "
                "a head of its own, which does not have this fault; start the server so, or train with --engine local."
            )
        return f"It holds other weights or another number format. {cure}"

    # ---------------------------------------------------------------- completions

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
        ask = self._drawn if self.follows else self._written
        self.server.model = self.server.model or self.server.first_model()

        def group(i: int) -> list[tuple[list[int], list[float] | None]] | None:
            return ask(prompts[i], n[i], params, stream_seed(seed, keys[i]), end_tokens)

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
            self.numbers["engine/gap"] = float(gaps.mean())
            if float(gaps.mean()) > self.tolerance and temperature != 1:
                self._blame_mode(model, sequences, starts, theirs)
            self._judge(gaps, f"{len(gaps)} sampled tokens", "while sampling", speaks=True)
        result = []
        for i, (_, tokens, _) in enumerate(rows):
            mine = own[i] if i < len(own) else {}
            logprobs = theirs[i] if given and not self._stale else mine["logprob"]
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

    def _drawn(
        self, prompt: Sequence[int], n: int, params: SamplingParams, seed: int, end_tokens: Sequence[int]
    ) -> list[tuple[list[int], list[float] | None]] | None:
        """A group by token ids, with the server's log-probabilities."""
        copies = n if params.temperature == 0 else 1
        body = {
            "prompt": list(prompt),
            "n": n // copies,
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "seed": seed,
            "logprobs": 0,
            "return_token_ids": True,
            "stop_token_ids": list(end_tokens),
        }

        def read(answer: Any) -> list[tuple[list[int], list[float] | None]]:
            choices = sorted(answer["choices"], key=lambda c: int(c["index"]))
            if len(choices) != n // copies:
                raise ValueError(f"{len(choices)} completions, {n // copies} were asked for")
            found: list[tuple[list[int], list[float] | None]] = []
            for choice in choices:
                tokens = [int(t) for t in choice["token_ids"]]
                logprobs = [float(v) for v in choice["logprobs"]["token_logprobs"]]
                if not 0 < len(tokens) == len(logprobs) <= params.max_new_tokens:
                    raise ValueError(f"{len(tokens)} tokens with {len(logprobs)} log-probabilities")
                if not all(map(math.isfinite, logprobs)):
                    raise ValueError("log-probabilities that are not finite")
                found.append((tokens, logprobs))
            return found * copies

        return self.server.post("/completions", {"model": self.server.model, **body}, read)

    def _written(
        self, prompt: Sequence[int], n: int, params: SamplingParams, seed: int, end_tokens: Sequence[int]
    ) -> list[tuple[list[int], list[float] | None]] | None:
        """A group by text. Servers that ignore ``n`` are asked again until the group is whole."""
        bos = self.tokenizer.bos_token_id
        ids = list(prompt[1:]) if bos is not None and len(prompt) > 1 and prompt[0] == bos else list(prompt)
        text = str(self.tokenizer.decode(ids, skip_special_tokens=False))
        body = {
            "model": self.server.model,
            "prompt": text,
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
        }
        if params.top_k:  # not every server knows it; one that does not says so
            body["top_k"] = params.top_k

        def read(answer: Any) -> list[tuple[list[int], list[float] | None]]:
            found: list[tuple[list[int], list[float] | None]] = []
            for choice in answer["choices"]:
                tokens = list(self.tokenizer(str(choice["text"]), add_special_tokens=False)["input_ids"])
                if choice.get("finish_reason") == "stop" and end_tokens:
                    tokens = [*tokens[: params.max_new_tokens - 1], int(end_tokens[0])]
                if tokens:
                    found.append((tokens[: params.max_new_tokens], None))
            if not found:
                raise ValueError("no completion with a text")
            return found

        group: list[tuple[list[int], list[float] | None]] = []
        while len(group) < n:
            more = self.server.post("/completions", {**body, "n": n - len(group), "seed": seed + len(group)}, read)
            if more is None:
                return None
            group += more
        return group[:n]

    def _ask_all(self, bodies: Sequence[dict[str, Any]], read: Any) -> list[Any]:
        self.server.model = self.server.model or self.server.first_model()
        with ThreadPoolExecutor(self.server.at_once) as pool:
            found = list(
                pool.map(lambda b: self.server.post("/completions", {"model": self.server.model, **b}, read), bodies)
            )
        if any(f is None for f in found):
            raise UserError(
                f"The server at {self.server.url} did not score the probe: {self.server.reason}. "
                "The engine must be a vLLM server that answers prompt_logprobs."
            )
        return found


def prompt_logprobs(answer: Any) -> list[float]:
    """Float ``[T - 1]``: log-probabilities of a prompt's own tokens, from the second on, in vLLM's answer."""
    choice = answer["choices"][0]
    found = []
    for ranks in choice["prompt_logprobs"][1:]:
        # One entry per asked-for token; the prompt's own comes first.
        value = float(next(iter(ranks.values()))["logprob"])
        found.append(value)
    return found


def probe_of(prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """A few long prompts, cut to a length at which scoring them costs nothing."""
    distinct = sorted({tuple(p[:PROBE_TOKENS]) for p in prompts}, key=lambda p: (-len(p), p))
    chosen = [torch.tensor(p, dtype=torch.long) for p in distinct[:PROBES] if len(p) > 1]
    return chosen or [torch.tensor([*distinct[0], *distinct[0]], dtype=torch.long)]


def fingerprint(model: torch.nn.Module) -> tuple[int, ...]:
    """Tells weights apart: the bits of every weight as integers, their sums over rows and over columns by position.

    Beside a changed weight it sees exchanged rows and columns; what it cannot see is a change that leaves every one of
    these sums as it was. Versions of tensors do not serve: fused optimisers change weights without counting them up.
    """
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = []
    with torch.no_grad():
        for weight in map(distributed.local, model.parameters()):
            bits = weight.view(integers[weight.element_size()])
            table = bits.flatten(0, -2) if bits.ndim > 1 else bits.reshape(1, -1)
            for axis in (0, 1):
                line = table.sum(axis, dtype=torch.int64)
                sums.append((line * torch.arange(1, len(line) + 1, device=line.device)).sum())
    return tuple(torch.stack(sums).tolist())
