"""HTTP to one server: the only module of the package that imports httpx.

One pool of connections, no redirects, no cookies, no proxies from the environment, no retries: a retry is a new call
with a reservation of its own. Time limits are the caller's (`asyncio.timeout`), so that one deadline covers connecting,
waiting and reading. Idle connections are given up before the server gives them up (vLLM: after 5 s), since a request
sent down a connection that is just being closed is lost without anybody knowing whether it was served.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

import httpx

from orchestra.errors import ModelError

KEEP_SECONDS = 3.0
"""An idle connection is closed after this."""

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_SECONDS)
_NO_TIME_LIMIT = {"timeout": httpx.Timeout(None).as_dict()}


class Answer:
    """An answer whose body has not been read yet; an async context manager that gives its connection back."""

    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._response.stream.aclose()  # type: ignore[union-attr]  # a transport's streams are async

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes in."""
        return self._response.stream.__aiter__()  # type: ignore[union-attr]  # a transport's streams are async

    async def body(self) -> bytes:
        """All of the body."""
        return b"".join([chunk async for chunk in self.chunks()])


class Connection:
    """One server, from any event loop, one loop at a time.

    Args:
        url: root of the server, without `/v1`.
        api_key: sent as a bearer token; `None` sends none.
        name: for messages of errors.
    """

    def __init__(self, url: str, *, api_key: str | None = None, name: str | None = None) -> None:
        self.url, self.name = url, name or url
        root = httpx.URL(url)
        self._root = root
        self._headers = {"host": root.netloc.decode("ascii"), "accept-encoding": "identity"}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._urls: dict[str, httpx.URL] = {}
        self._transport: httpx.AsyncHTTPTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, method: str, path: str, content: bytes = b"") -> Answer:
        """The answer to one request, its body unread.

        Raises:
            ModelError: nothing answers, or the connection broke.
        """
        try:
            return Answer(await self._pool().handle_async_request(self._request(method, path, content)))
        except httpx.HTTPError as cause:
            raise self.broken(cause) from cause

    async def ask(self, method: str, path: str, content: bytes = b"") -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one request.

        Raises:
            ModelError: nothing answers, or the connection broke.
        """
        try:
            async with await self.send(method, path, content) as answer:
                return answer.status, answer.headers, await answer.body()
        except httpx.HTTPError as cause:
            raise self.broken(cause) from cause

    def ask_now(self, method: str, path: str, content: bytes = b"", *, seconds: float) -> tuple[int, bytes]:
        """Status and body of one request, while everything else in this thread waits.

        Raises:
            ModelError: nothing answers within `seconds`.
        """
        try:
            with httpx.HTTPTransport(limits=_LIMITS) as transport:
                request = self._request(method, path, content, timeout=httpx.Timeout(seconds).as_dict())
                response = transport.handle_request(request)
                try:
                    return response.status_code, response.read()
                finally:
                    response.close()
        except httpx.HTTPError as cause:
            raise self.broken(cause) from cause

    def broken(self, cause: Exception) -> ModelError:
        """What `cause`, raised by httpx, means."""
        if isinstance(cause, httpx.ConnectError):
            hint = f"no server answers at {self.url}; start one: orchestra serve MODEL"
        elif isinstance(cause, httpx.TimeoutException):
            hint = f"the server at {self.url} did not answer in time; is it busy or still starting?"
        else:
            hint = f"the connection to {self.url} broke; what was asked may have been served"
        # What was never connected was never served; after that nobody knows.
        served = False if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout) else None
        return ModelError(f"{self.name}: {hint} ({type(cause).__name__}: {cause})", retryable=True, served=served)

    async def close(self) -> None:
        """Close its connections; the next request opens new ones."""
        transport, self._transport = self._transport, None
        if transport is not None and self._loop is asyncio.get_running_loop():
            await transport.aclose()

    def _pool(self) -> httpx.AsyncHTTPTransport:
        loop = asyncio.get_running_loop()
        if self._transport is None or self._loop is not loop:
            # Connections belong to the loop they were opened in.
            self._transport, self._loop = httpx.AsyncHTTPTransport(limits=_LIMITS), loop
        return self._transport

    def _request(
        self, method: str, path: str, content: bytes, *, timeout: dict[str, float | None] | None = None
    ) -> httpx.Request:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self._root.copy_with(raw_path=(self._root.path.rstrip("/") + path).encode())
        headers = dict(self._headers)
        if content:
            headers["content-type"] = "application/json"
        extensions = _NO_TIME_LIMIT if timeout is None else {"timeout": timeout}
        return httpx.Request(method, url, headers=headers, content=content, extensions=extensions)


BROKEN = httpx.HTTPError
"""What reading a body raises when the connection breaks."""
