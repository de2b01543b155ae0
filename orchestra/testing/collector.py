"""A collector on loopback: takes spans over OTLP as a real one does, and can be told to be slow, full or deaf.

It runs in threads of its own, so that what sends to it may be another process, another thread or an event loop.
"""

import gzip
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class LoopbackCollector:
    """A context manager; inside it `url` is what `--otlp` takes.

    Args:
        statuses: of the answers, one per request in order; the last one repeats.
        rejected: spans of every batch it takes that it says it could not use.
        hangs: never answer.
        most_bytes: a larger request is answered with 413.
        headers: sent with every answer, such as `("retry-after", "1")`.
    """

    def __init__(
        self,
        statuses: Sequence[int] = (200,),
        *,
        rejected: int = 0,
        hangs: bool = False,
        most_bytes: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._statuses, self._rejected, self._most_bytes = tuple(statuses), rejected, most_bytes
        self._headers = tuple(headers)
        self._guard = threading.Lock()
        self._open = threading.Event()
        if not hangs:
            self._open.set()
        self._server: ThreadingHTTPServer | None = None
        self.url = ""
        """Such as `http://127.0.0.1:40123`; empty outside the context."""
        self.requests = 0
        """Requests that came in."""
        self.largest_bytes = 0
        """Of the largest request."""
        self.spans: list[Any] = []
        """Every span it took, decoded, in the order they came."""
        self.resources: list[dict[str, Any]] = []
        """Attributes of the resource of every batch it took."""

    def __enter__(self) -> Self:
        collector = self

        class Exchange(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Answer one batch."""
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                status, said = collector._answer(body)
                self.send_response(status)
                for name, value in collector._headers:
                    self.send_header(name, value)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

        self._server = _QuietServer(("127.0.0.1", 0), Exchange)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._open.set()
        self._server.shutdown()
        self._server.server_close()
        self.url = ""

    def attributes(self, name: str) -> list[dict[str, Any]]:
        """The attributes of every span of that name."""
        return [attributes_of(span) for span in self.spans if span.name == name]

    def _answer(self, body: bytes) -> tuple[int, bytes]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
            ExportTraceServiceResponse,
        )

        with self._guard:
            self.requests += 1
            self.largest_bytes = max(self.largest_bytes, len(body))
            status = self._statuses[min(self.requests, len(self._statuses)) - 1]
        self._open.wait(60)
        if self._most_bytes is not None and len(body) > self._most_bytes:
            return 413, b""
        answer = ExportTraceServiceResponse()
        if status != 200:
            return status, b""
        batch = ExportTraceServiceRequest.FromString(body)
        with self._guard:
            for group in batch.resource_spans:
                self.resources.append({entry.key: _plain(entry.value) for entry in group.resource.attributes})
                self.spans.extend(span for scope in group.scope_spans for span in scope.spans)
        answer.partial_success.rejected_spans = self._rejected
        return 200, answer.SerializeToString()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that went away is none of the collector's business."""


def attributes_of(span: Any) -> dict[str, Any]:
    """The attributes of a span of the protocol as plain values."""
    return {entry.key: _plain(entry.value) for entry in span.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    held = getattr(value, kind) if kind else None
    return [_plain(item) for item in value.array_value.values] if kind == "array_value" else held
