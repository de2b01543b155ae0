"""When a failed call is tried again, and after how long.

The decision is a pure function of the policy, the attempt, the error and a given random generator; the waiting is a
function passed in. A retry is a new call: whoever calls `with_retries` reserves each attempt on the ledger anew, which
is why client libraries' own retries are set to 0. A server that is merely busy (429, 503, 529) is asked more often than
one that fails: its refusals cost nothing, while after a failure the call stays booked, because it may have been served.

Source: Brooker 2015, "Exponential Backoff And Jitter", AWS Architecture Blog ("full jitter":
`sleep = random_between(0, min(cap, base * 2 ** attempt))`).
Deviation: a server's own `Retry-After` is a floor, to which half the jitter is added so that clients told the same time
do not return together.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from orchestra.errors import ModelError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient a caller is.

    Raises:
        ValueError: when a figure makes no sense.
    """

    attempts: int = 4
    """Calls that may fail, the last included; 1 never tries again. Refusals of a busy server do not count."""
    refusals: int = 16
    """Times the server may say that it is busy, the last included: with the waits below, some two minutes."""
    first_seconds: float = 0.5
    """Longest wait after the first failure; doubles with each one."""
    longest_seconds: float = 20.0
    """No wait drawn is longer than this."""
    patience_seconds: float = 120.0
    """A server that asks for a longer wait than this is not waited for."""

    def __post_init__(self) -> None:
        calls = min(self.attempts, self.refusals)
        if not (calls >= 1 and 0 <= self.first_seconds <= self.longest_seconds <= self.patience_seconds):
            raise ValueError(f"need attempts >= 1, refusals >= 1 and 0 <= first <= longest <= patience, got {self}")

    @property
    def most(self) -> int:
        """Most calls there can be."""
        return self.attempts + self.refusals - 1


def wait_seconds(policy: RetryPolicy, attempt: int, error: Exception, rng: random.Random) -> float | None:
    """How long to wait after `attempt` failed with `error`; `None` means give up.

    Args:
        policy: how patient the caller is.
        attempt: which of the calls that failed this way it was, from 1.
        error: only a `ModelError` that says it is retryable is tried again.
        rng: where the jitter comes from.
    """
    if not isinstance(error, ModelError) or not error.retryable:
        return None
    if attempt >= (policy.refusals if error.busy else policy.attempts):
        return None
    jitter = rng.uniform(0.0, min(policy.longest_seconds, policy.first_seconds * 2.0 ** min(attempt - 1, 64)))
    asked = error.retry_after_seconds
    if asked is None:
        return jitter
    return None if asked > policy.patience_seconds else max(0.0, asked) + jitter / 2


async def with_retries(
    call: Callable[[int], Awaitable[T]],
    *,
    policy: RetryPolicy,
    rng: random.Random,
    sleep: Callable[[float], Awaitable[object]],
) -> T:
    """What the first attempt to succeed returned.

    Args:
        call: makes one attempt; is given its number, from 1.
        policy: how patient to be.
        rng: where the jitter comes from.
        sleep: waits so many seconds; `asyncio.sleep`, or a `FakeClock`'s.

    Raises:
        Exception: of the last attempt, as it was raised.
    """
    failures = refusals = 0
    while True:
        try:
            return await call(failures + refusals + 1)
        except ModelError as error:
            failures, refusals = failures + (not error.busy), refusals + error.busy
            wait = wait_seconds(policy, refusals if error.busy else failures, error, rng)
            if wait is None:
                raise
        await sleep(wait)
