"""Checkpoints of applications in the store: found, copied and dropped. They are written like any other record.

A checkpoint written again under its ids is there twice, and the later row counts; of a task's writes the first of each
index counts, or the last where the index is below zero.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, literal, select, tuple_

from orchestra.traces.records import CheckpointRecord, CheckpointWrite
from orchestra.traces.store.rows import checkpoint_from, checkpoint_write_from
from orchestra.traces.store.store import Store
from orchestra.traces.store.tables import CHECKPOINT_WRITES, CHECKPOINTS, columns_written

_BOTH = (CHECKPOINTS, CHECKPOINT_WRITES)
_PAGE = 100

Place = tuple[str, str, str]
"""Thread, namespace and checkpoint."""


def checkpoint(store: Store, thread_id: str, namespace: str, checkpoint_id: str | None) -> CheckpointRecord | None:
    """That checkpoint, or the last one of its thread and namespace; `None` when there is none."""
    c = CHECKPOINTS.c
    wanted = _all(CHECKPOINTS).where(c.thread_id == thread_id, c.checkpoint_ns == namespace)
    if checkpoint_id is not None:
        wanted = wanted.where(c.checkpoint_id == checkpoint_id)
    rows = store.query(wanted.order_by(c.checkpoint_id.desc(), c.seq.desc()).limit(1), "checkpoints")
    return checkpoint_from(rows[0]) if rows else None


def checkpoints(
    store: Store,
    *,
    thread_id: str | None = None,
    namespace: str | None = None,
    checkpoint_id: str | None = None,
    before: str | None = None,
) -> Iterator[CheckpointRecord]:
    """The checkpoints that fit, newest first in each thread and namespace; `None` fits all. Read as they are asked for.

    Args:
        before: only those older than the checkpoint of this id.
    """
    c = CHECKPOINTS.c
    asked = {c.thread_id: thread_id, c.checkpoint_ns: namespace, c.checkpoint_id: checkpoint_id}
    wanted = _all(CHECKPOINTS).where(*(column == value for column, value in asked.items() if value is not None))
    if before is not None:
        wanted = wanted.where(c.checkpoint_id < before)
    wanted = wanted.order_by(c.thread_id, c.checkpoint_ns, c.checkpoint_id.desc(), c.seq.desc())
    last: Place | None = None
    offset = 0
    while rows := store.query(wanted.limit(_PAGE).offset(offset), "checkpoints"):
        offset += len(rows)
        for row in rows:
            place = (row[0], row[1], row[2])
            if place != last:
                yield checkpoint_from(row)
            last = place


def checkpoint_writes(store: Store, thread_id: str, namespace: str, checkpoint_id: str) -> list[CheckpointWrite]:
    """What the tasks of the step after that checkpoint have written, in the order a run applies it."""
    c = CHECKPOINT_WRITES.c
    mine = (c.thread_id == thread_id, c.checkpoint_ns == namespace, c.checkpoint_id == checkpoint_id)
    counted: dict[tuple[str, int], CheckpointWrite] = {}
    for row in store.query(_all(CHECKPOINT_WRITES).where(*mine).order_by(c.seq), "checkpoint_writes"):
        write = checkpoint_write_from(row)
        key = (write.task_id, write.index)
        if write.index < 0 or key not in counted:
            counted[key] = write
    return sorted(counted.values(), key=lambda write: (write.task_path, write.task_id, write.index))


def drop_threads(store: Store, thread_ids: Collection[str]) -> None:
    """Drop every checkpoint of those threads."""

    def drop(connection: Connection) -> None:
        for table in _BOTH:
            connection.execute(delete(table).where(table.c.thread_id.in_(thread_ids)))

    store.transact(drop)


def drop_runs(store: Store, run_ids: Collection[str]) -> None:
    """Drop the checkpoints that those runs wrote, with their tasks' writes."""
    c = CHECKPOINTS.c

    def drop(connection: Connection) -> None:
        found = connection.execute(
            select(c.thread_id, c.checkpoint_ns, c.checkpoint_id).where(c.run_id.in_(run_ids)).distinct()
        )
        _drop_places(connection, [(row[0], row[1], row[2]) for row in found])

    store.transact(drop)


def copy_thread(store: Store, source: str, target: str) -> None:
    """Copy all of one thread to another."""

    def copy(connection: Connection) -> None:
        for table in _BOTH:
            names = columns_written(table)
            copied = [literal(target) if name == "thread_id" else table.c[name] for name in names]
            rows = select(*copied).where(table.c.thread_id == source).order_by(table.c.seq)
            connection.execute(table.insert().from_select(names, rows))

    store.transact(copy)


def keep_latest(
    store: Store, thread_ids: Iterable[str], needed: Callable[[CheckpointRecord], Iterator[CheckpointRecord]]
) -> None:
    """Drop all but the last checkpoint of each namespace of those threads.

    Args:
        store: where they are.
        thread_ids: whose.
        needed: the checkpoints that a last one cannot be read without, besides itself.
    """
    for thread_id in thread_ids:
        latest: dict[str, CheckpointRecord] = {}
        everything: list[Place] = []
        for record in checkpoints(store, thread_id=thread_id):
            latest.setdefault(record.checkpoint_ns, record)
            everything.append((thread_id, record.checkpoint_ns, record.checkpoint_id))
        kept = {
            (thread_id, one.checkpoint_ns, one.checkpoint_id)
            for last in latest.values()
            for one in (last, *needed(last))
        }
        dropped = [place for place in everything if place not in kept]
        store.transact(partial(_drop_places, places=dropped))


def _drop_places(connection: Connection, places: Sequence[Place]) -> None:
    for start in range(0, len(places), _PAGE):
        some = places[start : start + _PAGE]
        for table in _BOTH:
            place = tuple_(table.c.thread_id, table.c.checkpoint_ns, table.c.checkpoint_id)
            connection.execute(delete(table).where(place.in_(some)))


def _all(table: Table) -> Select[Any]:
    return select(*(table.c[name] for name in columns_written(table)))
