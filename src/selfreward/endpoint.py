"""A server with the OpenAI chat interface: one question in, one text out."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.errors import UserError


@dataclass
class Endpoint:
    """How to reach a chat server.

    Args:
        url: base URL up to and with ``/v1``.
        model: the name that the server knows the model by; empty asks the server for its first one.
        key: sent as bearer token; empty takes ``OPENAI_API_KEY`` from the environment, if it is there.
        attempts: tries per question, with doubling pauses.
    """

    url: str
    model: str = ""
    key: str = ""
    timeout_s: float = 60.0
    attempts: int = 4
    pause_s: float = 0.5
    temperature: float = 0.0
    max_new_tokens: int = 512

    def ask(self, text: str) -> str | None:
        """The answer's text; None when every attempt failed.

        Raises:
            UserError: when the server refuses the request for good.
        """
        self.model = self.model or self.first_model()
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": self.temperature,
            "max_tokens": self.max_new_tokens,
        }
        request = self._request("/chat/completions", json.dumps(body).encode())
        for attempt in range(self.attempts):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                    return str(json.loads(answer.read())["choices"][0]["message"]["content"])
            except urllib.error.HTTPError as error:
                if error.code in (400, 401, 403, 404):
                    raise UserError(
                        f"The server at {self.url} refused the request: {error.code} {error.reason}."
                    ) from None
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                pass
            if attempt + 1 < self.attempts:
                time.sleep(self.pause_s * 2**attempt)
        return None

    def ask_all(self, texts: Sequence[str]) -> list[str | None]:
        """One answer per text, several questions at a time."""
        from concurrent.futures import ThreadPoolExecutor

        self.model = self.model or self.first_model()
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.ask, texts))

    def first_model(self) -> str:
        """The first model that the server offers.

        Raises:
            UserError: when it does not say.
        """
        try:
            with urllib.request.urlopen(self._request("/models"), timeout=self.timeout_s) as answer:
                return str(json.loads(answer.read())["data"][0]["id"])
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"The server at {self.url} does not say which models it has ({error}). Is the server running? "
                f"A model can also be named: {self.url}#MODEL."
            ) from None

    def _request(self, path: str, body: bytes | None = None) -> urllib.request.Request:
        key = self.key or os.environ.get("OPENAI_API_KEY", "")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return urllib.request.Request(self.url.rstrip("/") + path, body, headers=headers)
