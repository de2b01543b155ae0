"""What the proxy takes for itself: telemetry that an application sends to the same address as its calls.

Spans are imported; metrics and logs are taken and dropped, so that an exporter of them has nothing to complain about.
"""

import asyncio
from collections.abc import Mapping

from orchestra.errors import InputError
from orchestra.proxy.asking import compact
from orchestra.proxy.relay import Answer, Receiver, Scope
from orchestra.traces.importing import Importer
from orchestra.traces.importing_otlp import JSON, PROTOBUF, from_request
from orchestra.traces.store import Store, StoreFailed


def receivers(importer: Importer, store: Store) -> Mapping[tuple[str, str], Receiver]:
    """What answers the paths of OTLP over HTTP.

    Args:
        importer: takes the spans.
        store: what it imports into.
    """

    def take(body: bytes, kind: str, encoding: str) -> None:
        for resource, spans in from_request(body, kind, encoding, importer.run_id):
            importer.add(resource, spans)
        store.flush_sync()

    async def spans(scope: Scope, body: bytes) -> Answer:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        kind = headers.get(b"content-type", "")
        try:
            await asyncio.to_thread(take, body, kind, headers.get(b"content-encoding", ""))
        except (InputError, ValueError) as cause:
            return _refused(400, str(cause))
        except StoreFailed as cause:
            return _refused(503, str(cause))
        return _taken(kind)

    async def others(scope: Scope, body: bytes) -> Answer:
        return _taken(dict(scope["headers"]).get(b"content-type", b"").decode("latin-1"))

    return {("POST", "/v1/traces"): spans, ("POST", "/v1/metrics"): others, ("POST", "/v1/logs"): others}


def _taken(kind: str) -> Answer:
    """An empty message, in the form of the request."""
    is_json = kind.partition(";")[0].strip() == JSON
    return Answer(200, JSON.encode() if is_json else PROTOBUF.encode(), b"{}" if is_json else b"")


def _refused(status: int, message: str) -> Answer:
    return Answer(status, JSON.encode(), compact({"code": status, "message": message}))
