"""One door for everything that costs: model calls and tool calls.

A call is answered, in this order, by the journal (an earlier attempt of this run already paid for it), by the cache
of completions (any run did), or by the model. Before a model is asked, the worst case is reserved in the ledger and
written to the journal; the reply is journalled before the node sees it; then the true cost is settled. What was cut
without a usage stays booked at its reservation; what the server refused is given back (see `admission`).
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from graphs import Tool
from orchestra.agents.mcp_config import PREFIX
from orchestra.agents.tools import ToolPool
from orchestra.errors import ModelError, ToolError
from orchestra.execution.admission import Admission, Turnstiles
from orchestra.execution.allowances import paid
from orchestra.execution.asking import Reply, Telling, last, list_price, most_tokens, worst_case
from orchestra.execution.call_spans import IN_PROCESS, answered, asked, failed, show_request
from orchestra.execution.digests import code_digest, request_digest, tool_digest
from orchestra.execution.people import KIND, Question, ask
from orchestra.execution.recording import Recording
from orchestra.ledger import Ledger
from orchestra.models.cache import completion_key, from_record, to_record
from orchestra.models.metering import believed
from orchestra.models.protocol import Model, Request
from orchestra.models.retry import RetryPolicy, with_retries
from orchestra.traces import names
from orchestra.traces.journal import Journal
from orchestra.traces.redaction import cleaned, redacted, without_encodings
from orchestra.traces.spans import Tracer, current_span
from orchestra.traces.store import Store

__all__ = ["BEGINNING_AT_ONCE", "Calls", "Reply"]

BEGINNING_AT_ONCE = 16
"""Calls that are made ready at the same time. Of hundreds that could begin at once the first are sent while the others
are still being written down; otherwise all would be sent together, and this process would then sit idle until all
replies came together. As many are committed in one transaction."""


class _Place:
    """A call's place among those that are made ready, given up once; who hears its reply come in; what failed."""

    __slots__ = ("_gate", "_held", "failures", "telling")

    def __init__(self, gate: asyncio.Semaphore, telling: Telling | None) -> None:
        self._gate = gate
        self._held = True
        self.telling = telling
        self.failures: list[dict[str, object]] = []

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
    turnstiles: Turnstiles = field(default_factory=Turnstiles)
    """Hold callers to what each model may be asked for."""
    recording: Recording | None = None
    """Writes down what is answered, or tells what was; `None` does neither."""
    rerun_tools: bool = False
    """Call tools again that are not idempotent and were cut off."""
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BEGINNING_AT_ONCE))
    _met: set[str] = field(default_factory=set)
    """Cache keys of the calls of this run so far."""
    _introduced: set[str] = field(default_factory=set)
    """Models that were met."""
    _codes: dict[tuple[str, Path | None], str | None] = field(default_factory=dict)
    """Digests of tools' code, as it was when each was first called."""

    async def complete(
        self,
        model: Model,
        request: Request,
        *,
        key: str,
        ledger: Ledger,
        attributes: Mapping[str, str | int],
        telling: Telling | None = None,
    ) -> Reply:
        """The reply to `request`, from the journal, the cache or the model.

        Args:
            key: identifies the call within its run, the same on every attempt.
            ledger: pays for it.
            attributes: of the span.
            telling: tells somebody the reply's pieces as they come; `None` tells nobody.

        Raises:
            ModelError: the model refused or failed, after its retries.
            CannotAfford: its worst case does not fit under the cap.
        """
        await self._gate.acquire()
        place = _Place(self._gate, telling)
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
        kind = "internal" if model.provider in IN_PROCESS else "client"
        begun = asked(model, request, {**attributes, names.RESERVATION: key})
        with self.tracer.span(f"chat {model.name}", kind=kind, attributes=begun) as span:
            show_request(span, request)
            try:
                if self.recording is None:
                    reply = await self._reply(model, request, key, ledger, place)
                else:
                    reply = await self.recording.completed(
                        model, request, key, ledger, lambda: self._reply(model, request, key, ledger, place)
                    )
            finally:
                if place.failures:
                    span.content(names.FAILED_ATTEMPTS, place.failures)
            if place.telling is not None and not place.telling.told:  # it came in one piece, or from elsewhere
                place.telling.tell(reply.completion.text)
            answered(span, reply)
            return reply

    async def _reply(self, model: Model, request: Request, key: str, ledger: Ledger, place: _Place) -> Reply:
        if model.name not in self._introduced:
            await self._meet(model, request.deadline_seconds, key, ledger)
        cache_key = completion_key(model, request) if self.use_cache else None
        reply = self._remembered(model, request, cache_key, key)
        if reply is None:
            reply = await with_retries(
                lambda attempt: self._ask(model, request, cache_key, _numbered(key, attempt), ledger, place),
                policy=self.retry,
                rng=self.rng,
                sleep=asyncio.sleep,
            )
        return reply

    async def _meet(self, model: Model, seconds: float | None, key: str, ledger: Ledger) -> None:
        """Have a model learn what it must know of its server; the call that asks first pays what that takes of it.

        What is asked of the model passes its turnstile, with the money in hand: whoever is inside waits for none.
        """
        turnstile = self.turnstiles.of(model.name)

        async def met(attempt: int) -> None:
            most, price = model.meeting, model.price
            if most is None or price is None:
                await model.meet(deadline_seconds=seconds, turn=turnstile.passage)
                return
            reservation = await ledger.reserve(price.cost(most.input_tokens, most.output_tokens), key)
            try:
                await self.store.flush()
                took = await model.meet(deadline_seconds=seconds, turn=turnstile.passage)
            except BaseException as failure:
                if isinstance(failure, ModelError) and failure.retry_after_seconds is not None:
                    turnstile.hold_back(failure.retry_after_seconds)
                refused = isinstance(failure, ModelError) and failure.served is False
                (ledger.release if refused else ledger.unknown)(reservation)
                raise
            if took is None:  # another call was quicker
                ledger.release(reservation)
            else:
                ledger.settle(reservation, price.cost(took.input_tokens, took.output_tokens))

        await with_retries(met, policy=self.retry, rng=self.rng, sleep=asyncio.sleep)
        self._introduced.add(model.name)

    def _remembered(self, model: Model, request: Request, cache_key: str | None, key: str) -> Reply | None:
        done = self._journalled(model, request, key)
        if done is not None:
            if cache_key is not None:
                self._met.add(cache_key)
            completion = from_record(done["completion"])
            listed = done["paid_nano"] if completion.usage is None else list_price(model, completion)
            return Reply(completion=completion, paid_nano=done["paid_nano"], list_nano=listed, source="journal")
        if cache_key is None or (record := self.store.cached(cache_key)) is None:
            return None
        completion = from_record(record)
        listed = list_price(model, completion)
        borrowed = 0 if cache_key in self._met else listed
        self._met.add(cache_key)
        return Reply(completion=completion, paid_nano=0, list_nano=listed, source="cache", borrowed_nano=borrowed)

    def _journalled(self, model: Model, request: Request, key: str) -> dict[str, Any] | None:
        """The reply an earlier attempt of the run paid for, on whichever try it came, if it was to this request."""
        if not self.journal.resumed:
            return None
        for attempt in range(1, self.retry.most + 1):
            done = self.journal.finished(_numbered(key, attempt))
            if done is not None and done.get("asked") in (None, request_digest(model.name, request)):
                return done
        return None

    async def _ask(
        self, model: Model, request: Request, cache_key: str | None, key: str, ledger: Ledger, place: _Place
    ) -> Reply:
        worst = worst_case(model, request, ledger)
        turnstile = self.turnstiles.of(model.name)
        admission = await Admission.of(
            turnstile,
            ledger,
            worst,
            key,
            tokens=most_tokens(model, request) if turnstile.counts_tokens else 0,
            waits=place.leave,  # those it waits for may not have begun
        )
        try:
            await self.journal.begin(key, "model", cache_key, worst)
        except BaseException:
            admission.withdraw()
            raise
        place.leave()
        admission.passage.sent()
        try:
            completion = await last(model, request, place.telling)
        except BaseException as failure:
            place.failures.append(failed(failure, admission.fail(failure)))
            raise
        usage, doubt = believed(model, request, completion)
        if doubt is not None:
            completion = replace(completion, usage=usage)
            if (span := current_span()) is not None:
                span.set(names.USAGE_DOUBT, doubt)
        cost = None if usage is None or model.price is None else list_price(model, completion)
        paid = admission.answer(cost, None if usage is None else usage.input_tokens + usage.output_tokens)
        record = to_record(completion)
        secret = self._tells(request)
        if secret:  # its ids are those of the prompt too
            record = cast("dict[str, Any]", without_encodings(record))
        if cache_key is not None:
            self._met.add(cache_key)
            if not secret and cleaned(record, self.journal.redact) == record:
                self.store.cache(cache_key, "completion", record)
        answer = {"completion": record, "paid_nano": paid, "asked": request_digest(model.name, request)}
        await self.journal.finish(key, answer, paid)
        return Reply(completion=completion, paid_nano=paid, list_nano=paid, source="model")

    def _tells(self, request: Request) -> bool:
        """Whether a request holds something that may not be written down."""
        redact = self.journal.redact
        if redact is None:
            return False
        said = [(one.content, [asdict(call) for call in one.tool_calls]) for one in request.messages]
        tools = [asdict(tool) for tool in request.tools]
        return redacted(said, redact) != said or redacted(tools, redact) != tools

    async def use(
        self,
        tool: Tool,
        text: str,
        *,
        key: str,
        folder: Path | None,
        call_id: str | None = None,
        question: Question | None = None,
        again: bool = False,
        purse: Ledger | None = None,
        price_nano: int = 0,
    ) -> str | None:
        """What `tool` says about `text`; `None` when it has nothing to say.

        Args:
            key: identifies the call within its run.
            folder: where its code is looked up first.
            call_id: of the model's wish it answers, if a model asked.
            question: what a person is asked, where the tool is a person.
            again: call it again when it failed in an earlier attempt.
            purse: pays for the call, where it has a price.
            price_nano: of the call, in nano-USD, whether it fails or not.

        Raises:
            CannotAfford: its price does not fit under a cap.
            ToolError: it raised, hung, crashed, or answered with something that is not text.
            Paused: a person has not answered yet.
        """
        attributes: dict[str, str | int] = {
            names.OPERATION_NAME: "execute_tool",
            names.TOOL_NAME: tool.name,
            names.TOOL_TYPE: "function" if question is None else KIND,
        }
        if tool.description:
            attributes[names.TOOL_DESCRIPTION] = tool.description
        if call_id is not None:
            attributes[names.TOOL_CALL_ID] = call_id
        with self.tracer.span(f"execute_tool {tool.name}", attributes=attributes) as span:
            span.content(names.TOOL_CALL_ARGUMENTS, {"input": text})
            ask_now = (
                partial(ask, self.journal, self.store, question)
                if question is not None
                else partial(self._used, tool, text, key, folder, again, purse, price_nano)
            )
            said = await (ask_now() if self.recording is None else self.recording.used(tool, text, key, purse, ask_now))
            span.content(names.TOOL_CALL_RESULT, said)
            return said

    async def parameters(self, tool: Tool, folder: Path | None) -> Mapping[str, Any] | None:
        """JSON Schema of the tool's arguments as its MCP server states it; `None` means it takes one text.

        Raises:
            ToolError: when its MCP server cannot be reached.
        """
        asking = partial(self.pool.parameters, tool, folder=folder)
        if self.recording is None or not tool.call.startswith(PREFIX):
            return await asking()
        return await self.recording.heard(f"parameters of {tool.call}", asking)

    async def _used(
        self, tool: Tool, text: str, key: str, folder: Path | None, again: bool, purse: Ledger | None, price: int
    ) -> str | None:
        if (tool.call, folder) not in self._codes:
            self._codes[tool.call, folder] = code_digest(tool, folder)
        asked_now = {"asked": tool_digest(tool, text), "code": self._codes[tool.call, folder]}
        done = self.journal.finished(key)
        if done is not None and again and tool.idempotent and "error" in done:
            done = None
        if done is not None and self._holds(tool, done, asked_now):
            if "error" in done:
                raise ToolError(done["error"])
            said = done["said"]
            return said if said is None else str(said)
        if not tool.idempotent and not self.rerun_tools and (done is not None or self.journal.was_interrupted(key)):
            why = "was called with another text" if done is not None else "was cut off"
            raise ToolError(
                f"tool {tool.name!r} {why} in an earlier attempt and is not idempotent, so it was not called again; "
                f"resume with --rerun-tools if a second call does no harm, or set `idempotent: true` on it"
            )
        async with paid(purse, price, key) as begun:
            await self.journal.begin(key, "tool", asked_now["asked"], price)
            begun()
            try:
                said = await self.pool.call(tool, text, folder=folder)
            except ToolError as failure:
                await self.journal.finish(key, {"error": str(failure), **asked_now}, price)
                raise
            await self.journal.finish(key, {"said": said, **asked_now}, price)
            return said

    def _holds(self, tool: Tool, done: Mapping[str, Any], asked_now: Mapping[str, str | None]) -> bool:
        """Whether what an earlier attempt heard from a tool is what it would be asked now.

        An idempotent tool whose code was mended since is called again; what another one did is done.
        """
        parts = ("asked", "code") if tool.idempotent else ("asked",)
        return all(done.get(part) in (None, asked_now[part]) for part in parts)


def _numbered(key: str, attempt: int) -> str:
    return key if attempt == 1 else f"{key}#{attempt}"
