"""A server with the OpenAI interface: questions in, one text each out; :meth:`Endpoint.post` for everything else.

Servers fail. A question is tried again after a doubling pause (or as long as the server asks for with
``Retry-After``), a whole batch of questions has a time budget, and what got no answer is None, for the caller
to treat as a judgement that could not be read. A server that answers nothing at all, batch after batch, ends the
run with the reason.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from selfreward.errors import UserError
from selfreward.runtime import distributed

T = TypeVar("T")
LARGEST_ANSWER = 16 << 20
AGAIN = (408, 409, 425, 429, *range(500, 600))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The bearer token belongs to one server; urllib would carry it along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_open = urllib.request.build_opener(_NoRedirects).open


@dataclass
class Endpoint:
    """How to reach a chat server, and how long to try.

    Args:
        url: base URL up to and with ``/v1``.
        model: the name that the server knows the model by; empty asks the server for its first one.
        key: sent as bearer token; empty takes ``OPENAI_API_KEY`` from the environment, if it is there.
        timeout_s: for one try.
        attempts: tries per question.
        pause_s: before the second try; doubled before each further one, with some jitter.
        budget_s: for one batch of questions; no try begins after it.
        give_up: batches in a row without any answer after which the server counts as gone.
        at_once: questions on their way at the same time.
    """

    url: str
    model: str = ""
    key: str = ""
    timeout_s: float = 60.0
    attempts: int = 4
    pause_s: float = 0.5
    budget_s: float = 600.0
    give_up: int = 3
    at_once: int = 8
    temperature: float = 0.0
    max_new_tokens: int = 512
    lost: int = field(default=0, init=False)
    _silent: int = field(default=0, init=False, repr=False)
    _reason: str = field(default="", init=False, repr=False)

    def ask(self, text: str, until: float | None = None) -> str | None:
        """The answer's text; None when no try got one.

        Args:
            until: no try begins after this time of ``time.monotonic()``.

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
        return self.post("/chat/completions", body, _said, until)

    def post(
        self, path: str, body: Mapping[str, Any], read: Callable[[Any], T], until: float | None = None
    ) -> T | None:
        """What ``read`` makes of the server's JSON; None when no try got an answer that it can read.

        Args:
            path: below :attr:`url`; ``../x`` is beside its ``/v1``.
            read: raises ValueError, KeyError, IndexError or TypeError for an answer that is not what was asked for.
            until: no try begins after this time of ``time.monotonic()``.

        Raises:
            UserError: when the server refuses the request for good.
        """
        request = self._request(path, json.dumps(body).encode())
        until = time.monotonic() + self.budget_s if until is None else until
        for attempt in range(self.attempts):
            pause = self.pause_s * 2**attempt * random.uniform(1.0, 1.25)
            try:
                return read(self._read(request, until))
            except urllib.error.HTTPError as error:
                self._reason = f"{error.code} {error.reason}"
                if error.code not in AGAIN:
                    raise UserError(
                        f"The server at {self.url} refused the request: {self._reason}{_explained(error)}."
                    ) from None
                pause = max(pause, _seconds(error.headers.get("Retry-After")))
            except (OSError, http.client.HTTPException) as error:
                self._reason = str(getattr(error, "reason", error)) or type(error).__name__
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                self._reason = f"an answer that cannot be read ({type(error).__name__}: {str(error)[:200]})"
            if attempt + 1 == self.attempts or time.monotonic() + pause >= until:
                break
            time.sleep(pause)
        self.lost += 1
        return None

    @property
    def reason(self) -> str:
        """Why the last answer that was lost was lost."""
        return self._reason

    def ask_all(self, texts: Sequence[str]) -> list[str | None]:
        """One answer per text, several questions at a time; None for each that got none within the budget.

        With several processes the first one asks for all.

        Raises:
            UserError: when the server refuses, or has answered nothing at all :attr:`give_up` times in a row.
        """
        return distributed.once(lambda: self._ask_all(texts)) if texts else []

    def _ask_all(self, texts: Sequence[str]) -> list[str | None]:
        from concurrent.futures import ThreadPoolExecutor

        self.model = self.model or self.first_model()
        until = time.monotonic() + self.budget_s
        with ThreadPoolExecutor(self.at_once) as pool:
            answers = list(pool.map(lambda text: self.ask(text, until), texts))
        self._silent = 0 if any(a is not None for a in answers) else self._silent + 1
        if self._silent >= self.give_up:
            raise UserError(
                f"The server at {self.url} answered none of {len(texts)} questions, {self._silent} batches in a row; "
                f"the last reason: {self._reason}."
            )
        return answers

    def first_model(self) -> str:
        """The first model that the server offers.

        Raises:
            UserError: when it does not say.
        """
        try:
            return str(self._read(self._request("/models"), time.monotonic() + self.budget_s)["data"][0]["id"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"The server at {self.url} does not say which models it has ({error}). Is the server running? "
                f"A model can also be named: {self.url}#MODEL."
            ) from None

    def _read(self, request: urllib.request.Request, until: float) -> Any:
        """The answer as JSON.

        Raises:
            OSError, HTTPException, ValueError: for everything that can go wrong on the way.
        """
        left = max(0.001, until - time.monotonic())
        with _open(request, timeout=min(self.timeout_s, left)) as answer:
            body = answer.read(LARGEST_ANSWER + 1)
        if len(body) > LARGEST_ANSWER:
            raise ValueError("the answer is too large")
        return json.loads(body) if body.strip() else None

    def _request(self, path: str, body: bytes | None = None) -> urllib.request.Request:
        key = self.key or os.environ.get("OPENAI_API_KEY", "")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        base = self.url.rstrip("/")
        if path.startswith("../"):
            base, path = base.removesuffix("/v1"), path.removeprefix("..")
        return urllib.request.Request(base + path, body, headers=headers)


def _said(answer: Any) -> str:
    text = answer["choices"][0]["message"]["content"]
    if not isinstance(text, str):
        raise ValueError("an answer without a text")
    return text


def _explained(error: urllib.error.HTTPError) -> str:
    """What the server adds to a refusal, where it says it as servers of this interface do."""
    try:
        said = json.loads(error.read(1 << 16))
        found = said.get("error", said)
        return f" ({str(found.get('message', found))[:300]})"
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return ""


def _seconds(text: str | None) -> float:
    """What ``Retry-After`` asks for; 0 where it gives a date or nothing."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
