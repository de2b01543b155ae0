"""A stream of server-sent events on its way to the client: heard, and rid of what the client did not ask for.

Events that are not understood pass unchanged, and so do the bytes after the last whole event.
"""

import json
from collections.abc import Iterator
from typing import Any

from orchestra.proxy.asking import Asked, compact, is_for_us, stripped
from orchestra.proxy.hearing import Heard

_END = b"[DONE]"


class Sieve:
    """Takes bytes as they come and gives those to pass on.

    Args:
        asked: what the client asked for.
        heard: what takes the answer in.
        more: whether we asked for more than the client did.
    """

    def __init__(self, asked: Asked, heard: Heard, *, more: bool) -> None:
        self._asked = asked
        self._heard = heard
        self._more = more
        self._waiting = b""
        self._last: dict[str, Any] | None = None
        self.done = False
        """The server said that was all."""

    def feed(self, chunk: bytes) -> bytes:
        """What of `chunk`, and of what waited for its end, can go on now."""
        self._waiting += chunk
        return b"".join(out for event in self._events() for out in self._passed(event))

    def rest(self) -> bytes:
        """What is left when the stream is over."""
        left, self._waiting = self._waiting, b""
        return b"".join(self._released()) + left

    def _events(self) -> Iterator[bytes]:
        """Whole events, each with the blank line that ends it."""
        while True:
            ends = [(at + len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if (at := self._waiting.find(mark)) >= 0]
            if not ends:
                return
            event, self._waiting = self._waiting[: min(ends)], self._waiting[min(ends) :]
            yield event

    def _passed(self, event: bytes) -> Iterator[bytes]:
        data = _data(event)
        if data == _END:
            self.done = True
        document = _document(data)
        if document is None:
            yield from self._released()
            yield event
            return
        self._heard.hear(document)
        if not self._more:
            yield event
        elif is_for_us(document, self._asked):
            yield from self._released(fingerprint=document.get("system_fingerprint"))
        else:
            yield from self._released()
            bare = stripped(document, self._asked)
            # A server marks its last piece; that we asked for one more must not show, so this one waits for it.
            if self._heard.complete and not self._asked.usage:
                self._last = bare
            else:
                yield _event(bare)

    def _released(self, fingerprint: object = None) -> Iterator[bytes]:
        if self._last is not None:
            if fingerprint is not None:
                self._last.setdefault("system_fingerprint", fingerprint)
            yield _event(self._last)
            self._last = None


def _data(event: bytes) -> bytes:
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def _document(data: bytes) -> dict[str, Any] | None:
    if not data.startswith(b"{"):
        return None
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + compact(document) + b"\n\n"
