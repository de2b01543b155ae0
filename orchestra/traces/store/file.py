"""How a process writes an SQLite file that others write too.

SQLite's own way of waiting asks again after up to a tenth of a second, while a group is committed in a hundredth: the
file would lie idle most of the time. Here a writer asks again every few milliseconds.
"""

import contextlib
import sqlite3
import time
from typing import Any

from sqlalchemy import Engine, PoolProxiedConnection

from orchestra.traces.store.opening import PATIENCE_SECONDS

BUSY_RETRY_SECONDS = 0.002
"""Between two attempts to write while another process does."""

CHECKPOINT_COMMITS = 1000
"""After so many commits (some 10 MiB) a thread moves the write-ahead log into the file."""


def writing_connection(engine: Engine, *, moves_log: bool) -> PoolProxiedConnection:
    """A connection that never waits by itself.

    Args:
        engine: of the file.
        moves_log: whether a commit may move the log into the file, which waits for the disk.
    """
    connection = engine.raw_connection()
    connection.cursor().execute("PRAGMA busy_timeout=0")
    if not moves_log:
        connection.cursor().execute("PRAGMA wal_autocheckpoint=0")
    return connection


def began(raw: Any, *, hasty: bool) -> bool:
    """Begin a transaction that writes; false when another process is writing and `hasty` forbids to wait.

    Raises:
        sqlite3.OperationalError: when it cannot be begun at all, or not within a minute.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            raw.execute("BEGIN IMMEDIATE")
            return True
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if busy and hasty:
                return False
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_RETRY_SECONDS)


def move_log(engine: Engine) -> None:
    """Move the log into the file, on a connection of its own: commits go on meanwhile."""
    keeper = engine.raw_connection()
    try:
        with contextlib.suppress(sqlite3.OperationalError):  # a reader is in the way: the next one does it
            keeper.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        keeper.close()
