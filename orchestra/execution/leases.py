"""A part of a run's money for a process of its own: `lease`.

Several processes, or several machines on a PostgreSQL store, spend from one cap. Each holds a lease: the database says
how much it may spend, the holder then spends from an ordinary `Ledger` at full speed, and asks for another chunk when
it runs short. Who needs more than is free waits, first in, first out over all holders, while the others hand back what
they do not use; it is refused when it could never fit.

A lease is renewed as long as its block is open. A holder that dies is found out when its lease has expired: what its
entries in the store show is booked, calls in flight in full, and the rest is free again. A holder that was only away
(a machine asleep, a database out of reach) finds its lease taken back and reserves nothing more: it stops `MARGIN` of
the term before the database counts it as expired, by clocks of its own that it starts before it asks.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestra.execution.opening import run_ledger
from orchestra.execution.recording import Recording
from orchestra.ledger import Ledger
from orchestra.traces.records import LedgerEntry
from orchestra.traces.store import Store, StoreFailed
from orchestra.traces.store.leases import (
    LeaseUnreachable,
    Lessee,
    Standing,
    Wish,
    give_up,
    is_leased,
    live_leases,
    share,
    take,
    visit,
)

__all__ = ["LeaseUnreachable", "lease", "run_purse", "share"]

TERM_SECONDS = 30.0
"""How long a lease holds without being renewed."""
MARGIN = 0.25
"""Share of the term, at its end, in which a holder that could not renew reserves nothing: it writes things down."""
LOOK_SECONDS = 1.0
"""A holder asks at least so often whether somebody waits for what it does not use."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.01, 0.25
"""How often a holder that waits asks again."""


@asynccontextmanager
async def lease(
    store: Store,
    run_id: str,
    nano: int,
    *,
    ledger: str = "run",
    cap_nano: int | None = None,
    term_seconds: float = TERM_SECONDS,
) -> AsyncIterator[Ledger]:
    """A ledger to spend from while the block is open, as a part of what the run may spend.

    Args:
        store: holds the run.
        run_id: whose money it is.
        nano: how much to take at a time, in nano-USD.
        ledger: path it is booked under, such as `run/worker-3`. What an earlier holder of the same path spent is booked
            on it, so that a resumed worker goes on where it was.
        cap_nano: what all holders may spend together; `None` leaves it as `share` or an earlier lease said.
        term_seconds: how long after a holder's death its lease is taken back.

    Raises:
        InputError: the run has no cap.
        LeaseUnreachable: the database could not be asked.
    """
    own = Ledger(0, name=ledger, sink=lambda entry: store.post(LedgerEntry(run_id=run_id, entry=entry)))
    lessee = Lessee(
        run_id=run_id,
        lease_id=own.tree_id,
        ledger=ledger,
        holder=f"{socket.gethostname()}:{os.getpid()}",
        seconds=term_seconds,
    )
    keeper = _Keeper(store, lessee, own, nano)
    await keeper.begin(cap_nano)
    keeping = asyncio.create_task(keeper.keep(), name=f"lease {ledger}")
    try:
        yield own
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await keeper.end()


@asynccontextmanager
async def run_purse(
    store: Store,
    run_id: str,
    cap_nano: int | None,
    recording: Recording | None,
    *,
    given: Ledger | None,
    lease_nano: int | None,
    resumed: bool,
) -> AsyncIterator[Ledger]:
    """The ledger of a run: its own, or a lease where other processes lease from the run too.

    Args:
        store: holds the run.
        run_id: whose ledger it is.
        cap_nano: most the run may spend, in nano-USD; `None` sets no cap.
        recording: of the run, if it has one.
        given: pays in its place; `None` for nobody.
        lease_nano: how much to lease at a time; `None` leases only where an earlier attempt did.
        resumed: whether there was an earlier attempt.

    Raises:
        InputError: it is to be leased, and has no cap.
    """
    if given is not None:
        yield given
        return
    if lease_nano is None and not (resumed and recording is None and is_leased(store, run_id)):
        yield run_ledger(store, run_id, cap_nano, recording)
        return
    at_a_time = lease_nano or (cap_nano or 0) // 16 or 1
    async with lease(store, run_id, at_a_time, cap_nano=cap_nano) as own:
        yield own


class _Keeper:
    """Keeps one lease; the ledger's `Lender`."""

    def __init__(self, store: Store, lessee: Lessee, ledger: Ledger, chunk_nano: int) -> None:
        self._store = store
        self._lessee = lessee
        self._ledger = ledger
        self._chunk = chunk_nano
        self._past = 0
        self._most = 0
        self._reason: str | None = None
        self._others_wait = False
        self._until, self._until_wall = 0.0, 0.0
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()

    @property
    def most(self) -> int:
        """What the ledger's cap could grow to."""
        return self._most

    @property
    def lost(self) -> str | None:
        """Why nothing may be reserved; a machine asleep stops one of the two clocks."""
        if self._reason is None and (time.monotonic() > self._until or time.time() > self._until_wall):
            return f"the lease of {self._lessee.ledger!r} could not be renewed in time; see whether the store answers"
        return self._reason

    def ask(self) -> None:
        """Somebody waits."""
        self._loop.call_soon_threadsafe(self._asked.set)

    async def begin(self, cap_nano: int | None) -> None:
        """Take the lease, and book what earlier holders of the same path spent."""
        self._start_term()
        granted = await asyncio.to_thread(take, self._store, self._lessee, nano=self._chunk, cap_nano=cap_nano)
        live = await asyncio.to_thread(live_leases, self._store, self._lessee.run_id)
        path = self._lessee.ledger
        self._ledger.replay(
            record.entry
            for record in self._store.ledger_entries(self._lessee.run_id)
            if f"{record.entry.ledger}/".startswith(f"{path}/")
            and record.entry.reservation_id.partition("-")[0] not in live
        )
        self._past = self._ledger.spent
        self._ledger.borrow(self)
        self._ledger.lend(self._past)
        self._learn(granted)

    async def keep(self) -> None:
        """Renew, extend and hand back, until cancelled or lost."""
        pause = FIRST_WAIT_SECONDS
        while self._reason is None:
            if self._others_wait or self._ledger.lacking()[0]:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_WAIT_SECONDS, self._lessee.seconds / 4)
            else:
                pause = FIRST_WAIT_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_SECONDS, self._lessee.seconds / 4)):
                        await self._asked.wait()
            self._asked.clear()
            try:
                await self._visit()
            except LeaseUnreachable:
                pass  # it may answer again before the term is over, which `lost` sees
            except StoreFailed as failure:
                self._stop(str(failure))
            if self.lost is not None:
                self._stop(self.lost)

    async def end(self) -> None:
        """Close the lease; a call still in flight stays booked in full."""
        self._stop(f"the lease of {self._lessee.ledger!r} is closed")
        spent = self._ledger.spent + self._ledger.reserved - self._past
        with contextlib.suppress(LeaseUnreachable):  # it ends by expiring then
            await asyncio.to_thread(give_up, self._store, self._lessee, spent_nano=spent, overrun=self._ledger.overrun)

    async def _visit(self) -> None:
        short = self._others_wait or self._ledger.lacking()[0] > 0
        # Lowered here before the database hears of it, and raised after: never above what it knows.
        cap = self._ledger.hand_back(0 if short else self._chunk)
        least, wanted = self._ledger.lacking()
        wish = Wish(
            spent_nano=self._ledger.spent - self._past,
            keep_nano=cap - self._past,
            least_nano=least,
            wanted_nano=max(wanted, self._chunk) if least else 0,
            overrun=self._ledger.overrun,
        )
        self._learn(await self._visited(wish))

    async def _visited(self, wish: Wish) -> Standing:
        started = time.monotonic(), time.time()
        standing = await asyncio.to_thread(visit, self._store, self._lessee, wish)
        self._start_term(*started)
        return standing

    def _start_term(self, monotonic: float | None = None, wall: float | None = None) -> None:
        term = self._lessee.seconds * (1 - MARGIN)
        self._until = (time.monotonic() if monotonic is None else monotonic) + term
        self._until_wall = (time.time() if wall is None else wall) + term

    def _learn(self, standing: Standing) -> None:
        if standing.lost is not None:
            self._stop(standing.lost)
            return
        self._most = self._past + standing.most_nano
        self._others_wait = standing.others_wait
        self._ledger.lend(standing.granted_nano)

    def _stop(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
        self._ledger.lend(0)  # who waits is refused now
