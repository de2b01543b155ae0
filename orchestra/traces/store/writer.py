"""The group-committing writer: many concurrent writes, one transaction.

On SQLite a write that is awaited on an event loop is committed by that loop at the end of its current round, together
with everything the other tasks of that round wrote: a commit costs some 15 µs there, a hop to a thread and back 75 µs,
and a thread that binds rows under a busy loop gives up the interpreter lock at every row. Whoever was the only one to
write in the last round is committed at once, without waiting for the end of this one. A thread commits what plain
synchronous code posted, what another process's lock keeps the loop from committing, and everything on PostgreSQL, whose
commits take two round trips.

Always true: records of one table are committed in the order they were given; what was acknowledged is committed; after
a failed commit every later write fails, because a run that goes on without its record would be worth nothing.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, PoolProxiedConnection

from orchestra.errors import OrchestraError
from orchestra.traces.store.file import (
    BUSY_RETRY_SECONDS,
    CHECKPOINT_COMMITS,
    began,
    move_log,
    writing_connection,
)
from orchestra.traces.store.rows import Row
from orchestra.traces.store.waiting import Waiter, settle

if TYPE_CHECKING:
    from orchestra.traces.store.server import ServerConnection

POST_SECONDS = 0.05
"""A posted record is committed after at most about this long while the process is not busy."""

POST_ROWS = 500
"""So many posted rows are committed at once, without waiting."""

BUSY_RETRIES = 100
"""How often a loop tries again while another process writes, before a thread waits in its place."""

ROWS_LIKE_A_COMMIT = 20
"""So many rows lengthen the log about as much as a commit of its own."""


class StoreFailed(OrchestraError):
    """The store could not commit; nothing more is written to it by this process."""


class GroupWriter:
    """Commits rows in groups.

    Args:
        engine: an open store's.
        statements: the insert of each table, in the order tables are written.
        where: names the store in messages.
        patience_seconds: how long a server may be away before a commit fails.
        on_reconnect: called when a connection that broke was made anew.
    """

    def __init__(
        self,
        engine: Engine,
        statements: Mapping[str, str],
        where: str,
        *,
        patience_seconds: float,
        on_reconnect: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._statements = statements
        self._where = where
        self._pid = os.getpid()
        self._sqlite = engine.dialect.name == "sqlite"
        self._patient: PoolProxiedConnection | None = None
        self._hasty: PoolProxiedConnection | None = None
        self._server: ServerConnection | None = None
        if not self._sqlite:
            self._server = _server(engine, statements, patience_seconds=patience_seconds, on_reconnect=on_reconnect)
        else:
            self._patient = writing_connection(engine, moves_log=True)
            self._hasty = writing_connection(engine, moves_log=False)
        self._guard = threading.Lock()
        self._committing = threading.Lock()
        self._pending: dict[str, list[Row]] = {}
        self._pending_rows = 0
        self._waiters: list[Waiter] = []
        self._ticking: asyncio.AbstractEventLoop | None = None
        self._timing: asyncio.AbstractEventLoop | None = None
        self._round: asyncio.AbstractEventLoop | None = None
        self._writes_of_round = 0
        self._crowded = True  # a writer must have been alone to be taken for it
        self._refusals = 0
        self._logged = 0
        self.commits = 0
        """Transactions committed."""
        self._failure: BaseException | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self._armed = threading.Event()
        self._urgent = threading.Event()

    def waits(self, table: str) -> bool:
        """Whether rows of `table` are not committed yet."""
        return bool(self._pending.get(table))

    def post(self, rows: list[tuple[str, Row]]) -> None:
        """Queue `rows`; they are committed soon, or with the next awaited write.

        Raises:
            StoreFailed: when an earlier commit failed, or the store is closed.
        """
        self._append(rows, None)
        loop = asyncio._get_running_loop() if self._sqlite else None
        if loop is None:
            if self._pending_rows >= 4 * POST_ROWS:
                self.flush()
            else:
                self._arm(urgent=self._pending_rows >= POST_ROWS)
        elif self._pending_rows >= POST_ROWS:
            self._schedule(loop)
        elif self._timing is not loop:
            self._timing = loop
            loop.call_later(POST_SECONDS, self._on_timer)

    async def write(self, rows: list[tuple[str, Row]]) -> None:
        """Commit `rows` and everything posted before them.

        Raises:
            StoreFailed: when the commit failed; the rows are not in the store.
        """
        loop = asyncio.get_running_loop()
        if self._sqlite and self._alone(loop):
            self._append(rows, None)
            if self._committed_at_once():
                return
            rows = []
        done: asyncio.Future[None] = loop.create_future()
        self._append(rows, (loop, done))
        if self._sqlite:
            self._schedule(loop)
        else:
            self._arm(urgent=True)
        await done

    def flush(self) -> None:
        """Commit everything given so far, in this thread.

        Raises:
            StoreFailed: when the commit failed.
        """
        if self._failure is not None:
            raise self._failed()
        self._commit(self._patient)
        if self._failure is not None:
            raise self._failed()

    def close(self) -> None:
        """Commit what is left and let go of the database; calling it twice is harmless."""
        if self._closed or os.getpid() != self._pid:
            return
        try:
            if self._failure is None:
                self._commit(self._patient)
        finally:
            self._closed = True
            self._armed.set()
            self._urgent.set()
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(timeout=5.0)
            with self._committing:
                for connection in (self._patient, self._hasty, self._server):
                    if connection is not None:
                        connection.close()

    def _failed(self) -> StoreFailed:
        return StoreFailed(f"{self._where} could not be written: {self._failure}; free space or mend it, then resume")

    def _append(self, rows: list[tuple[str, Row]], waiter: Waiter | None) -> None:
        with self._guard:
            if self._failure is not None:
                raise self._failed() from self._failure
            if self._closed:
                raise StoreFailed(f"{self._where} is closed; open it again to write")
            pending = self._pending
            for table, row in rows:
                if table in pending:
                    pending[table].append(row)
                else:
                    pending[table] = [row]
            self._pending_rows += len(rows)
            if waiter is not None:
                self._waiters.append(waiter)

    # On a loop.

    def _alone(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is the first write of the loop's round, and the last round that had one had no other."""
        if self._round is loop:
            self._writes_of_round += 1
            return False
        self._round = loop
        self._writes_of_round = 1
        loop.call_soon(self._end_round)
        return not self._crowded

    def _end_round(self) -> None:
        self._round = None
        self._crowded = self._writes_of_round > 1

    def _committed_at_once(self) -> bool:
        """Commit here and now; false when that would make the loop wait.

        Raises:
            StoreFailed: when the commit failed.
        """
        assert self._hasty is not None
        if not self._committing.acquire(blocking=False):
            return False
        try:
            committed = self._commit_locked(self._hasty, hasty=True)
        finally:
            self._committing.release()
        if self._failure is not None:
            raise self._failed()
        if committed and self._logged >= CHECKPOINT_COMMITS:
            self._arm(urgent=False)
        return committed

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._ticking is not loop:
            self._ticking = loop
            loop.call_soon(self._tick)

    def _on_timer(self) -> None:
        self._timing = None
        if self._pending_rows:
            self._tick()

    def _tick(self) -> None:
        """Commit on the loop, unless that would make it wait."""
        self._ticking = None
        if self._closed or self._failure is not None:
            return
        assert self._hasty is not None
        if not self._committing.acquire(blocking=False):
            self._arm(urgent=True)
            return
        try:
            committed = self._commit_locked(self._hasty, hasty=True)
        finally:
            self._committing.release()
        if committed:
            self._refusals = 0
            if self._logged >= CHECKPOINT_COMMITS:
                self._arm(urgent=False)
            return
        self._refusals += 1
        if self._refusals > BUSY_RETRIES:
            self._refusals = 0
            self._arm(urgent=True)
        else:
            loop = asyncio.get_running_loop()
            self._ticking = loop
            loop.call_later(BUSY_RETRY_SECONDS, self._tick)

    # In a thread.

    def _arm(self, *, urgent: bool) -> None:
        if self._thread is None:
            with self._guard:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name="orchestra-store", daemon=True)
                    self._thread.start()
        self._armed.set()
        if urgent:
            self._urgent.set()

    def _serve(self) -> None:
        while True:
            self._armed.wait()
            self._urgent.wait(POST_SECONDS)
            self._armed.clear()
            self._urgent.clear()
            if self._closed or self._failure is not None:
                return
            self._commit(self._patient)
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Move SQLite's log into the file, on a connection of its own: commits go on meanwhile."""
        if not self._sqlite or self._logged < CHECKPOINT_COMMITS:
            return
        self._logged = 0
        move_log(self._engine)

    # The transaction.

    def _commit(self, connection: PoolProxiedConnection | None) -> None:
        with self._committing:
            if self._failure is None and not self._closed:
                self._commit_locked(connection, hasty=False)

    def _commit_locked(self, connection: PoolProxiedConnection | None, *, hasty: bool) -> bool:
        """Commit what is pending; false when another process is writing and `hasty` forbids to wait."""
        with self._guard:
            idle = not self._pending
            waiters = self._taken_waiters() if idle else []
        if idle:
            self._settle(waiters, None)
            return True
        # The driver's own connection: SQLAlchemy's wrapper around it costs as much as binding a row.
        raw: Any = None if connection is None else connection.dbapi_connection
        if raw is not None:
            try:
                if not began(raw, hasty=hasty):
                    return False
            except Exception as error:
                self._fail(error, [])
                return True
        with self._guard:
            pending, self._pending = self._pending, {}
            waiters = self._taken_waiters()
            self._pending_rows = 0
        try:
            if self._server is not None:
                self._server.commit(pending)
            else:
                self._insert(raw, pending)
            self.commits += 1
        except Exception as error:
            if raw is not None:
                raw.rollback()
            self._fail(error, waiters)
            return True
        except BaseException:
            # Ctrl-C in the middle of a transaction: undo it and keep its rows for the next one.
            if self._undone(raw):
                self._put_back(pending, waiters)
            else:
                self._settle(waiters, None)
            raise
        self._settle(waiters, None)
        return True

    def _insert(self, raw: Any, pending: dict[str, list[Row]]) -> None:
        cursor = raw.cursor()
        for table, statement in self._statements.items():
            if rows := pending.get(table):
                cursor.executemany(statement, rows)
        raw.commit()
        self._logged += 1 + sum(map(len, pending.values())) // ROWS_LIKE_A_COMMIT

    def _undone(self, raw: Any) -> bool:
        """Whether an interrupted transaction is not in the store; one that still could be is undone."""
        if self._server is not None:
            return not self._server.committed
        if not raw.in_transaction:
            return False
        raw.rollback()
        return True

    def _taken_waiters(self) -> list[Waiter]:
        waiters, self._waiters = self._waiters, []
        return waiters

    def _put_back(self, pending: dict[str, list[Row]], waiters: list[Waiter]) -> None:
        with self._guard:
            for table, rows in self._pending.items():
                pending.setdefault(table, []).extend(rows)
            self._pending = pending
            self._pending_rows = sum(map(len, pending.values()))
            self._waiters = waiters + self._waiters

    def _fail(self, error: BaseException, waiters: list[Waiter]) -> None:
        with self._guard:
            self._failure = error
            waiters = waiters + self._taken_waiters()
        self._settle(waiters, error)

    def _settle(self, waiters: list[Waiter], error: BaseException | None) -> None:
        if waiters:
            settle(waiters, None if error is None else self._failed)


def _server(engine: Engine, statements: Mapping[str, str], **settings: Any) -> "ServerConnection":
    from orchestra.traces.store.server import ServerConnection  # brings the driver along

    return ServerConnection(engine, statements, **settings)
