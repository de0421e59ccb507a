"""The reward that a trained model implies: how much likelier than its ancestor it finds a response.

DPO (Rafailov et al. 2023, arXiv 2305.18290, eq. 5): up to a term of the prompt alone, the reward under which ``pi``
is the best policy near ``pi_ref`` is ``beta (log pi(y|x) - log pi_ref(y|x))``. It needs no judge, no prompt and no
parsing. Of a model that was tuned on good examples it mostly says "looks like the examples".
"""

from __future__ import annotations

from torch import Tensor


def implicit_reward(logp_T: Tensor, reference_T: Tensor, beta: float = 1.0, mean: bool = False) -> float:
    """``beta sum_t (logp_t - reference_t)`` of one response; with ``mean`` divided by its tokens.

    Example: ``[-1, -2]`` against ``[-2, -2.5]`` is 1.5, and .75 as a mean.
    """
    if logp_T.shape != reference_T.shape or logp_T.ndim != 1:
        raise ValueError(f"Two [T] tensors are needed, not {tuple(logp_T.shape)} and {tuple(reference_T.shape)}.")
    ratio = (logp_T - reference_T).double()
    return beta * float(ratio.mean() if mean and len(ratio) else ratio.sum())
