"""The proxy itself, as an ASGI application: every request goes on to the upstream, and its answer back.

Calls of a model are heard on the way; everything else passes as it is, piece by piece. The client sees the upstream's
status, headers and cuts. When the client leaves, the request to the upstream is ended; when the upstream cannot be
reached, the client is told with status 502.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import httpx

from orchestra.proxy.asking import Asked, augmented, compact, operation_of, read_request, stripped
from orchestra.proxy.keeping import Call, Keeper, trace_parent
from orchestra.proxy.sieve import Sieve

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CONNECT_SECONDS = 30.0
"""How long to try to reach the upstream. For its answer the client decides how long to wait."""

IDLE_SECONDS = 4.0
"""Connections unused for so long are closed; servers of the usual kind close theirs after 5."""

EPISODES = "/episode/"
"""Before the path of a call, and followed by a name: calls of one name are one episode. For applications that send no
spans: `OPENAI_BASE_URL=http://127.0.0.1:8100/episode/task-7/v1`."""

_OF_ONE_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade host "
    b"content-length expect".split()
)
_REFUSALS = (400, 422)
"""How a server says that it does not know what we asked for besides."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the proxy's own."""

    status: int
    kind: bytes
    """Media type."""
    body: bytes


class _Unreached(Exception):
    """The upstream gave no answer."""


Receiver = Callable[[Scope, bytes], Awaitable[Answer]]
"""Answers a request of the given body."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests go on to.

    Args:
        url: of the server, or of its API as clients write it (`.../v1`).
    """

    url: str

    def address(self, path: str, query: bytes) -> str:
        """Where a request to `path` of the proxy goes on to."""
        base = self.url.rstrip("/")
        whole = httpx.URL(base).path in ("", "/")
        if whole or not path.startswith("/v1/"):
            target = (base.removesuffix("/v1") if not whole else base) + path
        else:
            target = base + path.removeprefix("/v1")
        return f"{target}?{query.decode('latin-1')}" if query else target

    @property
    def host(self) -> tuple[str, int | None]:
        """Host and port."""
        url = httpx.URL(self.url)
        return url.host, url.port


class Relay:
    """An ASGI application.

    Args:
        upstream: the server that answers.
        keeper: writes the calls down.
        client: reaches the upstream.
        receivers: what answers a path itself, in place of the upstream: from method and path to an application.
    """

    def __init__(
        self,
        upstream: Upstream,
        keeper: Keeper,
        client: httpx.AsyncClient,
        receivers: Mapping[tuple[str, str], Receiver] | None = None,
    ) -> None:
        self._upstream = upstream
        self._keeper = keeper
        self._client = client
        self._receivers = receivers or {}
        self._plain: set[tuple[str, frozenset[str]]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body = await _whole_body(receive)
        if body is None:
            return
        working = asyncio.ensure_future(self._answer(scope, body, send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not working.done():
                working.cancel()
            results = await asyncio.gather(working, leaving, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        path, episode = _without_episode(_raw_path(scope))
        scope = {**scope, "path": path}
        receiver = self._receivers.get((scope["method"], path))
        if receiver is not None:
            answer = await receiver(scope, body)
            await _send_whole(send, answer.status, [(b"content-type", answer.kind)], answer.body)
            return
        operation = operation_of(path) if scope["method"] == "POST" else None
        asked = read_request(operation, body) if operation else None
        try:
            if asked is None:
                await self._pass_on(scope, body, send)
            else:
                await self._relay(scope, asked, body, send, episode)
        except _Unreached as cause:
            refusal = {"message": str(cause), "type": "upstream_unreachable", "param": None, "code": 502}
            await _send_whole(send, 502, [(b"content-type", b"application/json")], compact({"error": refusal}))

    async def _pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        response = await self._ask(scope, body, _passed(scope["headers"]))
        async with aclosing(response):
            await _send_head(send, response.status_code, _passed(response.headers.raw, length=True))
            try:
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except httpx.HTTPError:
                return  # cut short; not ending the answer makes the server close the connection, as the upstream did
            await send({"type": "http.response.body", "body": b""})

    async def _relay(self, scope: Scope, asked: Asked, body: bytes, send: Send, episode: str | None) -> None:
        trace_id, parent_id = trace_parent(dict(scope["headers"]))
        call = Call(asked, trace_id=trace_id, parent_id=parent_id, episode=episode)
        try:
            response, more = await self._ask_for_more(scope, asked, body)
            async with aclosing(response):
                call.status = response.status_code
                streams = response.headers.get("content-type", "").startswith("text/event-stream")
                if streams and response.status_code < 400:
                    await self._relay_stream(call, response, send, more=more)
                else:
                    await self._relay_document(call, response, send, more=more)
        except _Unreached as cause:
            call.fail("Unreachable", str(cause))
            raise
        except asyncio.CancelledError:
            if not call.heard.complete:
                call.fail("ClientLeft", "the client left before the answer was complete")
            raise
        finally:
            self._keeper.keep_soon(call)

    async def _ask_for_more(self, scope: Scope, asked: Asked, body: bytes) -> tuple[httpx.Response, bool]:
        """The answer to `asked` with ids and log-probabilities, and whether that is what was asked.

        A server that refuses what it does not know is asked again without; what it refused was not served.
        """
        headers = [pair for pair in _passed(scope["headers"]) if pair[0] != b"accept-encoding"]
        shape = (str(asked.body.get("model")), frozenset(asked.body))
        if asked.plain or shape in self._plain:
            return await self._ask(scope, body, headers), False
        response = await self._ask(scope, augmented(asked), headers)
        if response.status_code not in _REFUSALS:
            return response, True
        async with aclosing(response):
            pass
        again = await self._ask(scope, body, headers)
        if again.status_code not in _REFUSALS:
            self._plain.add(shape)
        return again, False

    async def _relay_document(self, call: Call, response: httpx.Response, send: Send, *, more: bool) -> None:
        try:
            raw = await response.aread()
        except httpx.HTTPError as cause:
            call.fail("CutShort", f"the upstream hung up in the middle of its answer: {cause!r}")
            raise _Unreached(f"{call.error}; ask again") from cause
        document = _document(response)
        if document is not None:
            call.heard.hear(document)
        if response.status_code >= 400:
            call.fail(str(response.status_code), call.heard.error or f"the upstream answered {response.status_code}")
        elif document is None:
            call.fail("Malformed", "the upstream's answer is not a JSON object")
        elif not call.heard.choices:
            call.fail("Malformed", "the upstream's answer has no choices")
        elif more:
            raw = compact(stripped(document, call.asked))
        await self._keeper.keep(call)
        headers = [pair for pair in _passed(response.headers.raw) if pair[0].lower() != b"content-encoding"]
        await _send_whole(send, response.status_code, headers, raw)

    async def _relay_stream(self, call: Call, response: httpx.Response, send: Send, *, more: bool) -> None:
        headers = [pair for pair in _passed(response.headers.raw) if pair[0].lower() != b"content-encoding"]
        await _send_head(send, response.status_code, headers)
        sieve = Sieve(call.asked, call.heard, more=more)
        try:
            async for out in _sifted(response, sieve):
                if call.first_ns is None and call.heard.choices:
                    call.first_ns = time.time_ns()
                if sieve.done:  # before its last piece goes on: whoever has it all may ask for the record
                    _note_end(call)
                    await self._keeper.keep(call)
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
        except httpx.HTTPError as cause:
            if rest := sieve.rest():
                await send({"type": "http.response.body", "body": rest, "more_body": True})
            call.fail("CutShort", f"the upstream hung up in the middle of its answer: {cause!r}")
            return  # as above: the client sees the cut as well
        _note_end(call)
        await self._keeper.keep(call)
        await send({"type": "http.response.body", "body": b""})

    async def _ask(self, scope: Scope, body: bytes, headers: Headers) -> httpx.Response:
        address = self._upstream.address(scope["path"], scope["query_string"])
        request = httpx.Request(scope["method"], address, headers=headers, content=body or None)
        try:
            return await self._client.send(request, stream=True)
        except httpx.HTTPError as cause:
            what = str(cause) or type(cause).__name__
            raise _Unreached(f"the upstream {self._upstream.url!r} did not answer: {what}; is it running?") from cause


def _note_end(call: Call) -> None:
    if call.heard.error is not None:
        call.fail("StreamError", call.heard.error)
    elif not call.heard.complete:
        call.fail("CutShort", "the stream ended before the answer was complete")


async def _sifted(response: httpx.Response, sieve: Sieve) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_bytes():
        yield sieve.feed(chunk)
    yield sieve.rest()


async def _whole_body(receive: Receive) -> bytes | None:
    """The body of a request; `None` when the client left before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _raw_path(scope: Scope) -> str:
    """The path as the client wrote it: `%2F` inside a name is no slash."""
    raw = scope.get("raw_path")
    return raw.decode("latin-1") if raw else quote(scope["path"])


def _without_episode(path: str) -> tuple[str, str | None]:
    """A path as it was written without `/episode/NAME` before it, and that name."""
    if not path.startswith(EPISODES):
        return path, None
    name, slash, rest = path.removeprefix(EPISODES).partition("/")
    return (f"/{rest}", unquote(name)) if name and slash else (path, None)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_head(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await _send_head(send, status, [*headers, (b"content-length", str(len(body)).encode())])
    await send({"type": "http.response.body", "body": body})


def _passed(headers: Iterable[tuple[bytes, bytes]], *, length: bool = False) -> Headers:
    """The headers that are not about one connection alone, as they came."""
    kept = _OF_ONE_HOP - {b"content-length"} if length else _OF_ONE_HOP
    return [(name, value) for name, value in headers if name.lower() not in kept]


def _document(response: httpx.Response) -> dict[str, Any] | None:
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
