"""Consistent paths: do the states of a response, one after another, point to its own answer?

A response is cut into states (its prefixes, step by step). The distance from a state to each answer of
the group is how unlikely the policy finds that answer right there. A path that leads to the truth is
close to its own answer early and stays close; one that went wrong is drawn to other answers on its way
(CoVo, Zhang et al. 2025, arXiv 2506.08745). Everything here is pure: distances come from
:meth:`selfreward.policy.policy.Policy.score_targets`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor


def distances(logprobs: Sequence[Sequence[Tensor]]) -> Tensor:
    """``D[i, k]``, float ``[S, K]``: mean negative log-likelihood of answer ``k``'s tokens after state ``i``.

    Args:
        logprobs: per state and answer the log-probabilities ``[T_k]`` of the answer's tokens.

    Example: one state, answers with log-probabilities ``[-1, -3]`` and ``[-0.5]``: ``[[2, 0.5]]``.
    """
    flat = [answer for state in logprobs for answer in state]
    size = torch.tensor([len(a) for a in flat])
    owner = torch.arange(len(flat)).repeat_interleave(size)
    total = torch.zeros(len(flat)).index_add(0, owner, torch.cat([a.float() for a in flat]))
    return -(total / size).view(len(logprobs), -1)


def row_normalised(distance_S_K: Tensor) -> Tensor:
    """The released code's distances: perplexities divided by their row's sum. Keeps the order within a row."""
    perplexity = distance_S_K.exp()
    return perplexity / perplexity.sum(-1, keepdim=True)


def _own_is_least(distance_S_K: Tensor, own: int) -> list[bool]:
    assert distance_S_K.ndim == 2, f"distances are [states, answers], got {tuple(distance_S_K.shape)}"
    assert 0 <= own < distance_S_K.shape[1], f"answer {own} of {distance_S_K.shape[1]}"
    least = distance_S_K.min(-1).values
    return (distance_S_K[:, own] == least).tolist()


def consistency(distance_S_K: Tensor, own: int) -> float:
    """``Con``: share of states at which the response's own answer is the nearest, in [0, 1]; 0 without states.

    Example: distances ``[[2, 1], [1, 2], [1, 3]]``, own answer 0: nearest at two of three, 2/3.
    """
    least = _own_is_least(distance_S_K, own)
    return sum(least) / len(least) if least else 0.0


def volatility(distance_S_K: Tensor, own: int) -> float:
    """``Vol``: position (from 1) of the last state at which another answer is nearer, over the number of states.

    0 for a path that never strays, 1 for one that does to the end. Equal to 1 minus the length of the
    final unbroken run of own-is-nearest, which is how the released code puts it.
    Example: the distances of :func:`consistency`: the last stray state is the first, 1/3.
    """
    least = _own_is_least(distance_S_K, own)
    last = max((i for i, ok in enumerate(least, start=1) if not ok), default=0)
    return last / len(least) if least else 1.0


def linear_score(consistencies: Sequence[float], volatilities: Sequence[float]) -> float:
    """``R_L = mean(Con - Vol)`` over the members of one answer class, in [-1, 1].

    Example: Con ``[1, .5]``, Vol ``[0, .5]``: 0.5.
    """
    return sum(consistencies) / len(consistencies) - sum(volatilities) / len(volatilities)


def vector_score(consistencies: Sequence[float], volatilities: Sequence[float]) -> float:
    """``R_V = |mean of Con * exp(i Vol)|`` over the members of one answer class, in [0, 1].

    Vol is an angle in radians, so only its *spread* costs anything: members of equal Vol give the mean
    of Con whatever that Vol is, and the largest possible loss is the factor cos(1/2), about 0.88.
    Example: Con ``[1, 1]``, Vol ``[0, 1]``: |(1 + cos 1) / 2 + i sin(1) / 2| = cos(1/2) = 0.8776.
    """
    n = len(consistencies)
    pairs = list(zip(consistencies, volatilities, strict=True))
    x = sum(c * math.cos(v) for c, v in pairs) / n
    y = sum(c * math.sin(v) for c, v in pairs) / n
    return math.hypot(x, y)


def curiosity(steps: Sequence[Tensor], root: float = 1.0) -> float:
    """Mean over steps of (mean NLL of the step's tokens) - ln(KL(P || uniform) + 1), in nats.

    P is the step's NLL values divided by their sum: a step that is surprising throughout earns more
    than one with a single odd token. The released code takes the cube root of the KL (``root=3``).
    Example: one step with NLL ``[1, 3]``: P is (1/4, 3/4), KL = ln 2 - H(P) = 0.1308, so
    2 - ln 1.1308 = 1.8771.

    Args:
        steps: log-probabilities ``[T_s]`` of every step's tokens; empty steps are passed over.
    """
    values = []
    for logprobs in steps:
        nll = -logprobs.double()
        if not len(nll):
            continue
        total = float(nll.sum())
        p = nll / total if total > 0 else torch.full_like(nll, 1 / len(nll))
        kl = max(0.0, float(torch.special.xlogy(p, p).sum()) + math.log(len(nll)))
        values.append(total / len(nll) - math.log(kl ** (1 / root) + 1))
    return sum(values) / len(values) if values else 0.0


def class_scores(
    classes: Sequence[int | None], consistencies: Sequence[float], volatilities: Sequence[float], kind: str = "vector"
) -> dict[int, float]:
    """One score per answer class of a group: ``vector`` (R_V), ``linear`` (R_L) or ``consistency`` (mean Con).

    A group with fewer than two classes has nothing to compare with and gives 0 (released code).
    """
    found = sorted({c for c in classes if c is not None})
    if len(found) < 2:
        return dict.fromkeys(found, 0.0)
    scores = {}
    for wanted in found:
        members = [i for i, c in enumerate(classes) if c == wanted]
        con, vol = [consistencies[i] for i in members], [volatilities[i] for i in members]
        if kind == "vector":
            scores[wanted] = vector_score(con, vol)
        elif kind == "linear":
            scores[wanted] = linear_score(con, vol)
        else:
            assert kind == "consistency", f"unknown score {kind!r}; there are vector, linear and consistency"
            scores[wanted] = sum(con) / len(con)
    return scores


# ---- where a response is cut -----------------------------------------------------------------------


def split_steps(text: str, pattern: str | None = None, most: int = 15) -> list[int]:
    """End positions in ``text`` of its steps, ascending; the last one ends the text.

    Without a pattern steps are lines that are not blank; a display formula ``\\[ ... \\]`` stays whole,
    and from ``most`` steps on a line that ends in a colon joins the next one. More than ``most`` steps
    are then merged into ``most`` runs of neighbours of nearly equal size, the longer runs last.

    Args:
        pattern: a regular expression that matches one step, for texts that are not cut by lines.

    Example: ``"a = 1\\nso:\\nb = 2"`` gives ``[5, 9, 15]``, three steps.
    """
    ends = [m.end() for m in re.finditer(pattern, text)] if pattern else _lines(text)
    if pattern is None and len(ends) >= most:
        ends = [e for e in ends[:-1] if not text[:e].rstrip().endswith(":")] + ends[-1:]
    if ends and text[ends[-1] :].strip():
        ends.append(len(text))
    if len(ends) > most:
        short, longer = divmod(len(ends), most)
        sizes = [short] * (most - longer) + [short + 1] * longer
        ends = [ends[sum(sizes[: i + 1]) - 1] for i in range(most)]
    return ends


def _lines(text: str) -> list[int]:
    ends, at, inside = [], 0, False
    for line in text.split("\n"):
        at += len(line)
        inside = ("\\[" in line and "\\]" not in line) or (inside and "\\]" not in line)
        if line.strip() and not inside:
            ends.append(at)
        at += 1
    return ends
