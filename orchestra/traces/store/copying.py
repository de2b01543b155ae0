"""All that a store holds about a run, as rows, and back into any store.

Rows are given as they are kept, column by column, with the content they refer to before them. To put them back twice is
to put them back once: a row that is there as often as it was given is not added.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Table, select, tuple_

from orchestra.traces.store.rows import Row
from orchestra.traces.store.store import Store
from orchestra.traces.store.tables import (
    BLOBS,
    CHECKPOINT_WRITES,
    CHECKPOINTS,
    FACTS,
    JOURNAL,
    LEDGER,
    RUNS,
    SPANS,
    TABLES_BY_NAME,
    columns_written,
)

OF_A_RUN: tuple[Table, ...] = (RUNS, JOURNAL, LEDGER, FACTS, SPANS, CHECKPOINTS)
"""Tables whose rows belong to a run."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PAGE = 2000
_KEYS_AT_ONCE = 400
_KEYS: Mapping[str, tuple[str, ...]] = {"spans": ("run_id", "span_id"), "blobs": ("digest",), "cache": ("key",)}

TableRow = tuple[str, Row]


def digests_in(row: Iterable[object]) -> Iterator[str]:
    """Every digest that a row refers to, also from within JSON."""
    for value in row:
        if isinstance(value, str):
            if "sha256:" in value:
                yield from _DIGEST.findall(value)
        elif isinstance(value, bytes | memoryview) and b"sha256:" in (body := bytes(value)):
            yield from _DIGEST.findall(body.decode("utf-8", "ignore"))


def rows_of_run(store: Store, run_id: str) -> Iterator[TableRow]:
    """All rows about a run, table by table in the order they were written, its content first."""
    wanted: dict[str, None] = {}
    for _, row in _own_rows(store, run_id):
        wanted.update(dict.fromkeys(digests_in(row)))
    given: set[str] = set()
    while wanted:
        names, wanted = sorted(name for name in wanted if name not in given), {}
        given.update(names)
        for start in range(0, len(names), 400):
            # By digest: a run is the same file from whatever database it comes.
            for row in sorted(_paged(store, BLOBS, BLOBS.c.digest.in_(names[start : start + 400]))):
                yield BLOBS.name, row
                wanted.update(dict.fromkeys(digests_in(row[2:])))
    yield from _own_rows(store, run_id)


def restored(store: Store, rows: Iterable[TableRow]) -> Counter[str]:
    """Put `rows` into `store`, those that are not there yet, and count what was added by table.

    Args:
        store: open for writing.
        rows: as `rows_of_run` gives them, of any number of runs.

    Raises:
        orchestra.traces.store.StoreFailed: when they could not be written.
    """
    added: Counter[str] = Counter()
    there: dict[tuple[str, object], Counter[Row]] = {}
    coming = iter(rows)
    while batch := list(islice(coming, _PAGE)):
        new = list(_new(store, batch, there))
        store.post_rows(new)
        store.flush_sync()
        added.update(table for table, _ in new)
    return added


def _new(store: Store, batch: list[TableRow], there: dict[tuple[str, object], Counter[Row]]) -> Iterator[TableRow]:
    """Those rows of `batch` that the store does not have; `there` counts rows without a key that it has in excess."""
    keys = {table: _keys_there(store, table, [row for name, row in batch if name == table]) for table in _KEYS}
    for table, row in batch:
        if table in _KEYS:
            key = _key(table, row)
            if key in keys[table]:
                continue
            keys[table].add(key)
        else:
            place = (table, row[0])
            if place not in there:
                there[place] = Counter(_paged(store, *_alike(table, row[0])))
            if there[place][row] > 0:
                there[place][row] -= 1
                continue
        yield table, row


def row_from(table: str, values: Mapping[str, Any]) -> Row:
    """The row of `table` with these values by column; columns that an earlier version had not are empty.

    Raises:
        KeyError: when there is no such table.
    """
    return tuple(values.get(name) for name in columns_written(TABLES_BY_NAME[table]))


def _own_rows(store: Store, run_id: str) -> Iterator[TableRow]:
    for table in OF_A_RUN:
        for row in _paged(store, table, table.c.run_id == run_id):
            yield table.name, row
    place = (CHECKPOINTS.c.thread_id, CHECKPOINTS.c.checkpoint_ns, CHECKPOINTS.c.checkpoint_id)
    theirs = CHECKPOINT_WRITES.c
    mine = select(*place).where(CHECKPOINTS.c.run_id == run_id)
    written = tuple_(theirs.thread_id, theirs.checkpoint_ns, theirs.checkpoint_id).in_(mine)
    for row in _paged(store, CHECKPOINT_WRITES, written):
        yield CHECKPOINT_WRITES.name, row


def _paged(store: Store, table: Table, condition: ColumnElement[bool]) -> Iterator[Row]:
    last = -1
    columns = [table.c[name] for name in columns_written(table)]
    while True:
        page = select(table.c.seq, *columns).where(condition, table.c.seq > last).order_by(table.c.seq).limit(_PAGE)
        rows = store.query(page)
        for row in rows:
            yield tuple(bytes(value) if isinstance(value, memoryview) else value for value in row[1:])
        if len(rows) < _PAGE:
            return
        last = rows[-1][0]


def _alike(table: str, first: object) -> tuple[Table, ColumnElement[bool]]:
    """The rows of the same run; of a thread, for the writes of checkpoints."""
    found = TABLES_BY_NAME[table]
    return found, found.c[columns_written(found)[0]] == first


def _key(table: str, row: Row) -> Row:
    names = columns_written(TABLES_BY_NAME[table])
    return tuple(row[names.index(name)] for name in _KEYS[table])


def _keys_there(store: Store, table: str, rows: list[Row]) -> set[Row]:
    columns = [TABLES_BY_NAME[table].c[name] for name in _KEYS[table]]
    found: set[Row] = set()
    for start in range(0, len(rows), _KEYS_AT_ONCE):
        keys = [_key(table, row) for row in rows[start : start + _KEYS_AT_ONCE]]
        found.update(map(tuple, store.query(select(*columns).where(tuple_(*columns).in_(keys)), table)))
    return found
