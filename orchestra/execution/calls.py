"""One door for everything that costs: model calls and tool calls.

A call is answered, in this order, by the journal (an earlier attempt of this run already paid for it), by the cache
of completions (any run did), or by the model. Before a model is asked, the worst case is reserved in the ledger and
written to the journal; the reply is journalled before the node sees it; then the true cost is settled. What was cut
without a usage stays booked at its reservation.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphs import Tool
from orchestra.agents.tools import ToolPool
from orchestra.errors import ModelError, ToolError, UnknownPrice, blame
from orchestra.execution.settings import STATE_PRICE
from orchestra.ledger import Ledger
from orchestra.models.cache import completion_key, from_record, to_record
from orchestra.models.protocol import Completion, Model, Request
from orchestra.models.retry import RetryPolicy, with_retries
from orchestra.traces import names
from orchestra.traces.journal import Journal
from orchestra.traces.messages import input_messages, output_messages
from orchestra.traces.spans import Span, Tracer
from orchestra.traces.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A completion and what it cost."""

    completion: Completion
    paid_nano: int
    """What the ledger paid, in nano-USD; 0 when the cache answered."""
    list_nano: int
    """What it costs uncached, in nano-USD."""
    source: str
    """`model`, `cache` or `journal`."""
    borrowed_nano: int = 0
    """List cost of a reply that another run paid for, the first time this run uses it."""


BEGINNING_AT_ONCE = 16
"""Calls that are made ready at the same time. Of hundreds that could begin at once the first are sent while the others
are still being written down; otherwise all would be sent together, and this process would then sit idle until all
replies came together. As many are committed in one transaction."""


class _Place:
    """A call's place among those that are made ready; given up once."""

    __slots__ = ("_gate", "_held")

    def __init__(self, gate: asyncio.Semaphore) -> None:
        self._gate = gate
        self._held = True

    def leave(self) -> None:
        """Let the next one begin."""
        if self._held:
            self._held = False
            self._gate.release()


@dataclass(slots=True, kw_only=True)
class Calls:
    """The door. One per run; safe for any number of concurrent plays."""

    store: Store
    journal: Journal
    tracer: Tracer
    pool: ToolPool
    open_model: Callable[[str], Model]
    """The model of that name, opened once."""
    use_cache: bool = True
    rng: random.Random = field(default_factory=random.Random)
    """Spreads retries in time; never decides a result."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BEGINNING_AT_ONCE))
    _met: set[str] = field(default_factory=set)
    """Cache keys of the calls of this run so far."""

    async def complete(
        self, model: Model, request: Request, *, key: str, ledger: Ledger, attributes: Mapping[str, str | int]
    ) -> Reply:
        """The reply to `request`, from the journal, the cache or the model.

        Args:
            key: identifies the call within its run, the same on every attempt.
            ledger: pays for it.
            attributes: of the span.

        Raises:
            ModelError: the model refused or failed, after its retries.
            CannotAfford: its worst case does not fit under the cap.
        """
        await self._gate.acquire()
        place = _Place(self._gate)
        try:
            return await self._completed(model, request, key, ledger, attributes, place)
        finally:
            place.leave()

    async def _completed(
        self,
        model: Model,
        request: Request,
        key: str,
        ledger: Ledger,
        attributes: Mapping[str, str | int],
        place: _Place,
    ) -> Reply:
        kind = "client" if model.external else "internal"
        with self.tracer.span(f"chat {model.name}", kind=kind, attributes=_asked(model, request, attributes)) as span:
            span.content(names.INPUT_MESSAGES, input_messages(request.messages))
            cache_key = completion_key(model, request) if self.use_cache else None
            reply = self._remembered(model, cache_key, key)
            if reply is None:
                reply = await with_retries(
                    lambda attempt: self._ask(model, request, cache_key, _numbered(key, attempt), ledger, place),
                    policy=self.retry,
                    rng=self.rng,
                    sleep=asyncio.sleep,
                )
            _answered(span, reply)
            return reply

    def _remembered(self, model: Model, cache_key: str | None, key: str) -> Reply | None:
        done = self._journalled(key)
        if done is not None:
            if cache_key is not None:
                self._met.add(cache_key)
            completion = from_record(done["completion"])
            listed = done["paid_nano"] if completion.usage is None else _list_price(model, completion)
            return Reply(completion=completion, paid_nano=done["paid_nano"], list_nano=listed, source="journal")
        if cache_key is None or (record := self.store.cached(cache_key)) is None:
            return None
        completion = from_record(record)
        listed = _list_price(model, completion)
        borrowed = 0 if cache_key in self._met else listed
        self._met.add(cache_key)
        return Reply(completion=completion, paid_nano=0, list_nano=listed, source="cache", borrowed_nano=borrowed)

    def _journalled(self, key: str) -> dict[str, Any] | None:
        """The reply an earlier attempt of the run paid for, on whichever try it came."""
        if not self.journal.resumed:
            return None
        for attempt in range(1, self.retry.attempts + 1):
            done = self.journal.finished(_numbered(key, attempt))
            if done is not None:
                return done
        return None

    async def _ask(
        self, model: Model, request: Request, cache_key: str | None, key: str, ledger: Ledger, place: _Place
    ) -> Reply:
        worst = _worst_case(model, request, ledger)
        reservation = ledger.reserve_now(worst, key)
        if reservation is None:
            place.leave()  # those it waits for may not have begun
            reservation = await ledger.reserve(worst, key)
        try:
            await self.journal.begin(key, "model", cache_key, worst)
        except BaseException:
            ledger.release(reservation)  # never sent
            raise
        place.leave()
        try:
            completion = await _last(model, request)
        except BaseException:
            ledger.unknown(reservation)  # it may have been served: booked in full, never refunded
            raise
        if completion.usage is None or model.price is None:
            ledger.unknown(reservation)
            paid = worst
        else:
            paid = _list_price(model, completion)
            ledger.settle(reservation, paid)
        record = to_record(completion)
        if cache_key is not None:
            self._met.add(cache_key)
            self.store.cache(cache_key, "completion", record)
        await self.journal.finish(key, {"completion": record, "paid_nano": paid}, paid)
        return Reply(completion=completion, paid_nano=paid, list_nano=paid, source="model")

    async def use(
        self, tool: Tool, text: str, *, key: str, folder: Path | None, call_id: str | None = None
    ) -> str | None:
        """What `tool` says about `text`; `None` when it has nothing to say.

        Args:
            key: identifies the call within its run.
            folder: where its code is looked up first.
            call_id: of the model's wish it answers, if a model asked.

        Raises:
            ToolError: it raised, hung, crashed, or answered with something that is not text.
        """
        attributes: dict[str, str | int] = {
            names.OPERATION_NAME: "execute_tool",
            names.TOOL_NAME: tool.name,
            names.TOOL_TYPE: "function",
        }
        if call_id is not None:
            attributes[names.TOOL_CALL_ID] = call_id
        with self.tracer.span(f"execute_tool {tool.name}", attributes=attributes) as span:
            span.content(names.TOOL_CALL_ARGUMENTS, {"input": text})
            said = await self._used(tool, text, key, folder)
            span.content(names.TOOL_CALL_RESULT, said)
            return said

    async def _used(self, tool: Tool, text: str, key: str, folder: Path | None) -> str | None:
        done = self.journal.finished(key)
        if done is not None:
            if "error" in done:
                raise ToolError(done["error"])
            said = done["said"]
            return said if said is None else str(said)
        if not tool.idempotent and self.journal.was_interrupted(key):
            raise ToolError(
                f"tool {tool.name!r} was cut off in an earlier attempt and is not idempotent, so it was not called "
                f"again; set `idempotent: true` on it if a second call does no harm"
            )
        digest = hashlib.sha256(f"{tool.call}\0{text}".encode()).hexdigest()
        await self.journal.begin(key, "tool", digest, 0)
        try:
            said = await self.pool.call(tool, text, folder=folder)
        except ToolError as failure:
            await self.journal.finish(key, {"error": str(failure)}, 0)
            raise
        await self.journal.finish(key, {"said": said}, 0)
        return said


def _numbered(key: str, attempt: int) -> str:
    return key if attempt == 1 else f"{key}#{attempt}"


async def _last(model: Model, request: Request) -> Completion:
    try:
        async with asyncio.timeout(request.deadline_seconds):
            with blame(ModelError, f"model {model.name!r} failed"):
                return await _drain(model, request)
    except TimeoutError as late:
        raise ModelError(
            f"model {model.name!r} did not answer within {request.deadline_seconds} s; raise the time limit"
        ) from late


async def _drain(model: Model, request: Request) -> Completion:
    last: Completion | None = None
    async for event in model.stream(request):
        if isinstance(event, Completion):
            last = event
    if last is None:
        raise ModelError(f"model {model.name!r} ended its stream without a completion", retryable=True)
    return last


def _worst_case(model: Model, request: Request, ledger: Ledger) -> int:
    if model.price is not None:
        return model.price.cost(model.prompt_tokens_bound(request), request.sampling.max_tokens)
    if ledger.remaining is not None:
        raise UnknownPrice(f"the price of model {model.name!r} is not known, so a cap cannot be kept; {STATE_PRICE}")
    return 0


def _list_price(model: Model, completion: Completion) -> int:
    if model.price is None or completion.usage is None:
        return 0
    return model.price.cost(completion.usage.input_tokens, completion.usage.output_tokens)


def _asked(model: Model, request: Request, attributes: Mapping[str, str | int]) -> dict[str, str | int | float | bool]:
    sampling = request.sampling
    asked: dict[str, str | int | float | bool] = {
        names.OPERATION_NAME: "chat",
        names.PROVIDER_NAME: model.provider,
        names.REQUEST_MODEL: model.name,
        names.REQUEST_MAX_TOKENS: sampling.max_tokens,
        names.REQUEST_TEMPERATURE: sampling.temperature,
        names.REQUEST_TOP_P: sampling.top_p,
        names.SAMPLE_INDEX: request.sample_index,
        **attributes,
    }
    if sampling.top_k:
        asked[names.REQUEST_TOP_K] = sampling.top_k
    if request.seed is not None:
        asked[names.REQUEST_SEED] = request.seed
    return asked


def _answered(span: Span, reply: Reply) -> None:
    completion = reply.completion
    span.set(names.RESPONSE_MODEL, completion.model)
    span.set(names.RESPONSE_FINISH_REASONS, [completion.finish_reason])
    span.set(names.PAID_NANO, reply.paid_nano)
    span.set(names.LIST_NANO, reply.list_nano)
    span.set(names.CACHED, reply.source != "model")
    for name, value in (
        (names.RESPONSE_ID, completion.response_id),
        (names.FIRST_TOKEN_SECONDS, completion.first_token_seconds),
        (names.ADAPTER, completion.adapter),
    ):
        if value is not None:
            span.set(name, value)
    if completion.usage is not None:
        span.set(names.INPUT_TOKENS, completion.usage.input_tokens)
        span.set(names.OUTPUT_TOKENS, completion.usage.output_tokens)
        span.set(names.CACHED_INPUT_TOKENS, completion.usage.cached_input_tokens)
    said = output_messages(completion.text, completion.finish_reason, completion.tool_calls)
    span.content(names.OUTPUT_MESSAGES, said)
    if completion.token_ids is not None:
        ids = {"prompt": completion.prompt_token_ids, "reply": completion.token_ids, "logprobs": completion.logprobs}
        span.content(names.TOKEN_IDS, ids)
