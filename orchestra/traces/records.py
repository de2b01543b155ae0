"""What the store holds: frozen records, appended and never edited.

Plain dataclasses without a database or a telemetry library behind them, so that code which only reads or makes records
imports neither. Times are Unix seconds (`at`) or nanoseconds (`*_ns`); money is integer nano-USD.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orchestra.ledger import Entry

Attribute = str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]
"""What OpenTelemetry allows as the value of an attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """One ended span."""

    run_id: str
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str | None = None
    """Span id of the parent; `None` means a root."""
    name: str
    kind: str = "internal"
    """`internal`, `client`, `server`, `producer` or `consumer`."""
    start_ns: int
    end_ns: int
    status: str = "unset"
    """`unset`, `ok` or `error`."""
    status_message: str | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    events: tuple[Mapping[str, object], ...] = ()
    """Each with `name`, `at_ns` and `attributes`."""
    links: tuple[Mapping[str, object], ...] = ()
    """Each with `trace_id`, `span_id` and `attributes`."""
    scope: str = ""
    """Name of the instrumentation that made it."""
    resource: str | None = None
    """Blob that holds the resource's attributes; `None` means none are known."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something learnt after the spans it is about: a score, the other seat's reward, a person's label."""

    run_id: str
    span_id: str | None
    """The span it is about; `None` means the whole run."""
    name: str
    value: object
    """Anything JSON can say."""
    source: str
    """Who says so: a scorer's name, `person:<name>`, an environment."""
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The start of a run, or of a further attempt at it; written before anything else happens."""

    run_id: str
    command: str
    """What was asked for: `run`, `evaluate`, `compose`, `import`."""
    at: float = field(default_factory=time.time)
    attributes: Mapping[str, object] = field(default_factory=dict)
    """What identifies it: task ids, team hash, settings."""
    attempts: int = 1
    """How often it was started; counted by the store when read, ignored when written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One line of the journal: a call about to be sent, or its reply about to be used."""

    run_id: str
    key: str
    """Identifies the call within its run, whatever the attempt."""
    event: Literal["begin", "finish"]
    kind: str
    """`model`, `tool` or `person`."""
    request_hash: str | None = None
    reserved_nano: int | None = None
    """Worst case set aside for it; `None` on a `finish`."""
    reply: Mapping[str, object] | None = None
    """What the node was given; `None` on a `begin`."""
    settled_nano: int | None = None
    """What it cost; `None` means not known."""
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of a run's ledger."""

    run_id: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A completion or a trial result that need not be paid for again; the first one written under a key stays."""

    key: str
    kind: str
    """What is cached: `completion`, `trial`, ..."""
    value_hash: str
    """Blob that holds it."""
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """Content, named by its digest."""

    digest: str
    media: Literal["json", "bytes"]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """The state of an application between two of its steps; written again under the same ids, the last one counts."""

    thread_id: str
    checkpoint_ns: str = ""
    """Which subgraph; empty for the application itself."""
    checkpoint_id: str
    """Sorts by time."""
    parent_id: str | None = None
    """Checkpoint it follows; `None` for the first."""
    run_id: str | None = None
    """The run it is part of; `None` means not known."""
    state: object
    """Plain JSON, with content by digest; its order is kept."""
    metadata: object
    """Plain JSON, with content by digest."""
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointWrite:
    """What one task of a step gave to one channel, before the step was over."""

    thread_id: str
    checkpoint_ns: str = ""
    checkpoint_id: str
    """Of the checkpoint the step began from."""
    task_id: str
    task_path: str = ""
    index: int
    """Position among the task's writes; below zero for those that replace an earlier one."""
    channel: str
    value: object
    """Plain JSON, with content by digest."""


Record = (
    SpanRecord
    | Fact
    | RunRecord
    | JournalEntry
    | LedgerEntry
    | CacheEntry
    | BlobRecord
    | CheckpointRecord
    | CheckpointWrite
)
"""Anything the store can be asked to write."""
