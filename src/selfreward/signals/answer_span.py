"""Certainty of the final answer's tokens alone.

RLSF (van Niekerk et al. 2025, arXiv 2507.21931) ranks several traces of one question by how sure the model is
of the answer that each ends in. What a text says on the way, and how improbable its wording is, does not
count. Known to break where a wrong shortcut is as certain as reasoning, and when it is repeated: trained on
its own certainty, a model becomes certain of everything.
"""

from __future__ import annotations

from torch import Tensor


def span_confidence(gap_T: Tensor, span: slice) -> float:
    """Mean probability gap (top-1 minus top-2) over the answer's tokens; in [0, 1] (2507.21931).

    Example: gaps ``[.2, .9, .7]`` and the answer at tokens 1 and 2: .8.

    Raises:
        ValueError: for a span without tokens.
    """
    inside = gap_T[span]
    if not inside.numel():
        raise ValueError(f"The answer span {span.start}:{span.stop} holds none of the {gap_T.numel()} tokens.")
    return float(inside.mean())
