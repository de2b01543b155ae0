"""Running teams: an agent graph and a task become an episode.

`run`, `stream` and `run_sync` play one team at one task, `answer` at many; `Runtime` is what they, evaluation and
composers share.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestra.execution.events import stream
    from orchestra.execution.runner import answer, run, run_sync
    from orchestra.execution.runtime import Played, Runtime
    from orchestra.execution.settings import Settings

_HOMES = {
    "Played": "orchestra.execution.runtime",
    "Runtime": "orchestra.execution.runtime",
    "Settings": "orchestra.execution.settings",
    "answer": "orchestra.execution.runner",
    "run": "orchestra.execution.runner",
    "run_sync": "orchestra.execution.runner",
    "stream": "orchestra.execution.events",
}

__all__ = ["Played", "Runtime", "Settings", "answer", "run", "run_sync", "stream"]


def __getattr__(name: str) -> Any:
    """Import on first use: LangGraph alone takes most of a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
