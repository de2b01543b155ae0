"""Some of a run's spans, and when runs had any: what a reader of many runs asks before it reads one whole."""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import func, select

from orchestra.traces.records import SpanRecord
from orchestra.traces.store.rows import span_from
from orchestra.traces.store.store import Store
from orchestra.traces.store.tables import SPANS, columns_written

_AT_ONCE = 500
"""SQLite takes a limited number of values in one statement."""


def spans_among(store: Store, run_id: str, span_ids: Sequence[str]) -> tuple[SpanRecord, ...]:
    """Those spans of a run, in the order they ended."""
    columns = [SPANS.c.seq, *(SPANS.c[name] for name in columns_written(SPANS))]
    rows = [
        row
        for part in _parts(span_ids)
        for row in store.query(select(*columns).where(SPANS.c.run_id == run_id, SPANS.c.span_id.in_(part)), "spans")
    ]
    return tuple(span_from(row[1:]) for row in sorted(rows, key=lambda row: int(row[0])))


def begun_within(store: Store, run_ids: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """When the first and the last span of each run began, in Unix nanoseconds; runs without spans are absent."""
    first, last = func.min(SPANS.c.start_ns), func.max(SPANS.c.start_ns)
    return {
        row[0]: (int(row[1]), int(row[2]))
        for part in _parts(run_ids)
        for row in store.query(
            select(SPANS.c.run_id, first, last).where(SPANS.c.run_id.in_(part)).group_by(SPANS.c.run_id), "spans"
        )
    }


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
