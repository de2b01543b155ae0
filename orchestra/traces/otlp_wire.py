"""The wire to a collector: records as OTLP over HTTP, by OpenTelemetry's own exporter.

That exporter encodes, compresses, authenticates and retries as the `OTEL_EXPORTER_OTLP_*` variables say. What it does
not tell is why a batch failed and how many spans of an accepted one were rejected; the session underneath is listened
to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from orchestra.traces import names, openinference
from orchestra.traces.records import SpanRecord

_NOT_SENT: Final = "could not be encoded"
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """How a collector took one batch."""

    reason: str | None = None
    """Why it took none of it; `None` when it took it."""
    rejected: int = 0
    """Spans of a batch it took that it could not use."""
    too_large: bool = False
    """Whether a smaller batch may be taken."""


class _Listening(requests.Session):
    """A session that remembers how its last request went."""

    def __init__(self) -> None:
        super().__init__()
        self.last = Posted()

    def send(self, request: requests.PreparedRequest, **chosen: Any) -> requests.Response:
        try:
            answer = super().send(request, **chosen)
        except requests.Timeout:
            self.last = Posted(reason="were not answered in time")
            raise
        except requests.RequestException as error:
            self.last = Posted(reason=f"found no collector ({type(error).__name__})")
            raise
        self.last = _heard(answer)
        return answer


class OtlpWire:
    """An open wire.

    Args:
        url: full address, path included.
        timeout_seconds: of one batch, its retries included.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._session = _Listening()
        self._exporter = OTLPSpanExporter(url, timeout=timeout_seconds, session=self._session)
        self._resources: dict[str, Resource] = {}
        self._closed = False

    def post(self, spans: Iterable[SpanRecord]) -> Posted:
        """How the collector took `spans`, after the exporter's retries."""
        self._session.last = Posted(reason=_NOT_SENT)
        done = self._exporter.export([self._readable(span) for span in spans])
        last = self._session.last
        if done is SpanExportResult.SUCCESS:
            return last if last.reason is None else Posted()
        return last if last.reason is not None else Posted(reason="were refused")

    @property
    def refused(self) -> str | None:
        """Why the collector did not take what it was sent last, though that may be tried again; `None` if it did."""
        last = self._session.last
        return None if last.reason == _NOT_SENT or last.too_large else last.reason

    def close(self) -> None:
        """Stop trying again."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the exporter's own lack

    def _readable(self, record: SpanRecord) -> ReadableSpan:
        trace_id = int(record.trace_id, 16)
        parent = None if record.parent_id is None else _context(trace_id, record.parent_id)
        return ReadableSpan(
            name=_plain(record.name),
            context=_context(trace_id, record.span_id),
            parent=parent,
            resource=self._resource(record.run_id),
            attributes={_plain(key): _plain_value(value) for key, value in record.attributes.items()},
            events=[_event(event) for event in record.events],
            links=[_link(link) for link in record.links],
            kind=SpanKind[record.kind.upper()],
            status=Status(StatusCode[record.status.upper()], _message(record)),
            start_time=record.start_ns,
            end_time=record.end_ns,
            instrumentation_scope=InstrumentationScope(record.scope or "orchestra"),
        )

    def _resource(self, run_id: str) -> Resource:
        """What the user's `OTEL_RESOURCE_ATTRIBUTES` say of the process, over what we say."""
        if run_id not in self._resources:
            ours = {
                "service.name": "orchestra",
                openinference.PROJECT_NAME: "orchestra",
                names.RUN_ID: run_id,
                names.NAMES_VERSION: names.VERSION,
            }
            self._resources[run_id] = Resource(ours).merge(OTELResourceDetector().detect())
        return self._resources[run_id]


def _heard(answer: requests.Response) -> Posted:
    if answer.status_code == requests.codes.request_entity_too_large:
        return Posted(reason="were too large (413)", too_large=True)
    if not answer.ok:
        return Posted(reason=f"were refused ({answer.status_code})")
    response = ExportTraceServiceResponse()
    try:
        response.ParseFromString(answer.content)
    except Exception:  # the boundary: a collector may answer with anything, and it did take them
        return Posted()
    return Posted(rejected=response.partial_success.rejected_spans)


def _context(trace_id: int, span_id: str) -> SpanContext:
    return SpanContext(trace_id, int(span_id, 16), is_remote=False, trace_flags=_SAMPLED)


def _message(record: SpanRecord) -> str | None:
    return _plain(record.status_message) if record.status == "error" and record.status_message else None


def _event(event: Mapping[str, Any]) -> Event:
    attributes = {_plain(key): _plain_value(value) for key, value in (event.get("attributes") or {}).items()}
    return Event(_plain(str(event.get("name", ""))), attributes, timestamp=int(event.get("at_ns") or 0))


def _link(link: Mapping[str, Any]) -> Link:
    attributes = {_plain(key): _plain_value(value) for key, value in (link.get("attributes") or {}).items()}
    return Link(_context(int(link["trace_id"], 16), link["span_id"]), attributes)


def _plain(text: str) -> str:
    """`text` without what UTF-8 cannot say: a model can produce half of a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain_value(value: Any) -> Any:
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    return value
