"""One request to one model: what it may cost, what it says, and what that came to."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestra.errors import ModelError, UnknownPrice, blame
from orchestra.execution.settings import STATE_PRICE
from orchestra.execution.timing import arm
from orchestra.ledger import Ledger
from orchestra.models.protocol import Completion, Model, Request


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


class Telling:
    """Tells a listener the pieces of one reply, on whichever try it comes.

    Args:
        listener: takes a piece, and whether what came before it does not count.
    """

    __slots__ = ("_cut_off", "_listener", "told")

    def __init__(self, listener: Callable[[str, bool], None]) -> None:
        self._listener = listener
        self._cut_off = False
        self.told = False
        """Whether this try has told anything."""

    def begin(self) -> None:
        """A try begins."""
        self._cut_off |= self.told
        self.told = False

    def tell(self, text: str) -> None:
        """Pass on a piece."""
        if text:
            self._listener(text, self._cut_off)
            self._cut_off = False
            self.told = True


async def last(model: Model, request: Request, telling: Telling | None = None) -> Completion:
    """What `model` says in the end, within the request's deadline.

    Raises:
        ModelError: it failed, was cancelled by something else than its caller, or did not answer in time.
    """
    try:
        async with asyncio.timeout(None) as limit:
            arm(limit, request.deadline_seconds)
            with blame(ModelError, f"model {model.name!r} failed"):
                return await _drain(model, request, telling)
    except TimeoutError as late:
        raise ModelError(
            f"model {model.name!r} did not answer within {request.deadline_seconds:g} s; "
            f"give it more time with --call-seconds"
        ) from late
    except asyncio.CancelledError as cause:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ModelError(f"the call of model {model.name!r} was cancelled, and not by the run") from cause


async def _drain(model: Model, request: Request, telling: Telling | None) -> Completion:
    began = time.perf_counter()
    first_seconds: float | None = None
    last: Completion | None = None
    if telling is not None:
        telling.begin()
    async for event in model.stream(request):
        if isinstance(event, Completion):
            last = event
        else:
            if first_seconds is None:
                first_seconds = time.perf_counter() - began
            if telling is not None:
                telling.tell(event.text)
    if last is None:
        raise ModelError(f"model {model.name!r} ended its stream without a completion", retryable=True)
    if last.first_token_seconds is None and first_seconds is not None:
        return replace(last, first_token_seconds=first_seconds)
    return last


def worst_case(model: Model, request: Request, ledger: Ledger) -> int:
    """Nano-USD a call can come to at most.

    Raises:
        UnknownPrice: the ledger has a cap and the model no price.
    """
    if model.price is not None:
        return model.price.cost(model.prompt_tokens_bound(request), request.sampling.max_tokens)
    if ledger.remaining is not None:
        raise UnknownPrice(f"the price of model {model.name!r} is not known, so a cap cannot be kept; {STATE_PRICE}")
    return 0


def most_tokens(model: Model, request: Request) -> int:
    """Prompt and reply tokens a call can come to at most."""
    return model.prompt_tokens_bound(request) + request.sampling.max_tokens


def list_price(model: Model, completion: Completion) -> int:
    """Nano-USD a reply costs uncached; 0 where price or tokens are not known."""
    if model.price is None or completion.usage is None:
        return 0
    return model.price.cost(completion.usage.input_tokens, completion.usage.output_tokens)
