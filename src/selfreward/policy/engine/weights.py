"""The weights of a vLLM server that follows the training: tried once, sent after each change, compared each time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfreward.errors import UserError
from selfreward.policy.architecture import causal_model
from selfreward.policy.engine.agreement import Agreement
from selfreward.policy.engine.export import server_state, write_model
from selfreward.policy.scoring.forward import score_tokens
from selfreward.runtime import distributed
from selfreward.runtime.endpoint import Endpoint
from selfreward.runtime.files import whole_folder

PROBES, PROBE_TOKENS = 4, 64


@dataclass
class SentWeights:
    """The weights of a server that follows the training.

    Args:
        server: a vLLM server in development mode, which reads weights from files.
        folder: where they are written for it.
        agreement: told of every comparison.

    Attributes:
        probe: the token sequences that both sides score after a sending.
    """

    server: Endpoint
    folder: Path
    agreement: Agreement
    probe: list[Tensor] = field(default_factory=list)
    _sent: tuple[int, ...] = ()
    _tried: bool = False

    def follow(self, model: torch.nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        """Send the weights if they have changed, and compare. All processes come here together.

        Raises:
            TrainingError: the server keeps old weights (with ``on_stale="stop"``).
            UserError: it does not answer, or takes no weights.
        """
        if not self.probe:
            self.probe = probe_of(prompts)
        if not self._tried:
            self._tried = True
            self._trial(model)
        if distributed.any_of(fingerprint(model) != self._sent):
            self.send(model)
            self.compare(model, "after the weights were sent")
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
            self.send(model)
            self.compare(model, "after weights that were changed on purpose were sent, as a trial")
        finally:
            with torch.no_grad():
                for parameter, before in zip(model.parameters(), kept, strict=True):
                    distributed.local(parameter).copy_(before)

    def send(self, model: torch.nn.Module) -> None:
        """Write the weights for the server and let it load them. All processes come here together."""
        state, self.agreement.tied = server_state(model)

        def write_and_load() -> float:
            begun = time.monotonic()
            with whole_folder(self.folder, durable=False) as partial:
                write_model(causal_model(model), state, partial)  # type: ignore[arg-type]
            body = {"method": "reload_weights", "kwargs": {"weights_path": str(self.folder)}}
            self._must("../collective_rpc", body)
            self._must("../reset_prefix_cache", {})
            return time.monotonic() - begun

        self.agreement.numbers["engine/send_s"] = distributed.once(write_and_load)

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

    def compare(self, model: torch.nn.Module, when: str) -> None:
        """Let both sides score the probe, and judge."""
        own = score_tokens(causal_model(model), self.probe, [1] * len(self.probe))  # type: ignore[arg-type]
        theirs = distributed.once(self.theirs)
        gaps = torch.cat([(a["logprob"] - torch.tensor(b)).abs() for a, b in zip(own, theirs, strict=True)])
        self.agreement.numbers["engine/probe_gap"] = float(gaps.mean())
        self.agreement.judge(gaps, f"{len(gaps)} probe tokens", when, speaks=distributed.is_main())

    def theirs(self) -> list[list[float]]:
        """The server's log-probabilities of the probe's tokens, from the second of each sequence on."""
        self.server.model = self.server.model or self.server.first_model()
        bodies = [
            {
                "model": self.server.model,
                "prompt": tokens.tolist(),
                "max_tokens": 1,
                "temperature": 0.0,
                "prompt_logprobs": 0,
            }
            for tokens in self.probe
        ]
        with ThreadPoolExecutor(self.server.at_once) as pool:
            found = list(pool.map(lambda b: self.server.post("/completions", b, prompt_logprobs), bodies))
        if any(f is None for f in found):
            raise UserError(
                f"The server at {self.server.url} did not score the probe: {self.server.reason}. "
                "The engine must be a vLLM server that answers prompt_logprobs."
            )
        return [f for f in found if f is not None]


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
