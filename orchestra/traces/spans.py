"""Spans of our own: an OpenTelemetry provider nobody else's settings reach, written to the store as each span ends.

The provider is private: every span is sampled, nothing is cut short, no `OTEL_*` variable is heeded, and the parent of
a span is kept in a context variable of ours, so that instrumentation around or inside a run neither breaks its tree nor
joins it. A span of such a foreign tracer that is current when one of ours begins becomes a link.
"""

import asyncio
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from hashlib import sha256
from types import MappingProxyType, TracebackType
from typing import Any, Final, Protocol, Self

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from orchestra.traces import names
from orchestra.traces.records import Attribute, SpanRecord
from orchestra.traces.redaction import Redactor, redacted, redacted_attributes
from orchestra.traces.store import Store

_KINDS: Final = {
    "internal": trace_api.SpanKind.INTERNAL,
    "client": trace_api.SpanKind.CLIENT,
    "server": trace_api.SpanKind.SERVER,
    "producer": trace_api.SpanKind.PRODUCER,
    "consumer": trace_api.SpanKind.CONSUMER,
}
# By identity: hashing a member of an enumeration costs as much as writing one of its attributes.
_KIND_NAMES: Final = {id(kind): name for name, kind in _KINDS.items()}
_STATUSES: Final = {
    id(trace_api.StatusCode.UNSET): "unset",
    id(trace_api.StatusCode.OK): "ok",
    id(trace_api.StatusCode.ERROR): "error",
}
_CANCELLED: Final = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)
_NO_LIMITS: Final = SpanLimits(*[SpanLimits.UNSET] * 8)
_INHERITED: Final = frozenset(names.INHERITED)
_NOWHERE: Final = Context()
"""A context without a span: given explicitly, or the SDK would look at the ambient one."""

_current: ContextVar["Span | None"] = ContextVar("orchestra_span", default=None)


class Exporting(Protocol):
    """Where ended spans also go; `orchestra.traces.otlp.Exporter` sends them to a collector."""

    wants_content: bool
    """Whether content is to be handed over with the spans."""

    def offer(self, record: SpanRecord, content: Mapping[str, Any]) -> None:
        """Take a span as the store got it, after the redactor; never waits and never fails."""


def current_span() -> "Span | None":
    """The innermost span of ours around the caller; `None` outside of any."""
    return _current.get()


def trace_id_of(run_id: str) -> int:
    """The trace id of a run: the same for every attempt at it, in whatever process."""
    return int.from_bytes(sha256(f"orchestra run {run_id}".encode()).digest()[:16]) or 1


class Tracer:
    """Makes the spans of one run.

    Args:
        store: where each span goes as it ends.
        run_id: the run they belong to; it also gives the trace id, so that a resumed run continues its trace.
        redact: shown every text before it reaches the store.
        export: is offered each span besides, as the store gets it; `None` exports none.
    """

    def __init__(
        self, store: Store, run_id: str, *, redact: Redactor | None = None, export: Exporting | None = None
    ) -> None:
        self.run_id = run_id
        self.trace_id = f"{trace_id_of(run_id):032x}"
        """32 hexadecimal digits, of every span of the run."""
        self.root: Span | None = None
        """Parent of spans that begin outside of any of the run's, as in a thread of the caller's."""
        self._store = store
        self._redact = redact
        self.watchers: list[Callable[[SpanRecord], None]] = []
        """Shown every span as the store gets it, when it ends; they must not raise."""
        self._contents: dict[int, dict[str, object]] | None = {} if export and export.wants_content else None
        resource = Resource({"service.name": "orchestra", names.RUN_ID: run_id, names.NAMES_VERSION: names.VERSION})
        provider = _PrivateProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
            id_generator=_RunIds(run_id),
            span_limits=_NO_LIMITS,
            meter_provider=NoOpMeterProvider(),
        )
        provider.add_span_processor(
            _StoreProcessor(store, run_id, resource, redact, export, self._contents, self.watchers)
        )
        self._otel = provider.get_tracer("orchestra")

    def span(
        self, name: str, kind: str = "internal", attributes: Mapping[str, Attribute | None] | None = None
    ) -> "Span":
        """A span that begins when it is entered and ends, whatever happens, when it is left.

        Args:
            name: as `orchestra.traces.names` spells it.
            kind: `internal`, `client`, `server`, `producer` or `consumer`.
            attributes: known at its beginning; `None` means not known and is left out.
        """
        return Span(self, name, kind, attributes)


class Span:
    """One span of ours; a context manager. It is current for whatever is started inside of it, tasks included."""

    __slots__ = (
        "_around",
        "_attributes",
        "_content",
        "_foreign",
        "_inherited",
        "_kind",
        "_late",
        "_name",
        "_otel",
        "_parent",
        "_recorded",
        "_token",
        "_tracer",
        "id",
        "trace_id",
    )

    def __init__(self, tracer: Tracer, name: str, kind: str, attributes: Mapping[str, Attribute | None] | None) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = _KINDS[kind]
        self._attributes = attributes
        self._content: dict[str, object] | None = None
        self._late: dict[str, Attribute] = {}
        self._inherited: dict[str, Attribute] = {}
        self._foreign = 0
        self._around: Context | None = None
        self._recorded: BaseException | None = None
        self._parent: Span | None = None
        self._token: Token[Span | None] | None = None
        self.id = ""
        """16 hexadecimal digits; empty before the span is entered."""
        self.trace_id = ""
        """32 hexadecimal digits; empty before the span is entered."""

    def __enter__(self) -> Self:
        links, context = self._links(_current.get())
        attributes = self._inherited.copy()
        if self._attributes:
            for key, value in self._attributes.items():
                if value is not None:
                    attributes[key] = value
            if not _INHERITED.isdisjoint(self._attributes):  # else the parent's serves, and is never changed
                self._inherited = {key: attributes[key] for key in names.INHERITED if key in attributes}
        self._otel = self._tracer._otel.start_span(self._name, context, self._kind, attributes, links)
        self.id = f"{self._otel.get_span_context().span_id:016x}"
        self.trace_id = self._tracer.trace_id
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._token is not None:
                _current.reset(self._token)
        except ValueError:
            pass  # left in another context, as a generator closed by the garbage collector is
        if error is not None:
            self.fail(error)
        if self._content:
            self._redact_content()
        if self._late:
            self._otel.set_attributes(self._late)
        self._otel.end()

    def set(self, key: str, value: Attribute | None) -> None:
        """Set an attribute; `None` means not known and sets nothing."""
        if value is None:
            return
        self._late[key] = value
        if key in names.INHERITED:
            self._inherited = {**self._inherited, key: value}

    def content(self, key: str, content: object) -> None:
        """Keep `content` (bytes, or anything JSON can say) in the store and its digest as an attribute.

        Raises:
            ValueError: when it is neither.
        """
        tracer = self._tracer
        if tracer._redact is None:
            self._late[key] = tracer._store.blob(content)
            if tracer._contents is not None:
                tracer._contents.setdefault(self._span_id, {})[key] = content
        elif self._content is None:
            self._content = {key: content}
        else:
            self._content[key] = content

    def fail(self, error: BaseException) -> None:
        """Mark the span as failed by `error`, which need not be raised."""
        cancelled = isinstance(error, _CANCELLED)
        message = "cancelled" if cancelled else str(error) or type(error).__name__
        self._otel.set_status(trace_api.StatusCode.ERROR, message)
        self._late[names.ERROR_TYPE] = type(error).__qualname__
        if error is not self._recorded and not cancelled:
            # Once, on the span it came from; the spans around it only tell that they failed.
            stack = "".join(traceback.format_exception(error))
            details = {"exception.type": type(error).__qualname__, "exception.message": message}
            self._otel.add_event("exception", {**details, "exception.stacktrace": stack})
        if self._parent is not None:
            self._parent._recorded = error

    def _links(self, current: "Span | None") -> tuple[list[trace_api.Link], Context]:
        """Links and parent context: ours of this run is the parent, everything else is linked to."""
        links = []
        context = _NOWHERE
        parent = current
        if current is None or current._tracer.run_id != self._tracer.run_id:
            parent = self._tracer.root
            if current is not None:
                links.append(trace_api.Link(current._otel.get_span_context()))
        if parent is not None:
            self._parent = parent
            self._inherited = parent._inherited
            self._foreign = parent._foreign
            context = parent._inside()
        around = trace_api.get_current_span()
        if around is not trace_api.INVALID_SPAN:
            ambient = around.get_span_context()
            if ambient.is_valid and ambient.span_id != self._foreign:
                # Once where it comes in, and not from every span below.
                links.append(trace_api.Link(ambient))
                self._foreign = ambient.span_id
        return links, context

    @property
    def _span_id(self) -> int:
        return self._otel.get_span_context().span_id

    def _inside(self) -> Context:
        """The context of whatever this span is the parent of."""
        if self._around is None:
            self._around = trace_api.set_span_in_context(self._otel, _NOWHERE)
        return self._around

    def _redact_content(self) -> None:
        redact = self._tracer._redact
        assert redact is not None
        assert self._content is not None
        clean = {key: redacted(content, redact) for key, content in self._content.items()}
        changed = clean != self._content
        for attributes in (dict(self._attributes or {}), self._late):
            changed = changed or redacted_attributes(attributes, redact) != attributes
        if changed:
            self._late[names.REDACTED] = True
            clean.pop(names.TOKEN_IDS, None)
        for key, content in clean.items():
            self._late[key] = self._tracer._store.blob(content)
        if self._tracer._contents is not None:
            self._tracer._contents[self._span_id] = clean


class _PrivateProvider(TracerProvider):
    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]  # handed on as they came, for the SDK's own constructor
        self._disabled = False  # whatever OTEL_SDK_DISABLED says


class _RunIds(IdGenerator):
    def __init__(self, run_id: str) -> None:
        self._trace_id = trace_id_of(run_id)
        self._bits = random.Random()  # seeded by the system; asking it for every span costs 7 µs

    def generate_span_id(self) -> int:
        return self._bits.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return self._trace_id


class _StoreProcessor(SpanProcessor):
    """Writes each span as it ends; loses none, because a store that cannot write makes the run fail."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        resource: Resource,
        redact: Redactor | None,
        export: Exporting | None,
        contents: dict[int, dict[str, object]] | None,
        watchers: Sequence[Callable[[SpanRecord], None]],
    ) -> None:
        self._watchers = watchers
        self._export = export
        self._contents = contents
        self._store = store
        self._run_id = run_id
        self._resource = store.blob(dict(resource.attributes))
        self._redact = redact

    def on_end(self, span: ReadableSpan) -> None:
        record = record_of(span, self._run_id, self._resource)
        if self._redact is not None:
            record = _redacted_record(record, self._redact)
        self._store.post(record)
        for watch in self._watchers:
            watch(record)
        if self._export is not None:
            context = span.context
            kept = None if self._contents is None or context is None else self._contents.pop(context.span_id, None)
            self._export.offer(record, kept or {})


def record_of(span: ReadableSpan, run_id: str, resource: str | None) -> SpanRecord:
    """The record of an ended span of any tracer."""
    context, parent, status, scope = span.context, span.parent, span.status, span.instrumentation_scope
    assert context is not None
    events, links = span.events, span.links
    return SpanRecord(
        run_id=run_id,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=None if parent is None else f"{parent.span_id:016x}",
        name=span.name,
        kind=_KIND_NAMES[id(span.kind)],
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        status=_STATUSES[id(status.status_code)],
        status_message=status.description,
        attributes=_copied(span.attributes),
        events=tuple(
            {"name": event.name, "at_ns": event.timestamp, "attributes": dict(event.attributes or {})}
            for event in events
        )
        if events
        else (),
        links=tuple(
            {
                "trace_id": f"{link.context.trace_id:032x}",
                "span_id": f"{link.context.span_id:016x}",
                "attributes": dict(link.attributes or {}),
            }
            for link in links
        )
        if links
        else (),
        scope=scope.name if scope else "",
        resource=resource,
    )


def _copied(attributes: Mapping[str, object] | None) -> dict[str, Attribute]:
    # The proxy's own `copy` takes the SDK's lock once, where `dict` takes it for every item.
    copied = attributes.copy() if isinstance(attributes, MappingProxyType) else dict(attributes or {})
    return copied  # type: ignore[return-value]  # the SDK let nothing else in


def _redacted_record(record: SpanRecord, redact: Redactor) -> SpanRecord:
    attributes = redacted_attributes(record.attributes, redact)
    return SpanRecord(
        run_id=record.run_id,
        trace_id=record.trace_id,
        span_id=record.span_id,
        parent_id=record.parent_id,
        name=redact(record.name),
        kind=record.kind,
        start_ns=record.start_ns,
        end_ns=record.end_ns,
        status=record.status,
        status_message=None if record.status_message is None else redact(record.status_message),
        attributes=attributes,  # type: ignore[arg-type]  # redacting keeps types
        events=tuple(redacted(event, redact) for event in record.events),  # type: ignore[misc]  # as above
        links=record.links,
        scope=record.scope,
        resource=record.resource,
    )
