"""OTLP as exporters and collectors write it, read into span records: protobuf, JSON, and files of JSON lines.

The JSON form has ids in hexadecimal, 64-bit numbers as text, and camel case. Protobuf is brought into that form first,
so that there is one reading of it. Every attribute is kept, whatever its type.
"""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from orchestra.errors import InputError, MissingExtra
from orchestra.traces.records import SpanRecord

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_KINDS: Final = ("internal", "internal", "server", "client", "producer", "consumer")
_KIND_NAMES: Final = {f"SPAN_KIND_{name.upper()}": name for name in _KINDS} | {"SPAN_KIND_UNSPECIFIED": "internal"}
_STATUSES: Final = {0: "unset", 1: "ok", 2: "error", "STATUS_CODE_OK": "ok", "STATUS_CODE_ERROR": "error"}

Resources = Iterable[tuple[dict[str, Any], list[SpanRecord]]]
"""Attributes of a resource, and the spans of it."""


def is_otlp(line: str) -> bool:
    """Whether a line of a file, or the beginning of a long one, is of OTLP in JSON."""
    return re.match(r'\s*\{\s*"resource_?[sS]pans"\s*:', line) is not None


def from_request(body: bytes, kind: str, encoding: str, run_id: str) -> list[tuple[dict[str, Any], list[SpanRecord]]]:
    """The spans of a request to `/v1/traces`.

    Args:
        body: as it came.
        kind: its media type.
        encoding: its content encoding; empty means none.
        run_id: of the run they are to belong to.

    Raises:
        InputError: when it is not OTLP.
        MissingExtra: when it is protobuf and nothing here reads that.
    """
    try:
        raw = {"": lambda: body, "gzip": lambda: gzip.decompress(body), "deflate": lambda: zlib.decompress(body)}[
            encoding.strip().lower().removeprefix("identity")
        ]()
        document = json.loads(raw) if kind.partition(";")[0].strip() == JSON else _from_protobuf(raw)
        return list(from_document(document, run_id))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, zlib.error) as cause:
        if isinstance(cause, InputError):
            raise
        raise InputError(f"this is not OTLP ({kind or 'no media type'}): {cause!r}") from cause


def from_file(path: Path, run_id: str) -> Iterator[tuple[dict[str, Any], list[SpanRecord]]]:
    """The spans of a file of OTLP in JSON, one request a line, as a collector's file exporter writes it.

    Raises:
        InputError: when a line is none; its number is in the message.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield from list(from_document(json.loads(line), run_id))
            except (ValueError, KeyError, TypeError, AttributeError) as cause:
                raise InputError(f"{str(path)!r}, line {number}: not OTLP in JSON: {cause!r}") from cause


def from_document(document: Mapping[str, Any], run_id: str) -> Iterator[tuple[dict[str, Any], list[SpanRecord]]]:
    """The spans of one request in OTLP's JSON form, by resource.

    Raises:
        ValueError: when it is not an object; other errors of its parts are as Python raises them.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"expected an object, got a {type(document).__name__}")
    for resource in _of(document, "resourceSpans", "resource_spans") or ():
        attributes = _attributes(_of(resource.get("resource") or {}, "attributes"))
        spans = [
            _record(span, str((scope.get("scope") or {}).get("name", "")), run_id)
            for scope in _of(resource, "scopeSpans", "scope_spans") or ()
            for span in scope.get("spans") or ()
        ]
        yield attributes, spans


def _record(span: Mapping[str, Any], scope: str, run_id: str) -> SpanRecord:
    trace_id, span_id = _id(_of(span, "traceId", "trace_id"), 32), _id(_of(span, "spanId", "span_id"), 16)
    if not trace_id or not span_id:
        raise ValueError(f"a span without its ids: {span.get('name')!r}")
    status = span.get("status") or {}
    code = status.get("code", 0)
    kind = span.get("kind", 1)
    return SpanRecord(
        run_id=run_id,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_id(_of(span, "parentSpanId", "parent_span_id") or "", 16) or None,
        name=str(span.get("name", "")),
        kind=_KIND_NAMES.get(kind, "internal") if isinstance(kind, str) else _KINDS[int(kind)],
        start_ns=int(_of(span, "startTimeUnixNano", "start_time_unix_nano") or 0),
        end_ns=int(_of(span, "endTimeUnixNano", "end_time_unix_nano") or 0),
        status=_STATUSES.get(code, "unset"),
        status_message=status.get("message") or None,
        attributes=_attributes(span.get("attributes")),
        events=tuple(
            {
                "name": event.get("name", ""),
                "at_ns": int(_of(event, "timeUnixNano", "time_unix_nano") or 0),
                "attributes": _attributes(event.get("attributes")),
            }
            for event in span.get("events") or ()
        ),
        links=tuple(
            {
                "trace_id": _id(_of(link, "traceId", "trace_id"), 32),
                "span_id": _id(_of(link, "spanId", "span_id"), 16),
                "attributes": _attributes(link.get("attributes")),
            }
            for link in span.get("links") or ()
        ),
        scope=scope,
    )


def _of(document: Mapping[str, Any], *keys: str) -> Any:
    return next((document[key] for key in keys if key in document), None)


def _id(value: Any, digits: int) -> str:
    """An id in hexadecimal; all zeros, as some write for none, is none."""
    text = str(value or "").lower()
    if text and (len(text) != digits or not set(text) <= set("0123456789abcdef")):
        raise ValueError(f"{value!r} is no id of {digits} hexadecimal digits")
    return text if text.strip("0") else ""


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value") or {}) for pair in pairs or ()}


def _value(value: Mapping[str, Any]) -> Any:
    """A value of any of OTLP's types; bytes become their base64, which JSON can say."""
    for key, inner in value.items():
        match key:
            case "stringValue" | "string_value" | "boolValue" | "bool_value" | "bytesValue" | "bytes_value":
                return inner
            case "intValue" | "int_value":
                return int(inner)
            case "doubleValue" | "double_value":
                return float(inner)
            case "arrayValue" | "array_value":
                return [_value(one) for one in inner.get("values") or ()]
            case "kvlistValue" | "kvlist_value":
                return _attributes(inner.get("values"))
    return None


def _from_protobuf(raw: bytes) -> dict[str, Any]:
    try:
        written: Any = import_module("google.protobuf.json_format")
        message: Any = import_module("google.protobuf.message")
        service: Any = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    except ImportError as cause:
        raise MissingExtra("proxy", "reading OTLP spans in protobuf") from cause
    try:
        request = service.ExportTraceServiceRequest.FromString(raw)
    except message.DecodeError as cause:
        raise ValueError(str(cause)) from cause
    document = cast("dict[str, Any]", written.MessageToDict(request))
    for resource in document.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                _hexadecimal(span)
                for link in span.get("links", ()):
                    _hexadecimal(link)
    return document


def _hexadecimal(holder: dict[str, Any]) -> None:
    """Ids, which protobuf's own JSON has in base64."""
    for key in ("traceId", "spanId", "parentSpanId"):
        if key in holder:
            holder[key] = base64.b64decode(holder[key]).hex()
