"""Second views of questions: rewrites that keep the answer and change everything else.

A rewrite comes with the data (column ``twin`` or ``rewrite``), or a model writes it before training
with :func:`rewrite`: the model to be trained itself, another one, or a server. The instruction asks for
new words and a new setting over the same mathematics (Co-Reward, 2508.00410), between markers that can
be parsed; what cannot be parsed has no rewrite, and its prompt is removed. Nobody checks that the answer
survived: a rewriter that is weak at this makes labels that are systematically wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from selfreward.errors import DataError
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

TWIN = "twin"
"""The column that holds another wording of the question, with the same answer."""
TWIN_FIELDS = ("rewrite", TWIN)
"""Columns in which a prompt's second view is looked for, in this order."""

Writer = Callable[[Sequence[str]], Sequence[str | None]]
"""Requests in, texts out; None where nothing came back."""

OPEN, CLOSE = "<rewrite>", "</rewrite>"
TEMPLATE = """Below is a problem. Write a second version of it, so different that a reader would not connect the two.

Keep: every number and condition that the solution depends on, the logic, and the final answer.
Change: the setting, the names, the wording and, where it does not matter, the order of the facts.
Do not solve the problem, and do not copy whole sentences from it.

Problem:
{question}

Give the second version, complete and on its own, between {open} and {close}, and nothing else."""

_SPACES = re.compile(r"\s+")


def twin_prompt(prompt: Prompt) -> Prompt:
    """The same problem in the words of its rewrite; chat prompts keep their other messages.

    Raises:
        DataError: where the data has no rewrite of this prompt.
    """
    text = next((str(prompt.fields[name]) for name in TWIN_FIELDS if prompt.fields.get(name)), None)
    if text is None:
        raise DataError(
            f"Prompt {prompt.id!r} has no second view: its data has no column {' or '.join(map(repr, TWIN_FIELDS))}. "
            "Make the rewrites first: selfreward rewrite DATA --model MODEL --out FILE.jsonl, then --data FILE.jsonl."
        )
    if prompt.messages is None:
        return replace(prompt, text=text)
    last = max(i for i, m in enumerate(prompt.messages) if m["role"] == "user")
    messages = [{**m, "content": text} if i == last else m for i, m in enumerate(prompt.messages)]
    return replace(prompt, messages=tuple(messages))


def parse_rewrite(text: str | None, question: str) -> str | None:
    """The rewrite in a model's answer, or None.

    None for an answer without both markers, for an empty rewrite, and for one that only repeats the
    question. Example: ``"Sure! <rewrite> A farmer has 3 cows. </rewrite>"`` gives ``"A farmer has 3 cows."``.
    """
    if text is None or CLOSE not in text:
        return None
    body = text[: text.rindex(CLOSE)]
    if OPEN not in body:
        return None
    found = body[body.rindex(OPEN) + len(OPEN) :].strip()
    return found if found and _plain(found) != _plain(question) else None


def rewrite(prompts: Sequence[Prompt], writer: Writer, template: str = TEMPLATE) -> list[Prompt]:
    """The prompts with ``fields["rewrite"]``; those whose rewrite cannot be parsed are left out.

    Args:
        template: the request, with ``{question}`` in it; the answer must come between the markers.
    """
    if "{question}" not in template:
        raise DataError("The template of a rewrite request must contain {question}.")
    requests = [_fill(template, p.question) for p in prompts]
    found = [parse_rewrite(t, p.question) for t, p in zip(writer(requests), prompts, strict=True)]
    return [replace(p, fields={**p.fields, "rewrite": r}) for p, r in zip(prompts, found, strict=True) if r]


@dataclass
class PolicyWriter:
    """A local model as rewriter; the paper samples at temperature 0.7."""

    policy: Policy
    temperature: float = 0.7
    max_new_tokens: int = 512
    seed: int = 0

    def __call__(self, requests: Sequence[str]) -> list[str | None]:
        from selfreward.policy.sampling.params import SamplingParams

        params = SamplingParams(self.max_new_tokens, temperature=self.temperature, stats=())
        prompts = [Prompt(str(i), text=r) for i, r in enumerate(requests)]
        groups = self.policy.sample(prompts, 1, params, role="rewriter", seed=self.seed)
        return [g.completions[0] for g in groups]


def make_writer(
    spec: str, *, temperature: float = 0.7, max_new_tokens: int = 512, seed: int = 0, device: str = "auto"
) -> Writer:
    """The rewriter that ``spec`` names: ``http(s)://.../v1`` (or ``.../v1#MODEL``), a model folder, a hub id or
    ``embedded:NAME``."""
    if spec.startswith(("http://", "https://")):
        from selfreward.runtime.endpoint import Endpoint

        url, _, model = spec.partition("#")
        # One batch is the whole of the data here, so it has no budget of time.
        server = Endpoint(url, model, budget_s=float("inf"), temperature=temperature, max_new_tokens=max_new_tokens)
        return server.ask_all
    from selfreward.policy.loading import check_model, load_policy

    check_model(spec)
    return PolicyWriter(load_policy(spec, device=device), temperature, max_new_tokens, seed)


def row_of_prompt(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a JSONL row that reads back as itself."""
    row: dict[str, Any] = {"id": prompt.id}
    row |= {"prompt": prompt.text} if prompt.messages is None else {"messages": [dict(m) for m in prompt.messages]}
    if prompt.reference is not None:
        row["answer"] = prompt.reference
    return row | dict(prompt.fields)


def _fill(template: str, question: str) -> str:
    # Not str.format: questions and users' templates may hold braces of their own.
    return template.replace("{open}", OPEN).replace("{close}", CLOSE).replace("{question}", question)


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip().casefold()
