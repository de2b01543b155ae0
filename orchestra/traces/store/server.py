"""The connection through which a process commits to PostgreSQL: one transaction a group, made anew when it breaks.

A connection that is lost (the server restarted, a proxy hung up, an administrator ended it) is opened again and the
transaction repeated. One that was lost while its commit was on the way is looked up first, by its transaction id and by
one of its rows: nothing is written twice. A server that does not come back in time fails the store.

Each such connection holds a shared advisory lock. Whoever removes content takes it alone, and so never under a writer
that has yet to refer to it.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from sqlalchemy import Engine, PoolProxiedConnection

from orchestra.traces.store.rows import Row
from orchestra.traces.store.tables import INSERT_FIRST_WINS, TABLES_BY_NAME, WRITERS_LOCK, columns_written

RETRY_SECONDS = 0.1
"""Between two attempts to reach a server that is away."""

Pending = Mapping[str, list[Row]]


class ServerConnection:
    """Commits groups of rows to PostgreSQL.

    Args:
        engine: an open store's.
        statements: the insert of each table, in the order tables are written.
        patience_seconds: how long a server may be away before a commit fails.
        on_reconnect: called when a new connection has taken the place of a broken one.
    """

    def __init__(
        self,
        engine: Engine,
        statements: Mapping[str, str],
        *,
        patience_seconds: float,
        on_reconnect: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._statements = statements
        self._patience = patience_seconds
        self._on_reconnect = on_reconnect
        self._connection: PoolProxiedConnection | None = None
        self._unsure: str | None = None
        self.committed = True
        """Whether the last group is in the store; false also when that is not known."""
        self._raw()

    def commit(self, pending: Pending) -> None:
        """Commit `pending` once, whatever happens to the connection meanwhile.

        Raises:
            Exception: the driver's, when the rows are refused or the server stays away; they are not in the store.
        """
        self.committed = False
        self._unsure = None
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._attempt(pending)
                return
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                # Also a deadlock and a full disk: worth another try, on a fresh connection.
                self._drop()
                if time.monotonic() > deadline:
                    raise error
                time.sleep(RETRY_SECONDS)
            except BaseException as error:
                self._drop()
                # Ctrl-C while the commit was on the way: whoever is told must know whether it arrived.
                if self._unsure is not None and not isinstance(error, Exception):
                    with contextlib.suppress(psycopg.Error):
                        self.committed = self._arrived(self._raw(), pending)
                raise

    def close(self) -> None:
        """Let go of the connection, and with it of the lock."""
        self._drop()

    def _attempt(self, pending: Pending) -> None:
        raw = self._raw()
        if self._unsure is None or not self._arrived(raw, pending):
            self._unsure = None
            self._unsure = self._insert(raw, pending)
            raw.commit()
        self.committed = True
        self._unsure = None

    def _insert(self, raw: Any, pending: Pending) -> str:
        """The id of the transaction the rows are in, not yet committed; one round trip."""
        with raw.pipeline(), raw.cursor() as inserting, raw.cursor() as asking:
            for table, statement in self._statements.items():
                if rows := pending.get(table):
                    inserting.executemany(statement, _ordered(table, rows))
            asking.execute("SELECT pg_current_xact_id()::text")
            found: str = asking.fetchone()[0]
        return found

    def _arrived(self, raw: Any, pending: Pending) -> bool:
        """Whether the transaction in doubt was committed.

        A server that crashed may give the id of a lost transaction to another: one of the rows must be there too.
        """
        while True:
            with raw.cursor() as cursor:
                try:
                    status = cursor.execute("SELECT pg_xact_status(%s::xid8)", (self._unsure,)).fetchone()[0]
                except psycopg.DataError:
                    status = "aborted"  # an id of the future: it never reached the server's log
                raw.rollback()
            if status != "in progress":
                break
            time.sleep(RETRY_SECONDS)
        return status == "committed" and self._has_row(raw, pending)

    def _has_row(self, raw: Any, pending: Pending) -> bool:
        name = next((name for name in reversed(list(pending)) if name not in INSERT_FIRST_WINS and pending[name]), None)
        if name is None:
            return False  # rows that may safely be given again
        columns = columns_written(TABLES_BY_NAME[name])
        same = " AND ".join(f'"{column}" IS NOT DISTINCT FROM %s' for column in columns)
        with raw.cursor() as cursor:
            found = cursor.execute(f'SELECT 1 FROM "{name}" WHERE {same} LIMIT 1', pending[name][-1]).fetchone()
        raw.rollback()
        return found is not None

    def _raw(self) -> Any:
        if self._connection is None:
            connection = self._engine.raw_connection()
            try:
                raw: Any = connection.dbapi_connection
                raw.execute("SELECT pg_advisory_lock_shared(%s)", (WRITERS_LOCK,))
                raw.commit()
            except BaseException:
                connection.invalidate()
                raise
            self._connection = connection
            self._on_reconnect()
        return self._connection.dbapi_connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()


def _ordered(table: str, rows: list[Row]) -> list[Row]:
    """Rows of one key in one order everywhere: two transactions that wait for each other would both be in vain."""
    return sorted(rows, key=lambda row: str(row[0])) if table in ("blobs", "cache") else rows
