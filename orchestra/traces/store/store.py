"""`Store`: where runs, spans, facts, content, the journal, the ledger's lines and cached completions are kept.

One store may be used from event loops, from threads and from plain synchronous code, and several processes may write
one file. `write` is durable when it returns; `post` is queued in the same order and durable with the next `write` or
shortly after; reads see everything this process has posted.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Table,
    bindparam,
    func,
    select,
)

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
from orchestra.traces.store.holding import held
from orchestra.traces.store.opening import Target, open_engine, shown, store_url
from orchestra.traces.store.reading import Reader
from orchestra.traces.store.rows import (
    Row,
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

Result = TypeVar("Result")

SERVER_PATIENCE_SECONDS = 10.0
"""How long a PostgreSQL server may be away in the middle of a run."""

_DIGESTS_AT_ONCE = 500
"""SQLite takes a limited number of values in one statement."""

_KNOWN_DIGESTS = 200_000
"""How many digests a process remembers so as not to write a blob twice; about 30 MiB."""


class Store:
    """An open store; make one with `Store.open`.

    Args:
        engine: on a database of the present schema.
        where: names the store in messages.
        read_only: refuse to write.
        patience_seconds: how long a server may be away before a commit fails.
    """

    def __init__(
        self,
        engine: Engine,
        where: str,
        *,
        read_only: bool = False,
        patience_seconds: float = SERVER_PATIENCE_SECONDS,
    ) -> None:
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
        self._reading = Reader(engine, where, patience_seconds=patience_seconds)
        self._writer: GroupWriter | None = None
        if not read_only:
            statements = insert_statements(engine.dialect)
            # Whoever prunes may have been at work while the connection was away.
            forget = self._known.clear
            self._writer = GroupWriter(
                engine, statements, where, patience_seconds=patience_seconds, on_reconnect=forget
            )
            # At interpreter exit as well: a forgotten `close` loses nothing.
            weakref.finalize(self, self._writer.close)

    @classmethod
    def open(
        cls,
        target: Target = None,
        read_only: bool = False,
        *,
        patience_seconds: float = SERVER_PATIENCE_SECONDS,
    ) -> Self:
        """The store at `target`, made if it is not there.

        Args:
            target: a path, an SQLAlchemy URL (SQLite or PostgreSQL), or `None` for the user's own store.
            read_only: never write, not even to make it.
            patience_seconds: how long a server may be away before a commit fails.

        Raises:
            InputError: when there is none to read, it cannot be reached or written, is not a store, or is a newer one.
        """
        url = store_url(target)
        engine = open_engine(url, read_only=read_only)
        return cls(engine, shown(url), read_only=read_only, patience_seconds=patience_seconds)

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
        self._reading.close()
        self._engine.dispose()

    def hold(self, run_id: str) -> AbstractContextManager[None]:
        """Hold a run while a block is carried out, so that no other process goes on with it.

        Raises:
            orchestra.traces.store.RunHeld: on entering, when another process holds it.
        """
        return held(self._engine, run_id, self._where)

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

    def post_rows(self, rows: list[tuple[str, Row]]) -> None:
        """Queue rows as another store keeps them, each with the name of its table.

        Raises:
            StoreFailed: when an earlier commit failed.
        """
        self._writing().post(rows)

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

    def transact(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` returns, done in one transaction that no other writer comes between; posted records go first.

        For rows that change (leases, checkpoints that are dropped). On PostgreSQL `work` takes the locks it needs.

        Raises:
            StoreFailed: when an earlier commit failed, or the store was opened to be read.
        """
        self._writing().flush()
        with self._engine.connect().execution_options(orchestra_writes=True) as connection, connection.begin():
            return work(connection)

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
        return tuple(run_from(row, row[-1]) for row in self.query(statement))

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
        found = [row[0] for row in self.query(select(RUNS.c.run_id).where(pattern).distinct().limit(6))]
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
        row = self._reading.one(self._by_digest, name)
        if row is None:
            raise KeyError(name)
        return blob_from(row[0], row[1])

    def blob_bodies(self, names: Iterable[str]) -> dict[str, bytes]:
        """The content behind each of `names` as it is kept, in few statements.

        Raises:
            KeyError: when one of them is not there.
        """
        wanted = list(dict.fromkeys(names))
        found = {name: body for name, _, body in self._blobs(wanted)}
        if len(found) < len(wanted):
            raise KeyError(next(name for name in wanted if name not in found))
        return found

    def blob_values(self, names: Iterable[str]) -> dict[str, object]:
        """The content behind those of `names` that are there, in few statements."""
        return {name: blob_from(media, body) for name, media, body in self._blobs(list(dict.fromkeys(names)))}

    def _blobs(self, wanted: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
        for start in range(0, len(wanted), _DIGESTS_AT_ONCE):
            found = BLOBS.c.digest.in_(wanted[start : start + _DIGESTS_AT_ONCE])
            for row in self.query(select(BLOBS.c.digest, BLOBS.c.media, BLOBS.c.body).where(found), "blobs"):
                yield row[0], row[1], bytes(row[2])

    def cached(self, key: str) -> Any:
        """What `cache` kept under `key`; `None` when nothing was."""
        self._settled("cache")
        row = self._reading.one(self._by_key, key)
        return None if row is None else blob_from(row[0], row[1])

    def query(self, statement: Executable, table: str | None = None) -> list[Sequence[Any]]:
        """The rows of an SQL statement, with everything this process has posted.

        Args:
            statement: made of `orchestra.traces.store.tables`.
            table: the one table it reads, so that only what waits for that one is committed first.

        Raises:
            StoreFailed: when the server is away for good, or an earlier commit failed.
        """
        self._settled(table)
        return self._reading.rows(statement)

    def _of(self, table: Table, run_id: str) -> list[Sequence[Any]]:
        mine: ColumnElement[bool] = table.c.run_id == run_id
        return self.query(select(*_columns(table)).where(mine).order_by(table.c.seq))

    def _settled(self, table: str | None) -> None:
        """Commit what this process posted, where a read could miss it."""
        if self._writer is not None and (table is None or self._writer.waits(table)):
            self._writer.flush()


def _columns(table: Table) -> list[Any]:
    return [table.c[name] for name in columns_written(table)]
