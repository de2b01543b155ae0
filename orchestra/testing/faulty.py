"""An OpenAI-compatible server on loopback that counts what it serves and misbehaves on demand.

A real HTTP peer for tests and benchmarks: chat and text completions, streamed or whole, with tools, token ids and
log-probabilities in the shapes of vLLM 0.32; its list of models, `/tokenize`, and adapters that come and go. Each
model call takes the next `Answer` of a plan, or what a function of the request says; the last answer repeats. The
tokenizer is `orchestra.testing.tokens`: the server's count of what it read and made is exact whatever it reports, so
it is the witness of what a ledger ought to have booked.

What counts as served: a refused request (`REFUSING`) nothing; any other the whole prompt, and the tokens made until the
peer left or was left. A reply that is never sent, or ends in status 500, was made and counts in full.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from orchestra.testing.answers import NEVER, REFUSING, Answer, Counts, Plan, Served
from orchestra.testing.replies import CREATED, Reply
from orchestra.testing.tokens import decoded, encoded, rendered, token_text
from orchestra.testing.wire import HANG_UP, Asked, Connection, Steps, chunk, head

if TYPE_CHECKING:
    from orchestra.testing.process import ServerProcess

__all__ = ["FAULTS", "NEVER", "REFUSING", "Answer", "Counts", "FaultyServer", "Served"]


HELLO = (Answer(),)
"""The plan of a server that was told nothing."""


class FaultyServer:
    """An async context manager; inside it `url` is what a client takes as `api_base`.

    ```python
    async with FaultyServer([Answer(status=429), Answer(text="4")]) as server:
        model = open_litellm("openai/test", api_base=server.url, api_key="none")
    ```

    Args:
        plan: answers in order, the last of which repeats; or what to answer, given the request.
        model: the base model in its list; a request may name any.
        max_model_len: longest prompt plus reply it claims to take.
    """

    def __init__(
        self, plan: Sequence[Answer] | Plan = HELLO, *, model: str = "loopback", max_model_len: int = 32_768
    ) -> None:
        self.plan, self.model, self.max_model_len = plan, model, max_model_len
        self.url = ""
        """Base address, such as `http://127.0.0.1:40123/v1`; empty outside the context."""
        self.served: list[Served] = []
        """Every model call, in the order they came in."""
        self.asides: list[Served] = []
        """Every other request: of models, tokens, adapters, health."""
        self.adapters: dict[str, str] = {}
        """Path of each adapter that is loaded, by name."""
        self.running = 0
        """Model calls being answered."""
        self.running_most = 0
        """Most model calls being answered at once."""
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._reply, self._connections), "127.0.0.1", 0, backlog=2048
        )
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.close()
        await self._server.wait_closed()
        self.url = ""

    def in_process(self) -> "ServerProcess":
        """This server in a process of its own, as a context manager with `url` and `counts()`.

        Its event loop then takes no time from the client's, and a client that is killed does not take it along. A plan
        that is a function must be one of a module, which the other process imports.
        """
        from orchestra.testing.process import ServerProcess

        return ServerProcess(self.plan, model=self.model, max_model_len=self.max_model_len)

    def counts(self) -> Counts:
        """What was served so far."""
        return Counts(
            requests=len(self.served),
            answered=sum(record.finished and record.status == 200 for record in self.served),
            prompt_tokens=sum(record.prompt_tokens for record in self.served),
            completion_tokens=sum(record.completion_tokens for record in self.served),
            running_most=self.running_most,
            statuses=dict(Counter(record.status for record in self.served)),
        )

    def _reply(self, asked: Asked) -> Steps:
        aside = _ASIDES.get(asked.path)
        record = Served(path=asked.path, headers=asked.headers, body=asked.body, began_at=time.monotonic())
        if aside is not None:
            self.asides.append(record)
            record.status, text = aside(self, asked.body)
            kind = "application/json" if text[:1] == "{" else "text/plain"
            yield head(record.status, kind, length=len(text.encode())) + text.encode()
            record.finished = True
            return
        self.served.append(record)
        record.number = len(self.served)
        self.running += 1
        self.running_most = max(self.running_most, self.running)
        try:
            yield from self._answer(self._planned(record), record)
        finally:
            self.running -= 1

    def _planned(self, record: Served) -> Answer:
        if callable(self.plan):
            return self.plan(record)
        return self.plan[min(record.number, len(self.plan)) - 1]

    def _answer(self, answer: Answer, record: Served) -> Steps:
        reply = Reply(answer, record) if answer.serves and answer.body is None else None
        streams = reply is not None and answer.status == 200 and bool(record.body.get("stream"))
        if reply is not None:
            record.prompt_tokens, record.response_id = reply.prompt_tokens, reply.id
            if not streams or answer.delay_seconds == NEVER:  # the model works on, heard or not
                record.completion_tokens = reply.completion_tokens
        if answer.delay_seconds:
            yield answer.delay_seconds
        record.status = answer.status
        if streams and reply is not None:
            yield from _streamed(answer, reply, record)
            return
        text = answer.body
        if text is None:
            text = reply.whole() if reply is not None and answer.status == 200 else _error(answer.status)
        data = text.encode()
        yield head(answer.status, "application/json", length=len(data), more=answer.headers)
        if answer.hang_up_after is not None and reply is not None:
            yield data[: len(data) // 2]
            yield HANG_UP
        if answer.hang_after is not None:
            yield NEVER
        yield data
        record.finished = True

    def _models(self, _: Mapping[str, Any]) -> tuple[int, str]:
        base: dict[str, Any] = {"object": "model", "created": CREATED, "owned_by": "vllm"}
        cards = [{**base, "id": self.model, "root": self.model, "parent": None, "max_model_len": self.max_model_len}]
        cards += [{**base, "id": name, "root": path, "parent": self.model} for name, path in self.adapters.items()]
        return 200, json.dumps({"object": "list", "data": cards})

    def _tokenize(self, body: Mapping[str, Any]) -> tuple[int, str]:
        if "messages" in body:
            generate = body.get("add_generation_prompt", True)
            ids = encoded(rendered(body["messages"], body.get("tools") or (), generate=generate))
        else:
            ids = encoded(str(body.get("prompt", "")))
        texts = [token_text(i) for i in ids] if body.get("return_token_strs") else None
        told = {"count": len(ids), "max_model_len": self.max_model_len, "tokens": ids, "token_strs": texts}
        return 200, json.dumps(told)

    def _detokenize(self, body: Mapping[str, Any]) -> tuple[int, str]:
        return 200, json.dumps({"prompt": decoded(body.get("tokens", ()), marks=True)})

    def _load(self, body: Mapping[str, Any]) -> tuple[int, str]:
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            return 400, _error(400, "Both 'lora_name' and 'lora_path' must be provided.")
        if name == self.model:
            return 400, _error(400, f"The lora adapter '{name}' conflicts with a served base model.")
        if name in self.adapters and not body.get("load_inplace"):
            return 400, _error(400, f"The lora adapter '{name}' has already been loaded.")
        self.adapters[name] = path
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _unload(self, body: Mapping[str, Any]) -> tuple[int, str]:
        name = body.get("lora_name")
        if name not in self.adapters:
            return 404, _error(404, f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def _health(self, _: Mapping[str, Any]) -> tuple[int, str]:
        return 200, ""

    def _version(self, _: Mapping[str, Any]) -> tuple[int, str]:
        return 200, json.dumps({"version": "0.32.0"})

    def _counted(self, _: Mapping[str, Any]) -> tuple[int, str]:
        """Its own count, for who runs it in another process."""
        return 200, json.dumps(asdict(self.counts()))

    def _recorded(self, _: Mapping[str, Any]) -> tuple[int, str]:
        return 200, json.dumps({"served": [asdict(record) for record in self.served]})


_ASIDES = {
    "/v1/models": FaultyServer._models,
    "/tokenize": FaultyServer._tokenize,
    "/detokenize": FaultyServer._detokenize,
    "/v1/load_lora_adapter": FaultyServer._load,
    "/v1/unload_lora_adapter": FaultyServer._unload,
    "/health": FaultyServer._health,
    "/version": FaultyServer._version,
    "/counts": FaultyServer._counted,
    "/served": FaultyServer._recorded,
}
"""What is not a model call: answered as it is, never by the plan."""


def _streamed(answer: Answer, reply: Reply, record: Served) -> Steps:
    yield head(200, "text/event-stream", length=None, more=answer.headers)
    for sent, piece in enumerate(reply.pieces()):
        if answer.word_seconds:
            yield answer.word_seconds
        if sent == answer.hang_after:
            record.completion_tokens = reply.completion_tokens
            yield NEVER
        if sent == answer.hang_up_after:
            yield HANG_UP
        record.completion_tokens += piece.tokens
        yield chunk(f"data: {piece.event}\n\n".encode())
    yield chunk(b"")
    record.finished = True


_KINDS = {400: "BadRequestError", 404: "NotFoundError", 429: "RateLimitError", 500: "InternalServerError"}


def _error(status: int, message: str | None = None) -> str:
    kind = _KINDS.get(status, "Error")
    return json.dumps(
        {"error": {"message": message or f"status {status}", "type": kind, "param": None, "code": status}}
    )


def _too_long(record: Served) -> Answer:
    """A reply of twice the tokens that were allowed."""
    limit = int(record.body.get("max_tokens") or 16)
    return Answer(text=("word " * (2 * limit // 5 + 1))[: 2 * limit - 1], obeys_max_tokens=False)


def _always(answer: Answer) -> Plan:
    return lambda _: answer


LONG_TEXT = "All is well that ends well. " * 24
"""672 bytes: more than one token could stand for."""

FAULTS: Mapping[str, Plan] = {
    "429": _always(Answer(status=429)),
    "429-retry-after": _always(Answer(status=429, headers=(("retry-after", "0.05"),))),
    "500": _always(Answer(status=500)),
    "503": _always(Answer(status=503)),
    "hang": _always(Answer(delay_seconds=NEVER)),
    "hang-midway": _always(Answer(text="one two three", hang_after=2)),
    "cut": _always(Answer(text="one two three", hang_up_after=2)),
    "malformed-json": _always(Answer(text="one two three", malformed=True)),
    "no-tokens": _always(Answer(text="one two three", usage=(0, 0))),
    "too-few-tokens": _always(Answer(text=LONG_TEXT, usage=(1, 1))),
    "absurd-tokens": _always(Answer(text="one two three", usage=(9_000_000_000_000, 7_000_000_000_000))),
    "negative-tokens": _always(Answer(text="one two three", usage=(-5, -3))),
    "missing-usage": _always(Answer(text="one two three", usage=None)),
    "no-choices": _always(Answer(text="one two three", choices=False)),
    "past-max-tokens": _too_long,
}
"""Every way to misbehave, by name: what to answer, given the request."""
