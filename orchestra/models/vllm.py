"""A model on a vLLM server, reached directly: `vllm/<name>@URL`, or `vllm/<name>+<adapter>@URL`.

Two ways of asking. With `token_ids=True`, the default, a request goes to `/v1/completions` as token ids and the reply
brings its own: the chat template is rendered once by the server's `/tokenize`, and a transcript whose earlier turns
carry ids is extended by appending. That is what training needs. With `token_ids=False` it goes to
`/v1/chat/completions` as messages, in one request less, and the server parses tool calls.

Log-probabilities are passed on only where they are of the distribution sampled from (`orchestra.models.vllm_truth`).
Nothing is sent when a model is opened; what is known of the server is asked for once, when first needed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orchestra.errors import ModelError, TooLong
from orchestra.ledger import DEFAULT_MACHINE_USD_PER_HOUR, Price
from orchestra.models.litellm_wire import BROKEN_OFF
from orchestra.models.protocol import Capabilities, Completion, Delta, Request, Turn, Usage
from orchestra.models.serving.record import Record
from orchestra.models.vllm_errors import not_served, refusal
from orchestra.models.vllm_http import BROKEN, Answer, Connection
from orchestra.models.vllm_names import Address, host_and_port, is_loopback, parsed, record_of
from orchestra.models.vllm_prompts import Prompts, prompt_text, tokens_bound
from orchestra.models.vllm_truth import (
    PROBE_TOKENS,
    PROBING,
    Facts,
    Worn,
    facts_of,
    is_the_same_either_way,
    probes,
    tells_processed,
)
from orchestra.models.vllm_wire import Events, Reply, chat_body, completion, encoded, ids_body

ASKING_SECONDS = 10.0
"""A question about a server that was not met, for which everything else waits, gives up after this."""
TAIL_SECONDS = 0.5
"""How long the end of a body is waited for after the reply is complete, so that its connection can be used again."""
CHAT, IDS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    token_ids: bool
    stream: bool
    tools: bool
    logprobs: bool
    timeout_seconds: float


def open_vllm(
    name: str,
    *,
    token_ids: bool = True,
    stream: bool = True,
    tools: bool | None = None,
    logprobs: bool | None = None,
    processed_logprobs: bool | None = None,
    api_key: str | None = None,
    price: Price | None = None,
    machine_usd_per_hour: Decimal | str | int = DEFAULT_MACHINE_USD_PER_HOUR,
    input_tokens_per_second: float | None = None,
    output_tokens_per_second: float | None = None,
    external: bool | None = None,
    timeout_seconds: float = 600.0,
    deterministic: bool = False,
) -> "VllmModel":
    """The model a vLLM server has under the name in front of `@URL`. Nothing is sent.

    Args:
        name: `BASE@URL` or `BASE+ADAPTER@URL`; an address may carry `?token_ids=false&stream=false&tools=true`.
            Without `@URL` it is the one server of that model that `orchestra serve` runs on this machine.
        token_ids: ask by token ids, and have them in replies.
        stream: take replies as they are made; otherwise whole, which costs both sides less.
        tools: whether the server parses tool calls (`--enable-auto-tool-choice --tool-call-parser ...`); `None` takes
            the word of `orchestra serve`, else no. Only when messages are sent; by ids, agents use tools by text.
        logprobs: ask for them; `None` asks whenever ids are asked for.
        processed_logprobs: whether the server reports them after temperature and truncation; `None` finds out.
        api_key: of the server; `None` sends none.
        price: per token; `None` takes the two speeds below, else what `orchestra serve --calibrate` measured.
        machine_usd_per_hour: what the machine behind the server costs.
        input_tokens_per_second: prompt tokens the server was measured to read in a second.
        output_tokens_per_second: reply tokens it was measured to write in a second.
        external: whether calls cost money outside this machine; `None` says no for a loopback address.
        timeout_seconds: longest silence of the server; a request's deadline may be shorter.
        deterministic: changes nothing here; a served reply depends on the numerics of its batch.

    Raises:
        InputError: the name says no model or no address.
    """
    address = parsed(name)
    record = record_of(address, name)
    url = address.url or (record.url if record is not None else "")
    switches = address.switches
    token_ids = switches.get("token_ids", token_ids)
    wanted_tools = switches.get("tools", tools)
    parses = record is not None and record.tools if wanted_tools is None else wanted_tools
    if price is None and input_tokens_per_second is not None and output_tokens_per_second is not None:
        price = Price.from_speed(
            machine_usd_per_hour,
            input_tokens_per_second,
            output_tokens_per_second,
            source="machine price and speed given",
        )
    elif price is None and record is not None:
        price = record.price(Decimal(machine_usd_per_hour))
    if record is not None and processed_logprobs is None:
        processed_logprobs = record.processed_logprobs
    wanted_logprobs = switches.get("logprobs", logprobs)
    return VllmModel(
        f"vllm/{name}" if address.url else f"vllm/{name}@{url}",
        address=address,
        connection=Connection(url, api_key=api_key, name=f"vllm/{address.base}"),
        record=record,
        price=price,
        external=not is_loopback(url) if external is None else external,
        processed_logprobs=switches.get("processed_logprobs", processed_logprobs),
        settings=_Settings(
            token_ids=token_ids,
            stream=switches.get("stream", stream),
            tools=parses and not token_ids,
            logprobs=token_ids if wanted_logprobs is None else wanted_logprobs,
            timeout_seconds=timeout_seconds,
        ),
    )


class VllmModel:
    """A model on a vLLM server; made by `open_vllm`."""

    provider = "vllm"

    def __init__(
        self,
        name: str,
        *,
        address: Address,
        connection: Connection,
        record: Record | None,
        price: Price | None,
        external: bool,
        processed_logprobs: bool | None,
        settings: _Settings,
    ) -> None:
        self.name = name
        self.price = price
        self.external = external
        self.address = host_and_port(connection.url)
        self._address, self._record, self._settings = address, record, settings
        self._connection = connection
        self._processed = processed_logprobs
        self._prompts = Prompts(connection.name, self._posted)
        self._facts: Facts | None = None
        self._worn = Worn(address.adapter, name=name)
        self._asking, self._probing = asyncio.Lock(), asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """What it can do: as it was opened, and by the server's own word once it was met."""
        settings, facts = self._settings, self._facts
        return Capabilities(
            token_ids=settings.token_ids,
            logprobs=settings.logprobs and self._processed is not False,
            tools=settings.tools,
            seed=True,
            stream=settings.stream,
            context_tokens=None if facts is None else facts.context_tokens,
        )

    @property
    def fingerprint(self) -> str:
        """The weights as the server names them, number format, vLLM's and the adapter's version, and what is asked.

        A reply that was kept without token ids is none for whom asks by them.

        Raises:
            ModelError: the server does not answer.
        """
        facts, record, settings = self._known_now(), self._record, self._settings
        weights = record.weights_sha256 if record is not None else facts.root
        adapter = self._worn.served(None, facts)
        dtype = record.dtype if record is not None else "its own format"
        asked = ":".join(name for name in ("token_ids", "tools", "logprobs") if getattr(settings, name)) or "messages"
        return f"vllm:{weights}:{dtype}:{facts.version}:{adapter or 'no adapter'}:{asked}"

    def prompt_tokens_bound(self, request: Request) -> int:
        """Exact for what was sampled earlier, UTF-8 bytes for the rest: the tokenizer is the server's."""
        return tokens_bound(request)

    def prompt_key(self, request: Request) -> str:
        """Messages, tools, and the ids of what was sampled earlier."""
        return prompt_text(request)

    async def stream(self, request: Request) -> AsyncGenerator[Delta | Completion, None]:
        """The reply as it arrives, then its completion; closing the iterator closes the request.

        Raises:
            orchestra.errors.ModelError: when the server refuses or fails, or the deadline passes.
        """
        began = time.perf_counter()
        ends = (
            None if request.deadline_seconds is None else asyncio.get_running_loop().time() + request.deadline_seconds
        )
        reply = Reply(self._connection.name)
        try:
            async with self._until(ends):
                with not_served():
                    path, body, prompt_ids, adapter, logprobs = await self._prepared(request)
                answer = await self._connection.send("POST", path, body)
            async with answer:
                if answer.status != 200 or not self._settings.stream:
                    async with self._until(ends):
                        whole = await answer.body()
                    if answer.status != 200:
                        raise refusal(self._connection.name, answer.status, answer.headers, whole)
                    reply.add(whole)
                else:
                    async for delta in self._deltas(answer, reply, ends, began):
                        yield delta
        except TimeoutError as late:
            limit = request.deadline_seconds or self._settings.timeout_seconds
            raise ModelError(f"{self.name} did not finish within {limit} s; give the call a longer deadline") from late
        except BROKEN as cause:
            raise self._connection.broken(cause) from cause
        latency_seconds = time.perf_counter() - began
        self._check(reply, prompt_ids, asked_logprobs=self._settings.logprobs and prompt_ids is not None)
        yield completion(reply, prompt_ids, latency_seconds=latency_seconds, adapter=adapter, logprobs=logprobs)

    @property
    def meeting(self) -> Usage | None:
        """Two short probes, where nobody has said which log-probabilities the server reports."""
        return PROBING if self._settings.logprobs and self._processed is None else None

    async def meet(self, *, deadline_seconds: float | None = None, turn: Turn | None = None) -> Usage | None:
        """Ask the server what it is, and where nobody has said so, which log-probabilities it reports.

        Raises:
            ModelError: it does not answer in time, or has no such model.
        """
        with not_served():
            async with self._within(deadline_seconds):
                self._worn.served(None, await self._known(self._worn.wanted(None)))
        return await self._probed(deadline_seconds, turn) if self._settings.logprobs else None

    async def close(self) -> None:
        """Close its connections; calling it twice is harmless."""
        await self._connection.close()

    async def _deltas(
        self, answer: Answer, reply: Reply, ends: float | None, began: float
    ) -> AsyncGenerator[Delta, None]:
        events, chunks, done = Events(), answer.chunks(), False
        while not done:
            async with self._until(ends):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            for data in events.feed(chunk):
                if data == b"[DONE]":
                    done = True
                    break
                text, ids = reply.add(data)
                if text or ids:
                    if reply.first_seconds is None:
                        reply.first_seconds = time.perf_counter() - began
                    yield Delta(text=text, token_ids=tuple(ids))
        with contextlib.suppress(TimeoutError, *(BROKEN,)):
            async with asyncio.timeout(TAIL_SECONDS):
                async for _ in chunks:
                    pass

    async def _prepared(self, request: Request) -> tuple[str, bytes, tuple[int, ...] | None, str | None, bool]:
        """Path and body of a request, the prompt's ids if they are sent, the adapter, and whether to keep logprobs."""
        settings, adapter = self._settings, self._worn.wanted(request.adapter)
        served = self._address.base
        if settings.token_ids or adapter is not None:
            facts = await self._known(adapter)
            if adapter is not None:
                adapter = self._worn.served(request.adapter, facts)
                served = adapter or served
        keep = settings.logprobs and await self._processes(request)
        if not settings.token_ids:
            return CHAT, chat_body(request, served, stream=settings.stream, logprobs=keep), None, adapter, keep
        if request.tools:
            raise ModelError(f"{self.name} is asked by token ids, without tools; open it with token_ids=False for them")
        prompt_ids = await self._prompts.ids(request, self._address.base)
        limit = facts.context_tokens
        if limit is not None and len(prompt_ids) + request.sampling.max_tokens > limit:
            raise TooLong(
                f"{self.name} reads and writes at most {limit} tokens: the prompt has {len(prompt_ids)} and max_tokens "
                f"is {request.sampling.max_tokens}; shorten one of them"
            )
        body = ids_body(request, prompt_ids, served, stream=settings.stream, logprobs=settings.logprobs)
        return IDS, body, prompt_ids, adapter, keep

    def _check(self, reply: Reply, prompt_ids: tuple[int, ...] | None, *, asked_logprobs: bool) -> None:
        if reply.finish_reason is None or reply.finish_reason.lower() in BROKEN_OFF:
            why = "without saying why" if reply.finish_reason is None else f"as {reply.finish_reason!r}"
            raise ModelError(f"{self.name} ended its reply {why}; try again", retryable=True)
        if prompt_ids is None:
            return
        ids = len(reply.token_ids)
        if not ids and any(reply.text):
            raise ModelError(f"{self.name} sent no token ids; it is no vLLM server: open it with token_ids=False")
        if reply.prompt_token_ids is not None and tuple(reply.prompt_token_ids) != prompt_ids:
            raise ModelError(f"{self.name} read another prompt than was sent; its reply cannot be used", retryable=True)
        if asked_logprobs and len(reply.logprobs) != ids:
            raise ModelError(
                f"{self.name} sent {len(reply.logprobs)} log-probabilities for {ids} token ids; try again",
                retryable=True,
            )

    async def _known(self, adapter: str | None = None) -> Facts:
        """What the server says of itself; asked for again when it did not have `adapter` yet."""
        facts = self._facts
        if facts is None or (adapter is not None and adapter not in facts.adapters):
            async with self._asking:
                if self._facts is facts:
                    models = await self._got("/v1/models")
                    status, _, version = await self._connection.ask("GET", "/version")
                    said = version if status == 200 else None
                    self._facts = facts_of(models, said, self._address.base, name=self.name)
                facts = self._facts
        assert facts is not None
        return facts

    def _known_now(self) -> Facts:
        if self._facts is None:
            models = self._asked_now("GET", "/v1/models")
            status, version = self._connection.ask_now("GET", "/version", seconds=ASKING_SECONDS)
            said = version if status == 200 else None
            self._facts = facts_of(models, said, self._address.base, name=self.name)
        return self._facts

    async def _processes(self, request: Request) -> bool:
        """Whether log-probabilities of this request's reply are of the distribution sampled from."""
        if is_the_same_either_way(request.sampling):
            return True
        if self._processed is None:
            await self._probed()
        return bool(self._processed)

    async def _probed(self, seconds: float | None = None, turn: Turn | None = None) -> Usage | None:
        """Find out, where it is not known, whether log-probabilities are processed; the tokens that took."""
        async with self._probing:
            if self._processed is not None:
                return None
            answers: list[bytes] = []
            for body in probes(self._address.base):
                try:
                    async with contextlib.nullcontext() if turn is None else turn(PROBE_TOKENS), self._within(seconds):
                        answers.append(await self._sent("POST", IDS, body))
                except ModelError as error:
                    error.served = None if answers else error.served
                    raise
            self._processed = tells_processed(answers)
            return PROBING

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float | None) -> AsyncGenerator[None, None]:
        """Give up a question about the server itself after so long, or after the longest silence there may be."""
        limit = self._settings.timeout_seconds if seconds is None else min(seconds, self._settings.timeout_seconds)
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError as late:
            raise ModelError(
                f"{self.name} did not say within {limit:g} s what it is; is it busy or still starting? "
                "give the call a longer deadline"
            ) from late

    def _until(self, ends: float | None) -> asyncio.Timeout:
        quiet = asyncio.get_running_loop().time() + self._settings.timeout_seconds
        return asyncio.timeout_at(quiet if ends is None else min(ends, quiet))

    async def _posted(self, path: str, body: dict[str, Any]) -> bytes:
        return await self._sent("POST", path, encoded(body))

    async def _got(self, path: str) -> bytes:
        return await self._sent("GET", path)

    async def _sent(self, method: str, path: str, content: bytes = b"") -> bytes:
        status, headers, body = await self._connection.ask(method, path, content)
        if status != 200:
            raise refusal(self._connection.name, status, headers, body)
        return body

    def _asked_now(self, method: str, path: str, content: bytes = b"") -> bytes:
        status, body = self._connection.ask_now(method, path, content, seconds=ASKING_SECONDS)
        if status != 200:
            raise refusal(self._connection.name, status, {}, body)
        return body
