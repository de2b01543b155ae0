"""HTTP/1.1 on loopback, as little of it as a model server needs, driven by what arrives and by timers.

A reply is a generator of steps: bytes to send, a number of seconds to wait, or `HANG_UP`. Nothing runs while nothing is
due, so a server at rest costs nothing, and a peer that leaves closes the generator at once.
"""

import asyncio
import json
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

HANG_UP: Final = "hang up"
Step: TypeAlias = bytes | float | Literal["hang up"]
Steps: TypeAlias = Generator[Step, None, None]

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, complete."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def head(status: int, kind: str, *, length: int | None, more: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The head of an answer; without a length its body is chunked."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Answer')}", f"content-type: {kind}", size]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in more), "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a body; the empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """One peer; its requests are answered one after another.

    Args:
        reply: the steps of the answer to a request.
        open_ones: where it is listed while it is open.
    """

    def __init__(self, reply: Callable[[Asked], Steps], open_ones: set["Connection"]) -> None:
        self._reply, self._open_ones = reply, open_ones
        self._buffer = bytearray()
        self._steps: Steps | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer came."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_ones.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """A peer left: what was being said to it is not gone on with."""
        self._open_ones.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._steps is not None:
            self._steps.close()

    def data_received(self, data: bytes) -> None:
        """A peer said something."""
        self._buffer += data
        self._next()

    def close(self) -> None:
        """Leave the peer."""
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        while self._steps is None and self._transport is not None:
            asked = self._cut()
            if asked is None:
                return
            self._steps = self._reply(asked)
            self._drive()

    def _cut(self) -> Asked | None:
        """The first whole request of what arrived."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        whole = end + 4 + int(headers.get("content-length", "0"))
        if len(self._buffer) < whole:
            return None
        raw = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        method, path, _ = first.split(" ", 2)
        return Asked(method, path.partition("?")[0], headers, json.loads(raw) if raw else {})

    def _drive(self) -> None:
        """Go on with the answer until it waits or ends; what needs no wait between goes out together."""
        assert self._steps is not None
        self._timer = None
        out: list[bytes] = []
        for step in self._steps:
            if isinstance(step, bytes):
                out.append(step)
                continue
            self._send(out)
            if step == HANG_UP and self._transport is not None:
                self._transport.close()
            elif isinstance(step, int | float) and math.isfinite(step):
                self._timer = asyncio.get_running_loop().call_later(step, self._resume)
            return
        self._steps = None
        self._send(out)

    def _resume(self) -> None:
        self._drive()
        self._next()

    def _send(self, out: list[bytes]) -> None:
        if out and self._transport is not None:
            self._transport.write(b"".join(out))
