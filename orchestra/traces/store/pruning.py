"""Old runs out of a store, and the space they took back to the disk.

A run that some process is carrying out is never touched, and one that can still be resumed only when it is named or
asked for. Content goes when nothing refers to it any more, and only while nobody else has the store open: a process
that wrote a piece of content once refers to it again without writing it.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, select, text, tuple_

from orchestra.traces.records import RunRecord
from orchestra.traces.store.copying import OF_A_RUN, digests_in
from orchestra.traces.store.holding import RunHeld, held
from orchestra.traces.store.opening import Target, open_engine, shown, store_url
from orchestra.traces.store.rows import span_from
from orchestra.traces.store.store import Store
from orchestra.traces.store.tables import (
    BLOBS,
    CACHE,
    CHECKPOINT_WRITES,
    CHECKPOINTS,
    LEASES,
    SPANS,
    WRITERS_LOCK,
    WRITTEN,
    columns_written,
)
from orchestra.traces.summary import ending

_FINISHED = frozenset({"finished", "failed", "cancelled"})
"""States of a run that nobody resumes."""

_AT_ONCE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which runs go. Those named always do; of the others, those that are too old, too many or too much."""

    run_ids: tuple[str, ...] = ()
    """Whole ids."""
    older_than_seconds: float | None = None
    keep_last: int | None = None
    """So many of the newest stay, however old; without an age and a size, all others go."""
    most_bytes: int | None = None
    """The oldest go until the rest fits."""
    unfinished: bool = False
    """Also those that were interrupted, are paused or ran out: they cannot be resumed afterwards."""
    cache: bool = False
    """Also what is kept so as not to be paid for again, of that age or, without an age, all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedRun:
    """A run that goes."""

    run_id: str
    command: str
    started_at: float
    """Unix seconds."""
    bytes: int
    """Of its rows and of the content that no run that stays refers to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What goes, or went."""

    runs: tuple[PrunedRun, ...]
    in_progress: tuple[str, ...]
    """Runs that fit the rules and are being carried out: they stay."""
    resumable: tuple[str, ...]
    """Runs that fit the rules and could be resumed: they stay unless named, or asked for."""
    cache_entries: int
    blobs: int
    """Pieces of content that nothing refers to any more; 0 where others have the store open."""
    bytes_before: int
    """Size of the store."""
    bytes_after: int | None = None
    """Size of the store now; `None` when nothing was done."""
    others: bool = False
    """Whether somebody else has the store open, so that content and space stay until the next time."""

    @property
    def bytes_estimated(self) -> int:
        """What the runs take."""
        return sum(run.bytes for run in self.runs)


def prune(target: Target, rules: Rules, *, apply: bool = False, now: float | None = None) -> Pruning:
    """Drop the runs that `rules` name and fit, or only say which they are.

    Args:
        target: path or URL of the store.
        rules: which go.
        apply: false changes nothing.
        now: Unix seconds that ages are counted to; `None` is the clock's.

    Raises:
        orchestra.errors.InputError: when the store cannot be opened, or a named run is not in it.
    """
    url = store_url(target)
    where = shown(url)
    open_engine(url, read_only=True).dispose()  # never make a store in order to prune it
    engine = open_engine(url)
    try:
        plan, entries = _planned(Store(engine, where, read_only=True), engine, rules, now or time.time())
        return _applied(engine, where, plan, entries) if apply else plan
    finally:
        engine.dispose()


def _planned(store: Store, engine: Engine, rules: Rules, now: float) -> tuple[Pruning, list[str]]:
    named = {store.find_run(run_id) for run_id in rules.run_ids}
    weights = None if rules.most_bytes is None else _Weights(store)
    going: list[RunRecord] = []
    resumable: list[str] = []
    size = 0 if weights is None else weights.total
    runs = store.runs(limit=None)
    for run in reversed([run for run in _fitting(runs, rules, now) if run.run_id not in named]):
        if rules.most_bytes is not None and size <= rules.most_bytes:
            break
        if not rules.unfinished and not _finished(store, run.run_id):
            resumable.append(run.run_id)
            continue
        size -= 0 if weights is None else weights.dropped(run.run_id)
        going.append(run)
    going.extend(run for run in runs if run.run_id in named)
    busy = {run.run_id for run in going if _is_held(engine, run.run_id)}
    weighed = _Weights(store)
    return Pruning(
        runs=tuple(
            PrunedRun(run_id=run.run_id, command=run.command, started_at=run.at, bytes=weighed.dropped(run.run_id))
            for run in going
            if run.run_id not in busy
        ),
        in_progress=tuple(sorted(busy)),
        resumable=tuple(resumable),
        cache_entries=len(entries := _cache_keys(store, rules, now)),
        blobs=weighed.dropped_blobs,
        bytes_before=_size(engine),
    ), entries


def _fitting(runs: Iterable[RunRecord], rules: Rules, now: float) -> list[RunRecord]:
    """Those that may go, newest first; named ones aside."""
    if rules.older_than_seconds is None and rules.keep_last is None and rules.most_bytes is None:
        return []
    rest = list(runs)[rules.keep_last or 0 :]
    if rules.older_than_seconds is None:
        return rest
    return [run for run in rest if run.at < now - rules.older_than_seconds]


def _finished(store: Store, run_id: str) -> bool:
    """Whether there is nothing in it to go on with."""
    columns = [SPANS.c[name] for name in columns_written(SPANS)]
    roots = store.query(select(*columns).where(SPANS.c.run_id == run_id, SPANS.c.parent_id.is_(None)))
    state, _ = ending([span_from(row) for row in roots], store.facts(run_id))
    return state in _FINISHED


def _cache_keys(store: Store, rules: Rules, now: float) -> list[str]:
    if not rules.cache:
        return []
    oldest = now - (rules.older_than_seconds or 0.0)
    return [row[0] for row in store.query(select(CACHE.c.key).where(CACHE.c.at <= oldest))]


class _Weights:
    """What each run takes, content that others refer to left out, as one run after the other goes."""

    def __init__(self, store: Store) -> None:
        self._bytes: dict[str, int] = {}
        self._refers: dict[str, set[str]] = {}
        self._count: dict[str, int] = {}
        sizes = "length(body)" if store.url.startswith("sqlite") else "octet_length(body)"
        self._blob_bytes = {row[0]: int(row[1]) for row in store.query(text(f"SELECT digest, {sizes} FROM blobs"))}
        for table in OF_A_RUN:
            at = columns_written(table).index("run_id")
            for row in _every_row(store, table):
                if (run_id := row[at]) is None:
                    continue
                self._bytes[run_id] = self._bytes.get(run_id, 0) + sum(len(str(value)) for value in row)
                self._refers.setdefault(run_id, set()).update(digests_in(row))
        for (name,) in store.query(select(CACHE.c.value_hash)):
            self._count[name] = self._count.get(name, 0) + 1
        for refers in self._refers.values():
            for name in refers:
                self._count[name] = self._count.get(name, 0) + 1
        self.total = sum(self._bytes.values()) + sum(self._blob_bytes.values())
        self.dropped_blobs = 0

    def dropped(self, run_id: str) -> int:
        """The bytes that go when this run does, after those that went before."""
        freed = self._bytes.pop(run_id, 0)
        for name in self._refers.pop(run_id, ()):
            self._count[name] -= 1
            if self._count[name] == 0 and name in self._blob_bytes:
                freed += self._blob_bytes.pop(name)
                self.dropped_blobs += 1
        return freed


def _applied(engine: Engine, where: str, plan: Pruning, entries: list[str]) -> Pruning:
    gone: list[PrunedRun] = []
    busy = list(plan.in_progress)
    for run in plan.runs:
        try:
            with held(engine, run.run_id, where), _writing(engine) as connection:
                _drop_run(connection, run.run_id)
            gone.append(run)
        except RunHeld:  # somebody resumed it since
            busy.append(run.run_id)
    with _writing(engine) as connection:
        for start in range(0, len(entries), _AT_ONCE):
            connection.execute(delete(CACHE).where(CACHE.c.key.in_(entries[start : start + _AT_ONCE])))
    done = replace(plan, runs=tuple(gone), in_progress=tuple(busy))
    alone = _alone_on_sqlite if engine.dialect.name == "sqlite" else _alone_on_server
    with alone(engine) as connection:
        if connection is None:
            return replace(done, blobs=0, bytes_after=_size(engine), others=True)
        blobs = _drop_unreferenced(connection)
        _compact(connection)
    return replace(done, blobs=blobs, bytes_after=_size(engine))


def _drop_run(connection: Connection, run_id: str) -> None:
    place = (CHECKPOINTS.c.thread_id, CHECKPOINTS.c.checkpoint_ns, CHECKPOINTS.c.checkpoint_id)
    theirs = CHECKPOINT_WRITES.c
    mine = tuple_(theirs.thread_id, theirs.checkpoint_ns, theirs.checkpoint_id).in_(
        select(*place).where(CHECKPOINTS.c.run_id == run_id)
    )
    connection.execute(delete(CHECKPOINT_WRITES).where(mine))
    for table in (*OF_A_RUN, LEASES):
        connection.execute(delete(table).where(table.c.run_id == run_id))


def _drop_unreferenced(connection: Connection) -> int:
    """Drop the content that no row refers to, nor content that one refers to; how many pieces."""
    wanted: set[str] = set()
    for table in WRITTEN:
        if table is not BLOBS:
            columns = [table.c[name] for name in columns_written(table)]
            for row in connection.execute(select(*columns)):
                wanted.update(digests_in(row))
    everything = {row[0] for row in connection.execute(select(BLOBS.c.digest))}
    kept: set[str] = set()
    while new := (wanted & everything) - kept:
        kept |= new
        wanted = set()
        names_of_new = sorted(new)
        for start in range(0, len(names_of_new), _AT_ONCE):
            some = BLOBS.c.digest.in_(names_of_new[start : start + _AT_ONCE])
            for row in connection.execute(select(BLOBS.c.body).where(some)):
                wanted.update(digests_in(row))
    dropped = sorted(everything - kept)
    for start in range(0, len(dropped), _AT_ONCE):
        connection.execute(delete(BLOBS).where(BLOBS.c.digest.in_(dropped[start : start + _AT_ONCE])))
    connection.commit()
    return len(dropped)


@contextmanager
def _writing(engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(orchestra_writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def _alone_on_sqlite(engine: Engine) -> Iterator[Connection | None]:
    """A connection that nobody else's is beside; `None` when somebody has the file open.

    SQLite leaves the mode of a write-ahead log only for a connection that is the only one.
    """
    engine.dispose()
    with engine.connect().execution_options(orchestra_writes=True) as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.execute("PRAGMA busy_timeout=0")
        try:
            raw.execute("PRAGMA locking_mode=EXCLUSIVE")
            raw.execute("PRAGMA journal_mode=DELETE").fetchone()
        except sqlite3.OperationalError:
            alone = False
        else:
            alone = True
        try:
            yield connection if alone else None
        finally:
            connection.rollback()
            raw.execute("PRAGMA locking_mode=NORMAL")
            raw.execute("SELECT count(*) FROM sqlite_master").fetchone()  # lets go of the lock
            connection.invalidate()


@contextmanager
def _alone_on_server(engine: Engine) -> Iterator[Connection | None]:
    """A connection while no writer has one; `None` when somebody does."""
    with engine.connect() as connection:
        alone = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": WRITERS_LOCK}))
        connection.commit()
        try:
            yield connection if alone else None
        finally:
            connection.invalidate()  # and with it the lock


def _compact(connection: Connection) -> None:
    """Give the space back to the disk."""
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        raw.execute("VACUUM")
        return
    raw.autocommit = True
    for table in WRITTEN:
        raw.execute(f'VACUUM (FULL, ANALYZE) "{table.name}"')


def _every_row(store: Store, table: Table) -> Iterator[Any]:
    last = -1
    columns = [table.c[name] for name in columns_written(table)]
    while rows := store.query(
        select(*columns, table.c.seq).where(table.c.seq > last).order_by(table.c.seq).limit(5000)
    ):
        yield from (row[:-1] for row in rows)
        last = rows[-1][-1]


def _is_held(engine: Engine, run_id: str) -> bool:
    try:
        with held(engine, run_id, ""):
            return False
    except RunHeld:
        return True


def _size(engine: Engine) -> int:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            pages, size = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("page_count", "page_size")
            )
            return int(pages or 0) * int(size or 0)
        total = " + ".join(f"pg_total_relation_size('{table.name}')" for table in WRITTEN)
        return int(connection.exec_driver_sql(f"SELECT {total}").scalar() or 0)
