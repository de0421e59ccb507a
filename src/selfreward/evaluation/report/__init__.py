"""What happened, on one page: a run, or several rewards side by side.

``folder`` reads whatever a run left behind, ``digest`` turns it into numbers and verdicts, ``words`` says them;
``figures``, ``gap`` and ``audit_figures`` draw them with the pens of ``drawing``; ``pages`` and ``audit`` write
self-contained HTML, ``tables`` prints to the terminal, and ``static`` draws figures and tables for documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreward.evaluation.report.pages import write_comparison as write_comparison
    from selfreward.evaluation.report.pages import write_report as write_report
    from selfreward.evaluation.report.tables import comparison_table as comparison_table
    from selfreward.evaluation.report.tables import summary_table as summary_table

__all__ = ["comparison_table", "summary_table", "write_comparison", "write_report"]


def __getattr__(name: str) -> Any:
    # Matplotlib, Jinja and Rich are paid for by those who draw, not by those who import.
    if name in ("write_report", "write_comparison"):
        from selfreward.evaluation.report import pages

        return getattr(pages, name)
    if name in ("summary_table", "comparison_table"):
        from selfreward.evaluation.report import tables

        return getattr(tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
