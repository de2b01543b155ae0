"""The embedded engine as a `Model`: requests in, an async stream of events out."""

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from orchestra.errors import InputError, ModelError, TooLong
from orchestra.gate import NotPublished
from orchestra.ledger import Price
from orchestra.models.local.engine import Engine
from orchestra.models.local.loading import Loaded
from orchestra.models.local.lora import Lora
from orchestra.models.local.prompts import Prompts
from orchestra.models.local.replies import ReplyText
from orchestra.models.local.rows import Piece, Row
from orchestra.models.local.sampling import Chooser, generator_of
from orchestra.models.local.shelf import Shelf
from orchestra.models.protocol import Capabilities, Completion, Delta, Request, Turn, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What models of the same weights share in one process."""

    loaded: Loaded
    engine: Engine
    shelf: Shelf
    """Its adapters."""
    prompts: Prompts
    weights_sha256: str
    deterministic: bool
    threads: int
    batch: int
    """Requests at once that its price is measured at."""


class LocalModel:
    """An embedded model.

    Args:
        name: it was opened by, with its prefix.
        opened: weights and engine, shared with others.
        price: per token.
        release: gives the share of `opened` back.
        adapter: name and version of an adapter that the shelf holds for it; `None` answers with the base weights, and
            with any adapter a request names.
    """

    provider = "orchestra.local"
    external = False
    address = None
    meeting = None

    def __init__(
        self, name: str, opened: Opened, price: Price, release: Callable[[], None], *, adapter: str | None = None
    ) -> None:
        self.name = name
        self.price: Price | None = price
        self.fingerprint = (
            f"{opened.weights_sha256}:{opened.loaded.dtype}{':deterministic' if opened.deterministic else ''}"
        )
        self.capabilities = Capabilities(
            token_ids=True, logprobs=True, seed=True, stream=True, context_tokens=opened.loaded.context_tokens
        )
        self._opened = opened
        self._release: Callable[[], None] | None = release
        self._held, self._holding = set[str](), threading.Lock()
        self.adapter = adapter
        """Name and version of the adapter it answers with, whatever a request says; `None` is none."""
        if adapter is not None:
            self._held.add(adapter)
            self.fingerprint += f":{adapter}:{opened.shelf.lora(adapter).digest}"

    def prompt_tokens_bound(self, request: Request) -> int:
        """The prompt's exact number of tokens."""
        return len(self._opened.prompts.ids(request.messages))

    def prompt_key(self, request: Request) -> str:
        """The ids of the prompt, as text; and the numbers of the adapter a request names."""
        ids = f"ids:{','.join(map(str, self._opened.prompts.ids(request.messages)))}"
        if request.adapter is None or self.adapter is not None:
            return ids
        return f"{ids}:{self._lora(request.adapter).digest}"

    async def stream(self, request: Request) -> AsyncIterator[Delta | Completion]:
        """The reply as it is made; closing the iterator frees its row before the next token.

        Raises:
            orchestra.errors.TooLong: when the prompt and `max_tokens` exceed the context.
            orchestra.errors.ModelError: when a capability is missing, the deadline passes, or the model fails.
        """
        prompt_ids = self._checked(request)
        served = request.adapter or self.adapter
        lora = None if served is None else await asyncio.to_thread(self._lora, served)
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[object] = asyncio.Queue()
        row = self._row(request, prompt_ids, lora, events, loop)
        del lora  # the row's alone, so that its memory goes when the row ends
        timer = None
        if request.deadline_seconds is not None:
            late = ModelError(
                f"{self.name} did not finish within its deadline of {request.deadline_seconds} s; "
                "allow more time or fewer tokens",
                retryable=True,
            )
            timer = loop.call_later(request.deadline_seconds, events.put_nowait, late)
        try:
            self._opened.engine.submit(row)
            while True:
                event = await events.get()
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Piece):
                    yield Delta(text=event.text, token_ids=(event.token_id,))
                else:
                    yield self._completion(row, served)
                    return
        finally:
            row.cancelled = True
            if timer is not None:
                timer.cancel()

    def reply_tokens(self, reply: str) -> int:
        """Tokens of `reply` with its end."""
        return len(self._opened.prompts.encode(reply)) + 1

    async def score(self, request: Request, reply: str) -> Completion:
        """`reply` to `request` as a completion, with what each token had been drawn with at the request's temperature.

        It is made as any reply is, in the same passes, but for the choice of its tokens.

        Raises:
            orchestra.errors.ModelError: the two do not fit into the context, tokens are not drawn from all there are,
                or the model fails.
        """
        sampling, reply_ids = request.sampling, self._opened.prompts.encode(reply)
        if sampling.temperature == 0.0 or sampling.top_k or sampling.top_p < 1.0:
            raise ModelError(f"{self.name} scores replies at a temperature above 0 and with every token kept")
        length = sampling.model_copy(update={"max_tokens": len(reply_ids) + 1, "stop": ()})
        request = replace(request, sampling=length)
        prompt_ids = self._checked(request)
        served = request.adapter or self.adapter
        lora = None if served is None else await asyncio.to_thread(self._lora, served)
        ended: asyncio.Queue[object] = asyncio.Queue()
        row = self._row(request, prompt_ids, lora, ended, asyncio.get_running_loop())
        del lora
        ids = iter([*((token,) for token in reply_ids), tuple(sorted(row.end_ids))])
        row.chooser, row.end_ids, row.wants_pieces = replace(row.chooser, dictated=ids), frozenset(), False
        try:
            self._opened.engine.submit(row)
            if isinstance(failure := await ended.get(), Exception):
                raise failure
        finally:
            row.cancelled = True
        return replace(self._completion(row, served), text=reply, finish_reason="stop")

    async def meet(self, *, deadline_seconds: float | None = None, turn: Turn | None = None) -> None:
        """Nothing is left to learn."""

    async def close(self) -> None:
        """Give back the share of the engine; the last one ends its thread."""
        release, self._release = self._release, None
        if release is None:
            return
        for served in self._held:
            await asyncio.to_thread(self._opened.shelf.let_go, served)
        await asyncio.to_thread(release)

    def _lora(self, served: str) -> Lora:
        """The adapter called `served`: loaded, live, or now read from the user's folder and kept until this is closed.

        Raises:
            ModelError: there is none, it is not for this base, or does not pass the gate.
        """
        shelf = self._opened.shelf
        if not shelf.has(served) and served != self.adapter:
            with self._holding:  # calls at once hold it once
                try:
                    if served not in self._held:
                        self._held.add(shelf.hold(served))
                except (InputError, NotPublished) as cause:
                    raise ModelError(str(cause)) from cause
        return shelf.lora(served)

    def _checked(self, request: Request) -> tuple[int, ...]:
        if request.tools:
            raise ModelError(f"{self.name} has no native function calling; use the text protocol of agents")
        if request.adapter is not None and "@" not in request.adapter:
            raise ModelError(f"a request names an adapter with its version, {request.adapter!r} has none")
        if request.adapter is not None and self.adapter not in (None, request.adapter):
            raise ModelError(
                f"{self.name} was opened with the adapter {self.adapter!r}, and the request asks for "
                f"{request.adapter!r}; open the base without an adapter to choose by request"
            )
        prompt_ids = self._opened.prompts.ids(request.messages)
        limit = self._opened.loaded.context_tokens
        if not prompt_ids:
            raise ModelError(f"{self.name} was sent an empty prompt; send at least one message with text")
        if limit is not None and len(prompt_ids) + request.sampling.max_tokens > limit:
            raise TooLong(
                f"a prompt of {len(prompt_ids)} tokens and max_tokens={request.sampling.max_tokens} exceed the context "
                f"of {self.name}, {limit} tokens; shorten the prompt or lower max_tokens",
                served=False,
            )
        return prompt_ids

    def _row(
        self,
        request: Request,
        prompt_ids: tuple[int, ...],
        lora: Lora | None,
        events: asyncio.Queue[object],
        loop: asyncio.AbstractEventLoop,
    ) -> Row:
        sampling = request.sampling
        return Row(
            prompt_ids=prompt_ids,
            chooser=Chooser(
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                generator=generator_of(request.seed, request.sample_index),
            ),
            max_tokens=sampling.max_tokens,
            end_ids=self._opened.loaded.end_ids,
            reply=ReplyText(self._opened.prompts.decode, sampling.stop),
            tell=events.put_nowait,
            lora=lora,
            loop=loop,
        )

    def _completion(self, row: Row, served: str | None) -> Completion:
        ended_at = row.ended_at or time.perf_counter()
        reply_ids = row.reply_ids
        return Completion(
            text=row.reply.text,
            finish_reason=row.end or "stop",
            model=self.name,
            usage=Usage(
                input_tokens=len(row.prompt_ids),
                output_tokens=len(reply_ids),
                cached_input_tokens=row.cached_tokens,
            ),
            prompt_token_ids=row.prompt_ids,
            token_ids=reply_ids,
            logprobs=tuple(row.logprobs),
            adapter=served,
            latency_seconds=ended_at - row.submitted_at,
            first_token_seconds=None if row.first_token_at is None else row.first_token_at - row.submitted_at,
        )


def run_rows(opened: Opened, rows: int, prompt_tokens: int, reply_tokens: int) -> float:
    """Seconds the engine takes for `rows` requests of unrelated prompts at once, without stopping early.

    Raises:
        orchestra.errors.ModelError: when the model fails.
    """
    left, done, failures = rows, threading.Event(), []

    def tell(what: Any) -> None:
        nonlocal left
        if isinstance(what, Exception):
            failures.append(what)
        left -= 1
        if left == 0:
            done.set()

    salt = time.perf_counter_ns()
    made = []
    for number in range(rows):
        digest = hashlib.shake_128(f"{salt}/{number}".encode()).digest(4 * prompt_tokens)
        ids = [int.from_bytes(digest[i : i + 4], "big") % opened.loaded.vocabulary for i in range(0, len(digest), 4)]
        chooser = Chooser(temperature=0.0, top_k=0, top_p=1.0, generator=cast(Any, None))
        row = Row(
            prompt_ids=tuple(ids),
            chooser=chooser,
            max_tokens=reply_tokens,
            end_ids=frozenset(),
            reply=ReplyText(opened.prompts.decode),
            tell=tell,
            wants_pieces=False,
        )
        made.append(row)
    began = time.perf_counter()
    for row in made:
        opened.engine.submit(row)
    done.wait()
    if failures:
        raise failures[0]
    return time.perf_counter() - began
