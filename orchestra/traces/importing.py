"""Spans of other applications into the store: from a collector's file, over OTLP, or in the application's own process.

A span is kept whole: what it says under older names is said under the present ones besides, and where a proxy kept the
call it is about, the token ids and whatever else the framework dropped are put to it. Content goes once into the
store and the span carries its digest. `orchestra.traces.fold` makes episodes of them.
"""

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from orchestra.traces import names
from orchestra.traces.content import is_digest
from orchestra.traces.gathering import unplaced
from orchestra.traces.importing_names import present_names
from orchestra.traces.importing_otlp import from_file
from orchestra.traces.joins import joined
from orchestra.traces.messages import parsed
from orchestra.traces.records import RunRecord, SpanRecord
from orchestra.traces.redaction import Redactor, redacted
from orchestra.traces.spans import record_of
from orchestra.traces.store import Store, StoreFailed
from orchestra.traces.turns import CHATS, operation

CONTENT: Final = frozenset(
    {
        names.INPUT_MESSAGES,
        names.OUTPUT_MESSAGES,
        names.SYSTEM_INSTRUCTIONS,
        names.TOOL_DEFINITIONS,
        names.TOOL_CALL_ARGUMENTS,
        names.TOOL_CALL_RESULT,
    }
)
"""Attributes whose values are kept by reference."""


@dataclass(frozen=True, slots=True)
class ImportedSpans:
    """What came of an import."""

    run_id: str
    spans: int
    calls: int
    """Spans of a model's call."""
    joined: int
    """Of those, how many a proxy had kept the token ids or other details of."""
    unplaced: int
    """Of those, how many belong to no trace, conversation or stretch of time that is certain: each is an episode."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it."""
        told = [f"{self.calls} calls of a model; token ids or more known of {self.joined}"]
        if self.unplaced:
            told.append(f"{self.unplaced} of them belong to nothing that is certain; each is an episode of its own")
        return tuple(told)


def fresh_run_id() -> str:
    """An id as those of our own runs: it sorts by time and can be typed."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


class Importer:
    """Puts spans of other applications into a store, as one run.

    Args:
        store: open; not closed here.
        source: where they come from, for the run's record.
        run_id: of the run; `None` makes a new one, which begins with the first span.
        redact: shown every text before it reaches the store; where it changes one, token ids are not joined.
    """

    def __init__(self, store: Store, source: str, *, run_id: str | None = None, redact: Redactor | None = None) -> None:
        self.run_id = run_id or fresh_run_id()
        self.spans = self.calls = self.joined = 0
        self._store = store
        self._source = source
        self._redact = redact
        self._resources: dict[str, str] = {}
        self._adding = threading.Lock()

    def add(self, resource: Mapping[str, Any], spans: Iterable[SpanRecord]) -> None:
        """Post `spans` of one resource.

        Raises:
            ValueError: when a value cannot be stored.
            StoreFailed: when an earlier commit failed.
        """
        self.add_all([(resource, spans)])

    def add_all(self, parts: Iterable[tuple[Mapping[str, Any], Iterable[SpanRecord]]]) -> None:
        """Post the spans of several resources, all of them or, where one cannot be stored, none.

        Raises:
            ValueError: when a value cannot be stored.
            StoreFailed: when an earlier commit failed.
        """
        with self._adding:
            ready: list[SpanRecord] = []
            for resource, spans in parts:
                digest = self._store.blob(_plain(self._clean(resource)))
                ready += [self._ready(replace(span, run_id=self.run_id, resource=digest)) for span in spans]
            if ready and not self.spans:
                self._store.post(RunRecord(self.run_id, "import", attributes={"source": self._source}))
            self.spans += len(ready)
            self._store.post(*ready)

    def imported(self) -> ImportedSpans:
        """What has come of it so far."""
        alone = len(unplaced(self._store.spans(self.run_id)))
        return ImportedSpans(self.run_id, self.spans, self.calls, self.joined, alone)

    def _ready(self, span: SpanRecord) -> SpanRecord:
        attributes: dict[str, Any] = dict(span.attributes)
        attributes |= present_names(span.name, attributes, span.events, parsed)
        secret = self._redact is not None and self._clean(attributes) != attributes
        attributes = self._clean(attributes)
        if operation(replace(span, attributes=attributes)) in CHATS:
            self.calls += 1
            attributes = self._with_call(replace(span, attributes=attributes), attributes, secret=secret)
        for key in CONTENT & attributes.keys():
            if not is_digest(attributes[key]):
                value = attributes[key]
                attributes[key] = self._store.blob(parsed(value) if isinstance(value, str) else _plain(value))
        if self._redact is None:
            return replace(span, attributes=attributes)
        told = None if span.status_message is None else self._redact(span.status_message)
        events = tuple(self._clean(event) for event in span.events)
        return replace(span, name=self._redact(span.name), attributes=attributes, status_message=told, events=events)

    def _with_call(self, span: SpanRecord, attributes: dict[str, Any], *, secret: bool) -> dict[str, Any]:
        answer = attributes.get(names.RESPONSE_ID)
        call = joined(self._store, answer, span) if isinstance(answer, str) else None
        if call is not None:
            self.joined += 1
            attributes = {**call.attributes, **attributes, names.CALL: call.call}
        if secret:
            attributes[names.REDACTED] = True
        if attributes.get(names.REDACTED):
            attributes.pop(names.TOKEN_IDS, None)
        return attributes

    def _clean(self, value: Any) -> Any:
        return value if self._redact is None else redacted(value, self._redact)


def import_file(
    store: Store, path: Path, *, run_id: str | None = None, redact: Redactor | None = None
) -> ImportedSpans:
    """Import a file of OTLP in JSON lines as a run of its own; doing so twice changes nothing.

    Args:
        store: open.
        path: as the file exporter of an OpenTelemetry collector writes it.
        run_id: of the run; `None` takes one from the content of the file.
        redact: as for `Importer`.

    Raises:
        orchestra.errors.InputError: when a line is not OTLP; nothing is imported then.
    """
    name = run_id or f"otlp-{sha256(path.read_bytes()).hexdigest()[:12]}"
    importer = Importer(store, path.name, run_id=name, redact=redact)
    parts = list(from_file(path, name))
    if store.run(name) is None:  # else these very spans are there already
        importer.add_all(parts)
    store.flush_sync()
    return importer.imported()


class StoreExporter(SpanExporter):
    """For an application that has Orchestra installed: an exporter to a store, in place of one to a collector.

    ```python
    provider.add_span_processor(BatchSpanProcessor(StoreExporter(Store.open())))
    ```

    Args:
        store: open; the application closes it.
        run_id: of the run; `None` makes a new one.
        redact: as for `Importer`.
    """

    def __init__(self, store: Store, *, run_id: str | None = None, redact: Redactor | None = None) -> None:
        self._store = store
        self._importer = Importer(store, "this process", run_id=run_id, redact=redact)
        self.run_id = self._importer.run_id
        """The run the spans are kept as."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write `spans`; whatever happens, the application goes on."""
        resources: dict[int, tuple[Mapping[str, Any], list[SpanRecord]]] = {}
        for span in spans:
            attributes = dict(span.resource.attributes) if span.resource else {}
            resources.setdefault(id(span.resource), (attributes, []))[1].append(record_of(span, self.run_id, None))
        try:
            for resource, records in resources.values():
                self._importer.add(resource, records)
            self._store.flush_sync()
        except (StoreFailed, ValueError):
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def imported(self) -> ImportedSpans:
        """What has come of it so far."""
        return self._importer.imported()

    def shutdown(self) -> None:
        """Nothing is held back, so there is nothing to do."""


def _plain(value: Any) -> Any:
    """`value` as JSON can say it: sequences of any kind as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
