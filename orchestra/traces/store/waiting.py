"""Those who wait for a commit, on whichever event loop, and how they are told."""

import asyncio
from collections.abc import Callable, Iterable

Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


def settle(waiters: Iterable[Waiter], failed: Callable[[], BaseException] | None) -> None:
    """Tell each of `waiters` that what it waits for is done, or an error of its own that `failed` makes."""
    here = asyncio._get_running_loop()
    for loop, done in waiters:
        failure = None if failed is None else failed()
        if loop is here:
            _resolve(done, failure)
            continue
        try:
            loop.call_soon_threadsafe(_resolve, done, failure)
        except RuntimeError:
            continue  # its loop has ended, and with it whoever waited


def _resolve(done: "asyncio.Future[None]", failure: BaseException | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
