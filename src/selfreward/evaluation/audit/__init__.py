"""Which self-made reward can be believed here, before any training.

``auditor`` scores one set of rollouts with every signal and says, per signal: use, avoid, or cannot tell, because.
``bench`` holds what all signals share, ``measures`` are the numbers with truth and ``blind`` those without,
``verdicts`` the gates, ``record`` the result. Signals themselves are called by name in :mod:`selfreward.signals.named`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreward.data.rollout_files import read_rollouts as read_rollouts
    from selfreward.evaluation.audit.auditor import audit as audit
    from selfreward.evaluation.audit.record import AuditReport as AuditReport

__all__ = ["AuditReport", "audit", "read_rollouts"]
_HOMES = {
    "audit": "evaluation.audit.auditor",
    "AuditReport": "evaluation.audit.record",
    "read_rollouts": "data.rollout_files",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: whoever imports one measure should not pay for the whole audit.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"selfreward.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
