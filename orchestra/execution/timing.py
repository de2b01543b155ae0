"""Time limits of nodes and runs: what takes longer ends as a typed result, like money that runs out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context

from orchestra.errors import OutOfTime


class Deadline:
    """The moment a run has to end by, counted from when this is made.

    Args:
        seconds: from now; `None` sets no limit.
    """

    __slots__ = ("_ends_at", "seconds")

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._ends_at = None if seconds is None else time.monotonic() + seconds

    @property
    def left_seconds(self) -> float | None:
        """Time that is left, not below zero; `None` means no limit."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())


def arm(limit: asyncio.Timeout, seconds: float | None) -> None:
    """Let an entered `asyncio.timeout(None)` expire after `seconds`, without keeping alive what surrounds it till then.

    A timer holds the context it is set in until its time has come, even when it is cancelled: all that a play knows.
    """
    if seconds is not None:
        Context().run(limit.reschedule, asyncio.get_running_loop().time() + seconds)


@asynccontextmanager
async def within(seconds: float | None, exceeded: str) -> AsyncIterator[None]:
    """Cancel what the block waits for when it takes longer.

    Args:
        seconds: `None` sets no limit; nothing is begun when nothing is left.
        exceeded: the error's message.

    Raises:
        OutOfTime: it took longer.
    """
    if seconds is None:
        yield
        return
    if seconds <= 0:
        raise OutOfTime(exceeded)
    try:
        async with asyncio.timeout(None) as limit:
            arm(limit, seconds)
            yield
    except TimeoutError as late:
        if not limit.expired():  # somebody else's
            raise
        raise OutOfTime(exceeded) from late
