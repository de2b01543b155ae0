"""The spans that ended last, whatever run they belong to."""

from sqlalchemy import select

from orchestra.traces.records import SpanRecord
from orchestra.traces.store.rows import span_from
from orchestra.traces.store.store import Store
from orchestra.traces.store.tables import SPANS, columns_written


def recent_spans(store: Store, most: int) -> tuple[SpanRecord, ...]:
    """The last `most` spans, newest first; a read of the end of the table, however large it is."""
    columns = [SPANS.c[name] for name in columns_written(SPANS)]
    return tuple(map(span_from, store.query(select(*columns).order_by(SPANS.c.seq.desc()).limit(most), "spans")))
