"""What a generation with self-search is worth: its answer and the form of its thoughts, searches and information.

SSRL (arXiv 2508.10874) pays the right answer and, less, a form that can be read; without the form the model stops
searching. The protocol itself is :mod:`selfreward.rollouts.self_search`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from selfreward.rollouts.self_search import _TAG, TAGS, formed

# ---- rewards --------------------------------------------------------------------------------------


def stepped_reward(correct: bool, well_formed: bool, weight: float = 0.1) -> float:
    """Right and well formed 1, right alone ``1 - weight``, well formed alone ``weight``, else 0 (SSRL).

    Example with weight .2: 1, .8, .2 and 0. For a yes-or-no form this is ``(1 - weight) correct + weight form``.
    """
    return (1 - weight) * correct + weight * well_formed


def released_format(text: str) -> float:
    """The graded form of the public implementation, in [0, 1]: half a point per thought, up to 1.

    0 where the text does not begin with thinking and end with an answer, where a block is empty, a search is
    not followed by information, or there are more than 8 thoughts. Thoughts should be one more than searches;
    otherwise the score is multiplied by the smaller number over the larger.

    Example: one thought and an answer .5; thought, search, information, thought, answer 1; two searches
    after one thought ``.5 * 1/3``. Its reward is ``0.9 correct + 0.1 form``.
    """
    text = text.strip()
    tags = [f"{m[1]}{m[2]}" for m in _TAG.finditer(text)]
    if len(tags) < 4 or tags[:2] != ["think", "/think"] or tags[-2:] != ["answer", "/answer"]:
        return 0.0
    if not (text.startswith("<think>") and text.endswith("</answer>")):
        return 0.0
    contents = {tag: re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in TAGS}
    if any(not c.strip() for found in contents.values() for c in found):
        return 0.0
    for i, tag in enumerate(tags):
        if tag == "search" and tags[i + 1 : i + 4] != ["/search", "information", "/information"]:
            return 0.0
    thoughts, searches = tags.count("think"), tags.count("search")
    if thoughts > 8 or searches != tags.count("information"):
        return 0.0
    few, many = sorted((thoughts, searches + 1))
    return min(0.5 * thoughts, 1.0) * few / many


# ---- what self-search could reach -----------------------------------------------------------------


def scaling(right: Sequence[Sequence[bool]], ks: Sequence[int]) -> dict[int, float]:
    """pass@k over questions by ``k``: how much can be reached by repeating the self-search (unbiased estimator).

    Example: two of four samples right on one question, none on another: pass@1 .25, pass@2 ``(1 - 1/6) / 2``.
    """
    from selfreward.statistics import pass_at_k

    return {k: sum(pass_at_k(len(r), sum(r), k) for r in right) / len(right) for k in ks}


Reward = Literal["stepped", "released", "outcome", "format"]


def reward_of(text: str, correct: bool, kind: Reward = "stepped", weight: float = 0.1) -> float:
    """The reward of one generation, by any of the rules that SSRL is compared with."""
    if kind == "outcome":
        return float(correct)
    if kind == "released":
        return 0.9 * correct + 0.1 * released_format(text)
    if kind == "format":
        return float(formed(text))
    return stepped_reward(correct, formed(text), weight)
