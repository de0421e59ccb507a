"""A server that answers as vLLM does, in a thread, with a model of its own. It can be stale, slow, broken or terse."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from safetensors.torch import load_file

from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.sampling.torch_sampler import TorchSampler
from selfreward.policy.scoring.forward import score_tokens
from tests.support.models import make_model, tokenizer


@dataclass
class FakeEngine:
    """What the server does; tests change it while it runs.

    Attributes:
        forgets: weights whose names hold this text are never replaced.
        raw: log-probabilities are those before the temperature.
        fail: answers to give first, as (status, body).
        keep: completions per answer at most.
        plain: answers text without ids and log-probabilities, and takes no weights.
        asked: bodies of the completion requests.
    """

    kind: str = "llama-untied"
    forgets: str = ""
    raw: bool = False
    fail: list[tuple[int, str]] = field(default_factory=list)
    keep: int = 10**6
    plain: bool = False
    pause_s: float = 0.0
    takes_weights: bool = True
    asked: list[dict] = field(default_factory=list)
    loaded: int = 0

    def __post_init__(self) -> None:
        self.model = make_model(self.kind, seed=7)  # not the trainer's weights
        self.lock = threading.Lock()

    def load(self, folder: str) -> None:
        new = load_file(str(Path(folder) / "model.safetensors"))
        own = self.model.state_dict()
        assert set(new) == set(own), set(new) ^ set(own)
        kept = {k: v.clone() for k, v in own.items() if self.forgets and self.forgets in k}
        self.model.load_state_dict({**new, **kept})
        self.loaded += 1

    def complete(self, body: dict) -> dict:
        if self.plain:
            ids = list(tokenizer()(body["prompt"])["input_ids"])
        else:
            ids = body["prompt"]
        if "prompt_logprobs" in body:
            found = score_tokens(self.model, [torch.tensor(ids)], [1])[0]["logprob"].tolist()
            ranks = [{str(t): {"logprob": v}} for t, v in zip(ids[1:], found, strict=True)]
            return {"choices": [{"index": 0, "token_ids": [1], "prompt_logprobs": [None, *ranks]}]}
        params = SamplingParams(body["max_tokens"], body["temperature"], body["top_p"], body.get("top_k", 0), stats=())
        ends = body.get("stop_token_ids", [tokenizer().eos_token_id])
        n = min(self.keep, body.get("n", 1))
        seed = body["seed"] % 2**31
        drawn = TorchSampler()(self.model, [ids], [n], params, keys=["x"], seed=seed, end_tokens=ends, pad_token=0)[0]
        choices = []
        for i, c in enumerate(drawn):
            text = tokenizer().decode(c.tokens.tolist(), skip_special_tokens=True)
            choice = {"index": i, "text": text, "finish_reason": "stop" if c.finished else "length"}
            if not self.plain:
                logprobs = c.logprobs
                if self.raw:
                    whole = torch.cat([torch.tensor(ids), c.tokens])
                    logprobs = score_tokens(self.model, [whole], [len(ids)])[0]["logprob"]
                choice |= {"token_ids": c.tokens.tolist(), "logprobs": {"token_logprobs": logprobs.tolist()}}
            choices.append(choice)
        return {"choices": choices[::-1]}

    def answer(self, path: str, body: dict) -> tuple[int, str]:
        if self.fail:
            return self.fail.pop(0)
        if path == "/v1/completions":
            self.asked.append(body)
            return 200, json.dumps(self.complete(body))
        if path == "/collective_rpc" and self.takes_weights:
            assert body["method"] == "reload_weights"
            self.load(body["kwargs"]["weights_path"])
            return 200, '{"results": [null]}'
        if path == "/reset_prefix_cache":
            return 200, ""
        return 404, '{"error": {"message": "Not Found"}}'


def serving(engine: FakeEngine) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def _send(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self):
            self._send(200, '{"data": [{"id": "policy"}]}')

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(engine.pause_s)
            with engine.lock:
                self._send(*engine.answer(self.path, body))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
