"""How good is it, how sure are we, and what did it cost: outcomes, intervals, verdicts, certificates and reports.

Pure statistics over outcomes; nothing here calls a model except `orchestra.evaluation.sweep`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestra.evaluation.certificate import Certificate, read_certificate, write_certificate
    from orchestra.evaluation.intervals import Estimate, success_interval
    from orchestra.evaluation.outcomes import Arm, Outcome
    from orchestra.evaluation.paired import Comparison, compare
    from orchestra.evaluation.report import html, write_report
    from orchestra.evaluation.terminal import summary

_HOMES = {
    "Arm": "orchestra.evaluation.outcomes",
    "Certificate": "orchestra.evaluation.certificate",
    "Comparison": "orchestra.evaluation.paired",
    "Estimate": "orchestra.evaluation.intervals",
    "Outcome": "orchestra.evaluation.outcomes",
    "compare": "orchestra.evaluation.paired",
    "html": "orchestra.evaluation.report",
    "read_certificate": "orchestra.evaluation.certificate",
    "success_interval": "orchestra.evaluation.intervals",
    "summary": "orchestra.evaluation.terminal",
    "write_certificate": "orchestra.evaluation.certificate",
    "write_report": "orchestra.evaluation.report",
}

__all__ = [
    "Arm",
    "Certificate",
    "Comparison",
    "Estimate",
    "Outcome",
    "compare",
    "html",
    "read_certificate",
    "success_interval",
    "summary",
    "write_certificate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import on first use: statistics need numpy, and a report needs pydantic."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
