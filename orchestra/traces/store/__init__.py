"""The store: one append-only database for every run, SQLite by default, PostgreSQL by URL.

Importing the package is light; `Store` brings SQLAlchemy along when it is first asked for.
"""

from typing import TYPE_CHECKING

from orchestra.traces.records import (
    BlobRecord,
    CacheEntry,
    CheckpointRecord,
    CheckpointWrite,
    Fact,
    JournalEntry,
    LedgerEntry,
    RunRecord,
    SpanRecord,
)

if TYPE_CHECKING:
    from orchestra.traces.store.holding import RunHeld
    from orchestra.traces.store.store import Store
    from orchestra.traces.store.writer import StoreFailed

__all__ = [
    "BlobRecord",
    "CacheEntry",
    "CheckpointRecord",
    "CheckpointWrite",
    "Fact",
    "JournalEntry",
    "LedgerEntry",
    "RunHeld",
    "RunRecord",
    "SpanRecord",
    "Store",
    "StoreFailed",
]


def __getattr__(name: str) -> object:
    if name == "Store":
        from orchestra.traces.store.store import Store

        return Store
    if name == "RunHeld":
        from orchestra.traces.store.holding import RunHeld

        return RunHeld
    if name == "StoreFailed":
        from orchestra.traces.store.writer import StoreFailed

        return StoreFailed
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
