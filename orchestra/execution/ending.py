"""How an attempt at a run ended, written down as its last fact; an attempt that was killed leaves none."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from orchestra.errors import BudgetError, InputError, Paused
from orchestra.traces import names
from orchestra.traces.redaction import Redactor, cleaned
from orchestra.traces.store import Fact, Store, StoreFailed

FINISHED, FAILED, CANCELLED, PAUSED, RAN_OUT = names.END_STATES


def state_after(error: BaseException | None) -> str:
    """How something ended that `error` came out of; `None` means nothing did."""
    if error is None:
        return FINISHED
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit):
        return CANCELLED
    if isinstance(error, Paused):
        return PAUSED
    # An unknown price is bad input: nothing ran out.
    return RAN_OUT if isinstance(error, BudgetError) and not isinstance(error, InputError) else FAILED


class TasksInside:
    """The tasks that are inside of a block, so that none outlives what it works for."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._tasks.add(task)

    def __exit__(self, *raised: object) -> None:
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._tasks.discard(task)

    async def end(self) -> None:
        """Cancel whoever is still inside, and wait until nobody is."""
        while left := self._tasks - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.wait(left)
            self._tasks -= left


@contextmanager
def ending(store: Store, run_id: str, plays: Counter[str], redact: Redactor | None = None) -> Iterator[None]:
    """Write down how the block ended.

    Args:
        store: where the fact goes.
        run_id: which run the block carries out.
        plays: how many of its plays ended in which state.
        redact: shown the error before it is written.
    """
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(StoreFailed):  # the error itself is told
            state = state_after(error)
            said = state if state == CANCELLED else str(error) or type(error).__name__
            _tell(store, run_id, state, cleaned(said, redact))
        raise
    _tell(store, run_id, _state_of(plays), None)


def _state_of(plays: Counter[str]) -> str:
    for state in (PAUSED, RAN_OUT):
        if plays[state]:
            return state
    return FAILED if plays[FAILED] and plays[FAILED] == plays.total() else FINISHED


def _tell(store: Store, run_id: str, state: str, error: object) -> None:
    store.post(Fact(run_id, None, names.FACT_END, {"state": state, "error": error}, "orchestra"))
