"""Traces: what happened, kept without loss, and what can be made of it.

Spans, facts, content, the journal and the ledger's lines go to one store; an episode is a fold over spans and facts.
Importing the package loads neither a database library nor the telemetry SDK.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.traces.episode import SCHEMA_VERSION, Episode, Message, Score, Seat, ToolCall, Transcript, Turn
    from orchestra.traces.fold import episodes
    from orchestra.traces.journal import Journal
    from orchestra.traces.records import (
        BlobRecord,
        CacheEntry,
        Fact,
        JournalEntry,
        LedgerEntry,
        RunRecord,
        SpanRecord,
    )
    from orchestra.traces.spans import Span, Tracer, current_span
    from orchestra.traces.store import Store, StoreFailed
    from orchestra.traces.succession import Continuity, continuity

_HOMES = {
    "SCHEMA_VERSION": "episode",
    "BlobRecord": "records",
    "CacheEntry": "records",
    "Continuity": "succession",
    "Episode": "episode",
    "Fact": "records",
    "Journal": "journal",
    "JournalEntry": "records",
    "LedgerEntry": "records",
    "Message": "episode",
    "RunRecord": "records",
    "Score": "episode",
    "Seat": "episode",
    "Span": "spans",
    "SpanRecord": "records",
    "Store": "store",
    "StoreFailed": "store",
    "ToolCall": "episode",
    "Tracer": "spans",
    "Transcript": "episode",
    "Turn": "episode",
    "continuity": "succession",
    "current_span": "spans",
    "episodes": "fold",
}

__all__ = [
    "SCHEMA_VERSION",
    "BlobRecord",
    "CacheEntry",
    "Continuity",
    "Episode",
    "Fact",
    "Journal",
    "JournalEntry",
    "LedgerEntry",
    "Message",
    "RunRecord",
    "Score",
    "Seat",
    "Span",
    "SpanRecord",
    "Store",
    "StoreFailed",
    "ToolCall",
    "Tracer",
    "Transcript",
    "Turn",
    "continuity",
    "current_span",
    "episodes",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"orchestra.traces.{_HOMES[name]}"), name)
