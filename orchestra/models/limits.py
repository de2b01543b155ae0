"""How much of a model may be asked for at once and per minute, and the turnstile that holds callers to it.

Always true of a turnstile, whatever is cancelled or fails: never more than `concurrency` calls are inside; in any
window of 60 s no more than `requests_per_minute` calls are sent, and no more than `tokens_per_minute` tokens; callers
enter in the order they came. A place that was taken and not used is given back. What a server asked one caller to wait
(`retry-after`), all callers wait: the others would only be refused as well, and be counted for it.

A call is sent some time after it entered (its reservation may have to wait for money, and is written down first). Until
then it counts as if it were sent that moment, so that the window holds for what the server sees.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

ALL_MODELS = "*"
"""Name under which limits hold for every model that has none of its own, each by itself."""
WINDOW_SECONDS = 60.0
"""Of the limits per minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one model may be asked for; `None` sets no limit.

    Raises:
        ValueError: a limit is below 1.
    """

    concurrency: int | None = None
    """Calls at once."""
    requests_per_minute: int | None = None
    """Calls sent in any 60 s, retries included."""
    tokens_per_minute: int | None = None
    """Prompt and reply tokens in any 60 s. A call counts with the most it can come to until its usage is known; one
    that is larger than the limit waits until it is alone."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} is at least 1, got {limit}; leave it out to set no limit")


class Passage:
    """One call's way through a turnstile; left exactly once, however the call ends."""

    __slots__ = ("_is_open", "_tokens", "_turnstile", "is_counted", "sent_at")

    def __init__(self, turnstile: "Turnstile", tokens: int, is_counted: bool) -> None:
        self._turnstile, self._tokens = turnstile, tokens
        self._is_open = True
        self.is_counted = is_counted
        """Whether it takes a place in the present window."""
        self.sent_at: float | None = None
        """Seconds on the turnstile's clock; `None` means not sent."""

    @property
    def tokens(self) -> int:
        """What it counts as."""
        return self._tokens

    def sent(self) -> None:
        """Say that the call goes out now: from here on its 60 s run."""
        if self.sent_at is None:
            self._turnstile._send(self)

    def used(self, tokens: int) -> None:
        """Say what the call really came to, if that is less than was thought."""
        self._turnstile._correct(self, tokens)

    def leave(self) -> None:
        """Make room for the next; a call that was never sent has not been."""
        if self._is_open:
            self._is_open = False
            self._turnstile._leave(self)


class _Waiter:
    __slots__ = ("is_first", "tokens", "woken")

    def __init__(self, tokens: int, is_first: bool) -> None:
        self.tokens, self.is_first = tokens, is_first
        self.woken = asyncio.Event()


class Turnstile:
    """Where the callers of one model queue. For one event loop.

    Args:
        limits: what they may ask for together.
        patience_seconds: a server that asks for a longer wait is not waited for.
        clock: shows seconds; a `FakeClock` in tests.
        sleep: waits so many seconds on that clock.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        patience_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.limits = limits or Limits()
        self.inside = 0
        """Calls that entered and have not left."""
        self._clock, self._sleep, self._patience = clock, sleep, patience_seconds
        self._queue: deque[_Waiter] = deque()
        self._unsent = 0
        self._window: deque[Passage] = deque()
        """Passages sent in the last 60 s, in that order; empty without limits per minute."""
        self._tokens = 0
        """Of the passages in the window and of those not sent yet."""
        self._held_until = -math.inf
        self._counts = self.limits.requests_per_minute is not None or self.limits.tokens_per_minute is not None

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens a call comes to."""
        return self.limits.tokens_per_minute is not None

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._queue)

    def enter_now(self, tokens: int = 0) -> Passage | None:
        """A passage, or `None` when it would have to wait."""
        if self._queue or self._wait_seconds(self._capped(tokens)) > 0:
            return None
        return self._admit(self._capped(tokens))

    async def enter(self, tokens: int = 0, *, first: bool = False) -> Passage:
        """A passage, when its turn has come; cancelling the wait leaves no trace.

        Args:
            tokens: the most the call can come to.
            first: queue before those who came the ordinary way; for who was at the front already and stepped aside.
        """
        if not first and (passage := self.enter_now(tokens)) is not None:
            return passage
        waiter = _Waiter(self._capped(tokens), first)
        if first:
            self._queue.insert(sum(other.is_first for other in self._queue), waiter)
            self._wake()  # the one that was at the front is no longer
        else:
            self._queue.append(waiter)
        try:
            while True:
                wait = self._wait_seconds(waiter.tokens) if self._queue[0] is waiter else math.inf
                if wait <= 0:
                    return self._admit(waiter.tokens)
                waiter.woken.clear()
                await self._pause(wait, waiter.woken)
        finally:
            self._queue.remove(waiter)
            self._wake()

    @asynccontextmanager
    async def passage(self, tokens: int = 0) -> AsyncIterator[Passage]:
        """A passage for a call that is sent at once."""
        passage = await self.enter(tokens)
        try:
            passage.sent()
            yield passage
        finally:
            passage.leave()

    def hold_back(self, seconds: float) -> None:
        """Let nobody enter for `seconds`, as the server asked; longer than anybody waits, all may ask and hear it."""
        if seconds <= self._patience:
            self._held_until = max(self._held_until, self._clock() + seconds)

    def _capped(self, tokens: int) -> int:
        most = self.limits.tokens_per_minute
        return tokens if most is None else min(tokens, most)

    def _wait_seconds(self, tokens: int) -> float:
        """How long the one at the front waits; infinite when somebody has to leave first."""
        limits = self.limits
        if limits.concurrency is not None and self.inside >= limits.concurrency:
            return math.inf
        if self._held_until == -math.inf and not self._counts:
            return 0.0  # the usual case costs no look at the clock
        now = self._clock()
        return max(self._held_until - now, self._window_seconds(tokens, now))

    def _window_seconds(self, tokens: int, now: float) -> float:
        """How long until enough of what was sent is 60 s old; infinite when something has to be sent or left first."""
        if not self._counts:
            return 0.0
        while self._window and now - _sent_at(self._window[0]) >= WINDOW_SECONDS:
            old = self._window.popleft()
            old.is_counted = False
            self._tokens -= old.tokens
        limits = self.limits
        calls = len(self._window) + self._unsent + 1 - (limits.requests_per_minute or math.inf)
        excess = self._tokens + tokens - (limits.tokens_per_minute or math.inf)
        wait = 0.0
        for passage in self._window:
            if calls <= 0 and excess <= 0:
                return wait
            calls, excess = calls - 1, excess - passage.tokens
            wait = _sent_at(passage) + WINDOW_SECONDS - now
        return wait if calls <= 0 and excess <= 0 else math.inf

    def _admit(self, tokens: int) -> Passage:
        self.inside += 1
        passage = Passage(self, tokens, self._counts)
        if passage.is_counted:
            self._unsent += 1
            self._tokens += tokens
        return passage

    def _send(self, passage: Passage) -> None:
        passage.sent_at = self._clock() if passage.is_counted else 0.0
        if passage.is_counted:
            self._unsent -= 1
            self._window.append(passage)
            self._wake()  # from here on it is known when its place is free

    def _correct(self, passage: Passage, tokens: int) -> None:
        if tokens < passage.tokens:
            if passage.is_counted:
                self._tokens -= passage.tokens - tokens
            passage._tokens = tokens
            self._wake()

    def _leave(self, passage: Passage) -> None:
        self.inside -= 1
        if passage.is_counted and passage.sent_at is None:
            passage.is_counted = False
            self._unsent -= 1
            self._tokens -= passage.tokens
        self._wake()

    def _wake(self) -> None:
        if self._queue:
            self._queue[0].woken.set()

    async def _pause(self, seconds: float, woken: asyncio.Event) -> None:
        """Wait so long, or until something has changed."""
        if seconds == math.inf:
            await woken.wait()
            return
        waits = [asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _sent_at(passage: Passage) -> float:
    assert passage.sent_at is not None, "only what was sent is in the window"
    return passage.sent_at
