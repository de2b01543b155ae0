"""`Store`: where runs, spans, facts, content, the journal, the ledger's lines and cached completions are kept.

One store may be used from event loops, from threads and from plain synchronous code, and several processes may write
one file. `write` is durable when it returns; `post` is queued in the same order and durable with the next `write` or
shortly after; reads see everything this process has posted.
"""

import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from sqlalchemy import ColumnElement, Engine, PoolProxiedConnection, Table, bindparam, func, select

from orchestra.errors import InputError
from orchestra.traces.content import canonical_json, digest
from orchestra.traces.records import (
    BlobRecord,
    CacheEntry,
    Fact,
    JournalEntry,
    LedgerEntry,
    Record,
    RunRecord,
    SpanRecord,
)
from orchestra.traces.store.opening import Target, open_engine, shown, store_url
from orchestra.traces.store.rows import (
    blob_from,
    fact_from,
    journal_from,
    ledger_from,
    row_of,
    run_from,
    span_from,
)
from orchestra.traces.store.tables import (
    BLOBS,
    CACHE,
    FACTS,
    JOURNAL,
    LEDGER,
    RUNS,
    SPANS,
    columns_written,
    insert_statements,
)
from orchestra.traces.store.writer import GroupWriter, StoreFailed

_KNOWN_DIGESTS = 200_000
"""How many digests a process remembers so as not to write a blob twice; about 30 MiB."""


class Store:
    """An open store; make one with `Store.open`.

    Args:
        engine: on a database of the present schema.
        where: names the store in messages.
        read_only: refuse to write.
    """

    def __init__(self, engine: Engine, where: str, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self.url = engine.url.render_as_string(hide_password=True)
        """Where it is, as a URL without its password."""
        self._where = where
        self._engine = engine
        self._known: set[str] = set()
        found = select(BLOBS.c.media, BLOBS.c.body)
        cached = found.select_from(CACHE.join(BLOBS, BLOBS.c.digest == CACHE.c.value_hash))
        self._by_digest = str(found.where(BLOBS.c.digest == bindparam("key")).compile(dialect=engine.dialect))
        self._by_key = str(cached.where(CACHE.c.key == bindparam("key")).compile(dialect=engine.dialect))
        self._looking = threading.Lock()
        self._reader: PoolProxiedConnection | None = None
        self._writer: GroupWriter | None = None
        if not read_only:
            self._writer = GroupWriter(engine, insert_statements(engine.dialect), where)
            # At interpreter exit as well: a forgotten `close` loses nothing.
            weakref.finalize(self, self._writer.close)

    @classmethod
    def open(cls, target: Target = None, read_only: bool = False) -> Self:
        """The store at `target`, made if it is not there.

        Args:
            target: a path, an SQLAlchemy URL (SQLite or PostgreSQL), or `None` for the user's own store.
            read_only: never write, not even to make it.

        Raises:
            InputError: when there is none to read, it cannot be reached or written, is not a store, or is a newer one.
        """
        url = store_url(target)
        return cls(open_engine(url, read_only=read_only), shown(url), read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is left and let go of the database; calling it twice is harmless."""
        if self._writer is not None:
            self._writer.close()
        with self._looking:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        self._engine.dispose()

    # Writing.

    async def write(self, *records: Record) -> None:
        """Commit `records` and all posted before; they are durable when this returns.

        Raises:
            ValueError: when a value cannot be stored.
            StoreFailed: when the commit failed.
        """
        await self._writing().write([row_of(record) for record in records])

    def post(self, *records: Record) -> None:
        """Queue `records`, in order with every other write.

        Raises:
            ValueError: when a value cannot be stored.
            StoreFailed: when an earlier commit failed.
        """
        self._writing().post([row_of(record) for record in records])

    async def flush(self) -> None:
        """Commit everything posted so far.

        Raises:
            StoreFailed: when the commit failed.
        """
        await self._writing().write([])

    def flush_sync(self) -> None:
        """Commit everything posted so far, from synchronous code.

        Raises:
            StoreFailed: when the commit failed.
        """
        self._writing().flush()

    @property
    def commits(self) -> int:
        """Transactions this process has committed to it."""
        return 0 if self._writer is None else self._writer.commits

    def blob(self, content: object) -> str:
        """Post `content` unless this process already has, and return the digest it is found by.

        Args:
            content: bytes, or anything JSON can say.

        Raises:
            ValueError: when it is neither.
        """
        if isinstance(content, bytes):
            name = digest(content)
            media, body = "bytes", content
        else:
            media, body = "json", canonical_json(content).encode("ascii")
            name = digest(body)
        if name not in self._known:
            if len(self._known) >= _KNOWN_DIGESTS:
                self._known.clear()
            self._writing().post([row_of(BlobRecord(name, "bytes" if media == "bytes" else "json", body))])
            self._known.add(name)
        return name

    def cache(self, key: str, kind: str, value: object) -> str:
        """Post `value` to be found by `cached(key)` from now on, and return its digest.

        Raises:
            ValueError: when `value` is neither bytes nor JSON.
        """
        value_hash = self.blob(value)
        self.post(CacheEntry(key, kind, value_hash))
        return value_hash

    def _writing(self) -> GroupWriter:
        if self._writer is None:
            raise StoreFailed(f"{self._where} was opened to be read; open it without read_only to write")
        return self._writer

    # Reading.

    def runs(self, limit: int | None = 20) -> tuple[RunRecord, ...]:
        """The runs started last, newest first; each once, with its first start and the number of its attempts."""
        grouped = (
            select(func.min(RUNS.c.seq).label("first"), func.max(RUNS.c.seq).label("last"), func.count().label("n"))
            .group_by(RUNS.c.run_id)
            .order_by(func.max(RUNS.c.seq).desc())
            .limit(limit)
            .subquery()
        )
        statement = (
            select(*_columns(RUNS), grouped.c.n)
            .select_from(RUNS.join(grouped, RUNS.c.seq == grouped.c.first))
            .order_by(grouped.c.last.desc())
        )
        return tuple(run_from(row, row[-1]) for row in self._rows(statement))

    def run(self, run_id: str) -> RunRecord | None:
        """The run of that id, as it was first started; `None` when there is none."""
        rows = self._of(RUNS, run_id)
        return run_from(rows[0], len(rows)) if rows else None

    def find_run(self, prefix: str) -> str:
        """The one run whose id begins with `prefix`.

        Raises:
            InputError: when there is none, or more than one.
        """
        pattern = RUNS.c.run_id.startswith(prefix, autoescape=True)
        found = [row[0] for row in self._rows(select(RUNS.c.run_id).where(pattern).distinct().limit(6))]
        if prefix in found:
            return prefix
        if not found:
            latest = ", ".join(run.run_id for run in self.runs(3)) or "none"
            raise InputError(f"no run {prefix!r} in {self._where}; the latest: {latest}")
        if len(found) > 1:
            raise InputError(
                f"{prefix!r} is the beginning of several runs: {', '.join(sorted(found))}; give more of it"
            )
        return str(found[0])

    def spans(self, run_id: str) -> tuple[SpanRecord, ...]:
        """The ended spans of a run, in the order they ended."""
        return tuple(map(span_from, self._of(SPANS, run_id)))

    def facts(self, run_id: str) -> tuple[Fact, ...]:
        """The facts about a run, in the order they were learnt; each start of the run is one, named `start`."""
        starts = (run_from(row, 1) for row in self._of(RUNS, run_id))
        started = tuple(
            Fact(run.run_id, None, "start", {"command": run.command, **run.attributes}, "orchestra", run.at)
            for run in starts
        )
        return started + tuple(map(fact_from, self._of(FACTS, run_id)))

    def journal(self, run_id: str) -> tuple[JournalEntry, ...]:
        """The journal of a run, in the order it was written."""
        return tuple(map(journal_from, self._of(JOURNAL, run_id)))

    def ledger_entries(self, run_id: str) -> tuple[LedgerEntry, ...]:
        """The lines of a run's ledger, in the order they were written."""
        return tuple(map(ledger_from, self._of(LEDGER, run_id)))

    def blob_value(self, name: str) -> object:
        """The content whose digest is `name`.

        Raises:
            KeyError: when there is none.
        """
        self._settled("blobs")
        row = self._one(self._by_digest, name)
        if row is None:
            raise KeyError(name)
        return blob_from(row[0], row[1])

    def cached(self, key: str) -> Any:
        """What `cache` kept under `key`; `None` when nothing was."""
        self._settled("cache")
        row = self._one(self._by_key, key)
        return None if row is None else blob_from(row[0], row[1])

    def _one(self, statement: str, key: str) -> Sequence[Any] | None:
        # Asked before every model call: a statement on a pooled connection would take five times as long.
        with self._looking:
            if self._reader is None:
                self._reader = self._engine.raw_connection()
            cursor = self._reader.cursor()
            cursor.execute(statement, (key,))
            row: Sequence[Any] | None = cursor.fetchone()
            self._reader.rollback()
        return row

    def _of(self, table: Table, run_id: str) -> list[Sequence[Any]]:
        mine: ColumnElement[bool] = table.c.run_id == run_id
        return self._rows(select(*_columns(table)).where(mine).order_by(table.c.seq))

    def _rows(self, statement: Any, table: str | None = None) -> list[Sequence[Any]]:
        self._settled(table)
        with self._engine.connect() as connection:
            return list(connection.execute(statement))

    def _settled(self, table: str | None) -> None:
        """Commit what this process posted, where a read could miss it."""
        if self._writer is not None and (table is None or self._writer.waits(table)):
            self._writer.flush()


def _columns(table: Table) -> list[Any]:
    return [table.c[name] for name in columns_written(table)]
