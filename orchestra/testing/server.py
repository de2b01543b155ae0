"""A small OpenAI-compatible server on loopback: a real HTTP peer for tests, which counts what it is asked.

Each request takes the next `Answer` of the list it was given; the last answer repeats. It speaks HTTP/1.1 over plain
asyncio, streams server-sent events, and can be told to misbehave: refuse, ask to wait, answer nonsense, hold back the
usage, hang up in mid-stream.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server does with one request."""

    text: str = "hello"
    """Content of the reply; streamed a word at a time."""
    status: int = 200
    """Anything but 200 answers with an error body."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent besides the usual ones, such as `("retry-after", "7")`."""
    body: str | None = None
    """Sent as it is in place of what would be said; for answers that are not JSON."""
    usage: tuple[int, int] | None = (7, 3)
    """Prompt and reply tokens reported; `None` reports none."""
    tool_calls: tuple[tuple[str, str], ...] = ()
    """Name and JSON arguments of functions it calls."""
    logprob: float | None = None
    """Log-probability of every token, where the request asks for them; `None` sends none."""
    finish_reason: str | None = None
    """`None` takes `tool_calls` or `stop`."""
    delay_seconds: float = 0.0
    """Wait before the first byte of the answer."""
    word_seconds: float = 0.0
    """Wait before each word of a stream."""
    hang_up_after: int | None = None
    """Close the connection after so many events of a stream; `None` finishes it."""


@dataclass(slots=True)
class Served:
    """What one request asked for and what became of it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    status: int = 0
    """Of the answer; 0 means none was sent yet."""
    finished: bool = False
    """Whether the whole answer went out; `False` after a peer that left."""


@dataclass(slots=True)
class LoopbackServer:
    """An async context manager; inside it `url` is what a client takes as `api_base`.

    ```python
    async with LoopbackServer([Answer(status=429), Answer(text="4")]) as server:
        model = open_litellm("openai/test", api_base=server.url, api_key="none")
    ```
    """

    answers: Sequence[Answer] = (Answer(),)
    """One per request, in order; the last one repeats."""
    served: list[Served] = field(default_factory=list)
    """Every request, in the order they came in."""
    url: str = ""
    """Base address, such as `http://127.0.0.1:40123/v1`; empty outside the context."""
    running: int = 0
    """Requests being answered."""
    running_most: int = 0
    """Most requests being answered at once."""
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self.url = ""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the server is closing; asyncio would log a connection task that ends in cancellation
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection stays open for another."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        record = Served(path=first.split()[1], headers=headers, body=json.loads(raw) if raw else {})
        self.served.append(record)
        answer = self.answers[min(len(self.served), len(self.answers)) - 1]
        self.running += 1
        self.running_most = max(self.running_most, self.running)
        try:
            await _unless_left(asyncio.sleep(answer.delay_seconds), reader)
            return await self._answer(answer, record, reader, writer)
        finally:
            self.running -= 1

    async def _answer(
        self, answer: Answer, record: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        record.status = answer.status
        if answer.status != 200 or answer.body is not None or not record.body.get("stream"):
            body = answer.body if answer.body is not None else json.dumps(_whole(answer, record.body))
            _send_head(writer, answer, "application/json", length=len(body.encode()))
            writer.write(body.encode())
            await writer.drain()
            record.finished = True
            return True
        _send_head(writer, answer, "text/event-stream", length=None)
        sent = 0
        async for event in _events(answer, record.body):
            await _unless_left(asyncio.sleep(answer.word_seconds), reader)
            if answer.hang_up_after is not None and sent >= answer.hang_up_after:
                return False
            data = f"data: {event}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        record.finished = True
        return True


async def _unless_left(wait: Any, reader: asyncio.StreamReader) -> None:
    """Await `wait`, or stop with `ConnectionResetError` as soon as the peer hangs up."""
    waiting = asyncio.ensure_future(wait)
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=0.01)
            if reader.at_eof():
                raise ConnectionResetError("the peer left")
    finally:
        waiting.cancel()


def _send_head(writer: asyncio.StreamWriter, answer: Answer, kind: str, *, length: int | None) -> None:
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {answer.status} Answer", f"content-type: {kind}", size]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())


def _whole(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    if answer.status != 200:
        return {"error": {"message": f"status {answer.status}", "type": "scripted", "code": str(answer.status)}}
    message = {"role": "assistant", "content": answer.text or None, **_calls(answer)}
    choice = {"index": 0, "message": message, "finish_reason": _reason(answer)}
    return {**_frame(body, "chat.completion"), "choices": [choice], **_usage(answer)}


async def _events(answer: Answer, body: dict[str, Any]) -> AsyncIterator[str]:
    frame = _frame(body, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], reason: str | None = None, logprobs: object = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        return json.dumps({**frame, "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    for at, word in enumerate(answer.text.split(" ") if answer.text else ()):
        token = word if at == 0 else f" {word}"
        asked = body.get("logprobs") and answer.logprob is not None
        said: dict[str, Any] = {"token": token, "logprob": answer.logprob, "top_logprobs": []}
        yield chunk({"content": token}, logprobs={"content": [said]} if asked else None)
    for call in _calls(answer).get("tool_calls", ()):
        opening = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
        yield chunk({"tool_calls": [opening]})
        text = call["function"]["arguments"]
        for part in (text[: len(text) // 2], text[len(text) // 2 :]):
            yield chunk({"tool_calls": [{"index": call["index"], "function": {"arguments": part}}]})
    yield chunk({}, reason=_reason(answer))
    if answer.usage is not None and body.get("stream_options", {}).get("include_usage"):
        yield json.dumps({**frame, "choices": [], **_usage(answer)})
    yield "[DONE]"


def _frame(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-loopback", "object": kind, "created": 1_700_000_000, "model": body.get("model", "loopback")}


def _reason(answer: Answer) -> str:
    return answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")


def _calls(answer: Answer) -> dict[str, Any]:
    calls = [
        {"index": at, "id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(answer.tool_calls)
    ]
    return {"tool_calls": calls} if calls else {}


def _usage(answer: Answer) -> dict[str, Any]:
    if answer.usage is None:
        return {}
    prompt, reply = answer.usage
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}}
