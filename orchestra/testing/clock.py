"""A clock that moves only when somebody sleeps on it, so that waiting is tested without waiting."""

import asyncio


class FakeClock:
    """Time as an argument: pass `clock.sleep` where a real program passes `asyncio.sleep`.

    Args:
        now_seconds: what the clock shows at first.
    """

    def __init__(self, now_seconds: float = 0.0) -> None:
        self.now_seconds = now_seconds
        self.sleeps: list[float] = []
        """Every wait asked for, in order, in seconds."""

    def __call__(self) -> float:
        """The time it shows, in seconds."""
        return self.now_seconds

    async def sleep(self, seconds: float) -> None:
        """Move the clock on by `seconds` and let other tasks run once."""
        self.sleeps.append(seconds)
        self.now_seconds += max(0.0, seconds)
        await asyncio.sleep(0)
