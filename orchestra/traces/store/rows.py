"""Records to rows and back.

Values are turned into plain text and numbers here, in the caller, so that what cannot be stored is refused where it was
made and never poisons a transaction shared with others.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestra.ledger import Entry
from orchestra.traces.content import canonical_json
from orchestra.traces.records import (
    BlobRecord,
    CacheEntry,
    CheckpointRecord,
    CheckpointWrite,
    Fact,
    JournalEntry,
    LedgerEntry,
    Record,
    RunRecord,
    SpanRecord,
)

Row = tuple[object, ...]
_INT64 = 2**63
_plain = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _text(text: str) -> str:
    """`text` with what a database cannot hold (lone surrogates, NUL) written as escapes."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _int64(number: int | None, what: str) -> int | None:
    if number is not None and not -_INT64 <= number < _INT64:
        raise ValueError(f"{what} {number} does not fit 64 bits; amounts are nano-USD, below 9.2 billion dollars")
    return number


def _attributes(values: Mapping[str, object]) -> str:
    try:
        return _plain(values)
    except ValueError:
        # NaN and infinity are legal attribute values and not legal JSON.
        return _plain({key: _finite(value) for key, value in values.items()})


def _finite(value: object) -> object:
    if isinstance(value, float) and value - value != 0.0:
        return repr(value)
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _span(record: SpanRecord) -> Row:
    return (
        record.run_id,
        record.trace_id,
        record.span_id,
        record.parent_id,
        _text(record.name),
        record.kind,
        record.start_ns,
        record.end_ns,
        record.status,
        None if record.status_message is None else _text(record.status_message),
        _attributes(record.attributes),
        _plain([{**event, "attributes": _event_attributes(event)} for event in record.events])
        if record.events
        else None,
        _plain(record.links) if record.links else None,
        record.scope,
        record.resource,
    )


def _event_attributes(event: Mapping[str, object]) -> object:
    attributes = event.get("attributes") or {}
    return {k: _finite(v) for k, v in attributes.items()} if isinstance(attributes, Mapping) else attributes


def _fact(record: Fact) -> Row:
    return (record.run_id, record.span_id, record.name, canonical_json(record.value), _text(record.source), record.at)


def _run(record: RunRecord) -> Row:
    return (record.run_id, record.command, record.at, canonical_json(dict(record.attributes)))


def _journal(record: JournalEntry) -> Row:
    return (
        record.run_id,
        _text(record.key),
        record.event,
        record.kind,
        record.request_hash,
        _int64(record.reserved_nano, "reserved_nano"),
        None if record.reply is None else canonical_json(record.reply),
        _int64(record.settled_nano, "settled_nano"),
        record.at,
    )


def _ledger(record: LedgerEntry) -> Row:
    entry = record.entry
    return (
        record.run_id,
        _text(entry.ledger),
        entry.reservation_id,
        entry.event,
        _int64(entry.nano, "nano"),
        _text(entry.what),
        entry.at,
    )


def _cache(record: CacheEntry) -> Row:
    return (record.key, record.kind, record.value_hash, record.at)


def _blob(record: BlobRecord) -> Row:
    return (record.digest, record.media, record.body)


def _checkpoint(record: CheckpointRecord) -> Row:
    return (
        _text(record.thread_id),
        _text(record.checkpoint_ns),
        record.checkpoint_id,
        record.parent_id,
        record.run_id,
        _plain(record.state),  # in its own order: a state is given back as it was
        _plain(record.metadata),
        record.at,
    )


def _checkpoint_write(record: CheckpointWrite) -> Row:
    return (
        _text(record.thread_id),
        _text(record.checkpoint_ns),
        record.checkpoint_id,
        record.task_id,
        _text(record.task_path),
        record.index,
        _text(record.channel),
        _plain(record.value),
    )


_ROWS: Mapping[type, tuple[str, Callable[[Any], Row]]] = {
    SpanRecord: ("spans", _span),
    Fact: ("facts", _fact),
    RunRecord: ("runs", _run),
    JournalEntry: ("journal", _journal),
    LedgerEntry: ("ledger", _ledger),
    CacheEntry: ("cache", _cache),
    BlobRecord: ("blobs", _blob),
    CheckpointRecord: ("checkpoints", _checkpoint),
    CheckpointWrite: ("checkpoint_writes", _checkpoint_write),
}


def row_of(record: Record) -> tuple[str, Row]:
    """The table `record` belongs to, and its row there.

    Raises:
        ValueError: when a value cannot be stored.
        TypeError: when it is no record.
    """
    try:
        table, to_row = _ROWS[type(record)]
    except KeyError:
        raise TypeError(f"the store writes records, not {type(record).__name__}: {record!r}") from None
    return table, to_row(record)


def span_from(row: Sequence[Any]) -> SpanRecord:
    """The span a row of `spans` holds."""
    return SpanRecord(
        run_id=row[0],
        trace_id=row[1],
        span_id=row[2],
        parent_id=row[3],
        name=row[4],
        kind=row[5],
        start_ns=row[6],
        end_ns=row[7],
        status=row[8],
        status_message=row[9],
        attributes={k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(row[10]).items()},
        events=tuple(json.loads(row[11])) if row[11] else (),
        links=tuple(json.loads(row[12])) if row[12] else (),
        scope=row[13],
        resource=row[14],
    )


def fact_from(row: Sequence[Any]) -> Fact:
    """The fact a row of `facts` holds."""
    return Fact(row[0], row[1], row[2], json.loads(row[3]), row[4], row[5])


def run_from(row: Sequence[Any], attempts: int) -> RunRecord:
    """The start of a run that was started `attempts` times."""
    return RunRecord(row[0], row[1], row[2], json.loads(row[3]), attempts)


def journal_from(row: Sequence[Any]) -> JournalEntry:
    """The entry a row of `journal` holds."""
    return JournalEntry(
        run_id=row[0],
        key=row[1],
        event=row[2],
        kind=row[3],
        request_hash=row[4],
        reserved_nano=row[5],
        reply=None if row[6] is None else json.loads(row[6]),
        settled_nano=row[7],
        at=row[8],
    )


def ledger_from(row: Sequence[Any]) -> LedgerEntry:
    """The ledger line a row of `ledger` holds."""
    return LedgerEntry(row[0], Entry(row[1], row[2], row[3], row[4], row[5], row[6]))


def checkpoint_from(row: Sequence[Any]) -> CheckpointRecord:
    """The checkpoint a row of `checkpoints` holds."""
    return CheckpointRecord(
        thread_id=row[0],
        checkpoint_ns=row[1],
        checkpoint_id=row[2],
        parent_id=row[3],
        run_id=row[4],
        state=json.loads(row[5]),
        metadata=json.loads(row[6]),
        at=row[7],
    )


def checkpoint_write_from(row: Sequence[Any]) -> CheckpointWrite:
    """The write a row of `checkpoint_writes` holds."""
    return CheckpointWrite(
        thread_id=row[0],
        checkpoint_ns=row[1],
        checkpoint_id=row[2],
        task_id=row[3],
        task_path=row[4],
        index=row[5],
        channel=row[6],
        value=json.loads(row[7]),
    )


def blob_from(media: str, body: bytes) -> object:
    """The value a blob holds: parsed JSON, or the bytes themselves."""
    return json.loads(body) if media == "json" else bytes(body)
