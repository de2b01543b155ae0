"""The ledger: no call is sent before its worst case is reserved, and no cap is ever exceeded.

Always true, at any concurrency, on every ledger of a tree: settled + unknown + open reservations <= cap, as long as no
call costs more than was reserved for it. One that does is booked in full and flagged `overrun`, and every capped ledger
it counts on refuses whatever comes after. A child is a limit on its parent, not a prepaid slice: a reservation is
checked against the whole chain up to the root, in one step.

A call that only open reservations stand in the way of waits. Who waits is served first in, first out among those who
wait for the same ledger: whoever came first holds the ledgers that are too full for it, and nothing that came later may
take from those, so a large call is not starved by small ones; a sibling whose own chain has room is not held up. A call
is refused when it could never fit, even if every open reservation were refunded. A call that costs nothing takes
nothing from anybody: it is never refused and never waits, whatever is used up.

The cap of a root may be lent, and grow and shrink while the ledger is used (`Lender`): that is how several processes
share the money of one run. A ledger may be used from several threads: each tree has one lock.
"""

import asyncio
import contextlib
import itertools
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from orchestra.errors import CannotAfford
from orchestra.ledger.entries import Entry, Event, Lender, ReservationClosed, Sink
from orchestra.ledger.money import show_usd

_PAST_COLUMN: dict[Event, int] = {"settle": 0, "unknown": 1, "overrun": 2}


@dataclass(slots=True, eq=False)
class Reservation:
    """Money put aside for one call; closed exactly once."""

    id: str
    ledger: "Ledger"
    nano: int
    what: str
    is_open: bool = True


@dataclass(slots=True, eq=False)
class _Waiter:
    ledger: "Ledger"
    nano: int
    what: str
    arrived: "asyncio.Future[None]"
    outcome: "Reservation | Exception | None" = None
    """Decided under the lock; `arrived` only wakes the caller up."""

    def wake(self) -> None:
        """Tell the caller, from whichever thread decided."""
        loop = self.arrived.get_loop()
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._arrive()
        else:
            with contextlib.suppress(RuntimeError):  # that loop has closed, and nobody waits any more
                loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        if not self.arrived.done():
            self.arrived.set_result(None)


class _Tree:
    """What all ledgers of one tree share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.waiters: dict[_Waiter, None] = {}
        """In order of arrival."""
        self.past: dict[str, list[int]] = {}
        """By path, what an earlier attempt settled, left unknown and overran by, until that child is made again."""
        self.prefix = secrets.token_hex(8)
        self.counter = itertools.count(1)
        self.lender: Lender | None = None


class Ledger:
    """Money that calls may cost together.

    Args:
        cap: most nano-USD that may be spent; `None` sets no limit of its own.
        name: shown in messages and entries; unique among its siblings when the run is to be resumed.
        parent: ledger this one is a limit on.
        sink: takes every entry; `None` takes the parent's.
    """

    def __init__(
        self,
        cap: int | None,
        *,
        name: str = "run",
        parent: "Ledger | None" = None,
        sink: Sink | None = None,
    ) -> None:
        if cap is not None:
            _check_amount(cap, "a cap")
        self.cap = cap
        self.path: str = f"{parent.path}/{name}" if parent else name
        self.reserved = 0
        self._tree: _Tree = parent._tree if parent else _Tree()
        self._sink: Sink | None = sink or (parent._sink if parent else None)
        self._chain: tuple[Ledger, ...] = (self, *(parent._chain if parent else ()))
        self._capped: tuple[Ledger, ...] = tuple(ledger for ledger in self._chain if ledger.cap is not None)
        with self._tree.lock:
            self.settled, self.unknown_total, excess = self._tree.past.pop(self.path, (0, 0, 0))
        self.overrun = excess > 0

    def __repr__(self) -> str:
        cap = "no cap" if self.cap is None else f"cap {show_usd(self.cap)}"
        return f"<Ledger {self.path!r}: {cap}, {show_usd(self.spent)} spent, {show_usd(self.reserved)} reserved>"

    @property
    def tree_id(self) -> str:
        """What the id of every reservation of this tree begins with, before a dash; unique among all trees."""
        return self._tree.prefix

    @property
    def spent(self) -> int:
        """Nano-USD that are gone: settled, or unknown and kept in full."""
        return self.settled + self.unknown_total

    @property
    def remaining(self) -> int | None:
        """Nano-USD that could be reserved now, under every cap of the chain; `None` when there is no cap."""
        with self._tree.lock:
            room = [max(0, _cap(ledger) - ledger.spent - ledger.reserved) for ledger in self._capped]
        return min(room) if room else None

    def child(self, name: str, cap: int | None = None) -> "Ledger":
        """A ledger whose spending counts on this one too, with a limit of its own if `cap` says so."""
        return Ledger(cap, name=name, parent=self)

    def reserve_now(self, nano: int, what: str) -> Reservation | None:
        """A reservation, or `None` when it would have to wait.

        Raises:
            CannotAfford: when it could never fit.
        """
        _check_amount(nano, "a reservation")
        tree = self._tree
        with tree.lock:
            refusal = self._refusal(nano, what)
            if refusal is not None:
                raise refusal
            # Nothing is taken from anybody by a call that is free, so it need not queue.
            if nano and (self._too_full(nano) or (tree.waiters and self._held_ahead())):
                return None
            return self._book(nano, what)

    async def reserve(self, nano: int, what: str, *, deadline_seconds: float | None = None) -> Reservation:
        """A reservation of `nano` for `what`, waiting while only open reservations stand in the way.

        Cancelling the wait leaves nothing reserved.

        Raises:
            CannotAfford: when it could never fit, now or after a settle.
            TimeoutError: when it still waits after `deadline_seconds`.
        """
        tree = self._tree
        with tree.lock:
            booked = self.reserve_now(nano, what)
            if booked is not None:
                return booked
            waiter = _Waiter(self, nano, what, asyncio.get_running_loop().create_future())
            tree.waiters[waiter] = None
            if tree.lender is not None:
                tree.lender.ask()
        try:
            async with asyncio.timeout(deadline_seconds):
                await waiter.arrived
        except TimeoutError:
            if self._leave(waiter):
                raise TimeoutError(
                    f"{what}: waited {deadline_seconds} s for {show_usd(nano)} on ledger {self.path!r}, "
                    f"where {show_usd(self.reserved)} is reserved by calls in flight; allow more time or a higher cap"
                ) from None
        except asyncio.CancelledError:
            self._leave(waiter)
            if isinstance(waiter.outcome, Reservation):
                self.release(waiter.outcome)
            raise
        if isinstance(waiter.outcome, Reservation):
            return waiter.outcome
        assert waiter.outcome is not None, "a waiter was woken before its outcome was decided"
        raise waiter.outcome

    def settle(self, reservation: Reservation, nano: int) -> None:
        """Book the true cost and refund the rest; a cost above the reservation is booked in full as an overrun.

        Raises:
            ReservationClosed: when it was closed before.
        """
        _check_amount(nano, "a cost")
        with self._tree.lock:
            self._close(reservation)
            excess = nano - reservation.nano
            for ledger in reservation.ledger._chain:
                ledger.settled += nano
                ledger.overrun |= excess > 0
            self._write(reservation, "settle", nano)
            if excess > 0:
                self._write(reservation, "overrun", excess)
            self._serve()

    def unknown(self, reservation: Reservation) -> None:
        """Keep the whole reservation booked: the call was sent, and nobody knows what it cost.

        Raises:
            ReservationClosed: when it was closed before.
        """
        with self._tree.lock:
            self._close(reservation)
            for ledger in reservation.ledger._chain:
                ledger.unknown_total += reservation.nano
            self._write(reservation, "unknown", reservation.nano)
            self._serve()

    def release(self, reservation: Reservation) -> None:
        """Refund a reservation whose call was never sent.

        Raises:
            ReservationClosed: when it was closed before.
        """
        with self._tree.lock:
            self._close(reservation)
            self._write(reservation, "release", reservation.nano)
            self._serve()

    def replay(self, entries: Iterable[Entry]) -> None:
        """Book what an earlier attempt of this run left in the store; call it on the root before anything is reserved.

        A reservation that was never closed belongs to a call in flight when the run was killed: it is kept in full as
        unknown, and that is written down. What is closed twice (a process that was taken for dead settled late) counts
        as it was closed first. Children made again under their old names start where they were; an overrun
        still stops everything under its cap.
        """
        with self._tree.lock:
            in_flight: dict[str, Entry] = {}
            for entry in entries:
                if entry.event == "reserve":
                    in_flight[entry.reservation_id] = entry
                elif entry.event == "overrun" or in_flight.pop(entry.reservation_id, None) is not None:
                    self._book_past(entry)
            for lost in in_flight.values():
                kept = Entry(lost.ledger, lost.reservation_id, "unknown", lost.nano, lost.what, time.time())
                self._book_past(kept)
                if self._sink is not None:
                    self._sink(kept)

    def _book_past(self, entry: Entry) -> None:
        if entry.event not in _PAST_COLUMN:
            return
        column = _PAST_COLUMN[entry.event]
        if entry.event == "settle":
            self.settled += entry.nano
        elif entry.event == "unknown":
            self.unknown_total += entry.nano
        else:
            self.overrun = True
        parts = entry.ledger.split("/")
        for depth in range(2, len(parts) + 1):
            self._tree.past.setdefault("/".join(parts[:depth]), [0, 0, 0])[column] += entry.nano

    def borrow(self, lender: Lender) -> None:
        """Let the cap of this root be what `lender` lends; `lend` and `hand_back` change it."""
        with self._tree.lock:
            assert len(self._chain) == 1, "only a root is lent to: a child is a limit on its parent"
            self._tree.lender = lender

    def lend(self, nano: int) -> None:
        """Raise the cap by `nano`, or only look at those who wait again: the lender knows more now."""
        with self._tree.lock:
            self.cap = _cap(self) + nano
            self._serve()

    def hand_back(self, keep_nano: int = 0) -> int:
        """Lower the cap to what is spent and reserved, and `keep_nano` if it was that high; the cap there is now."""
        with self._tree.lock:
            self.cap = min(_cap(self), self.spent + self.reserved + keep_nano)
            return self.cap

    def lacking(self) -> tuple[int, int]:
        """Nano-USD by which the cap is too low: for who waits longest at this root, and for all who wait."""
        with self._tree.lock:
            room = _cap(self) - self.spent - self.reserved
            amounts = [waiter.nano for waiter in self._tree.waiters]
        first = next((nano - room for nano in amounts if nano > room), 0)
        return first, max(first, sum(amounts) - room) if first else 0

    def _refusal(self, nano: int, what: str) -> CannotAfford | None:
        if not nano:
            return None
        lender = self._tree.lender
        if lender is not None and (lost := lender.lost) is not None:
            return CannotAfford(f"{what}: {lost}")
        for ledger in self._capped:
            cap = _cap(ledger)
            if lender is not None and ledger is self._chain[-1]:
                cap = max(cap, lender.most)
            if ledger.overrun:
                return CannotAfford(
                    f"{what}: ledger {ledger.path!r} takes no more reservations, because a call cost more than was "
                    f"reserved for it; see the `overrun` entry, and check that model's price and max_tokens"
                )
            if nano > cap - ledger.spent:
                return CannotAfford(
                    f"{what}: needs up to {show_usd(nano)}, but ledger {ledger.path!r} has "
                    f"{show_usd(max(0, cap - ledger.spent))} left of {show_usd(cap)}; "
                    f"raise the cap, lower max_tokens or shorten the prompt"
                )
        return None

    def _too_full(self, nano: int) -> "list[Ledger]":
        return [ledger for ledger in self._capped if nano > _cap(ledger) - ledger.spent - ledger.reserved]

    def _held_ahead(self) -> bool:
        """Whether somebody who waits holds a ledger of this chain."""
        held: set[Ledger] = set()
        for waiter in self._tree.waiters:
            if held.isdisjoint(waiter.ledger._capped):
                held.update(waiter.ledger._too_full(waiter.nano))
            if not held.isdisjoint(self._capped):
                return True
        return False

    def _serve(self) -> None:
        """Decide about everyone who waits, in order of arrival."""
        tree = self._tree
        if not tree.waiters:
            return
        held: set[Ledger] = set()
        decided: list[_Waiter] = []
        root = self._chain[-1]
        for waiter in tree.waiters:
            if root in held:  # nobody behind can be served, and a refusal can wait: a long queue costs nothing
                break
            ledger = waiter.ledger
            waiter.outcome = ledger._refusal(waiter.nano, waiter.what)
            if waiter.outcome is None and held.isdisjoint(ledger._capped):
                full = ledger._too_full(waiter.nano)
                held.update(full)
                if not full:
                    waiter.outcome = ledger._book(waiter.nano, waiter.what)
            if waiter.outcome is not None:
                decided.append(waiter)
        for waiter in decided:
            del tree.waiters[waiter]
            waiter.wake()

    def _leave(self, waiter: _Waiter) -> bool:
        """Whether `waiter` was still undecided; it no longer waits."""
        with self._tree.lock:
            if waiter not in self._tree.waiters:
                return False
            del self._tree.waiters[waiter]
            self._serve()
            return True

    def _book(self, nano: int, what: str) -> Reservation:
        reservation = Reservation(f"{self._tree.prefix}-{next(self._tree.counter)}", self, nano, what)
        # Written first: should the sink fail, nothing has been put aside.
        self._write(reservation, "reserve", nano)
        for ledger in self._chain:
            ledger.reserved += nano
        return reservation

    def _close(self, reservation: Reservation) -> None:
        if self not in reservation.ledger._chain:
            raise ReservationClosed(f"{reservation.what!r} was not reserved on ledger {self.path!r} or below it")
        if not reservation.is_open:
            raise ReservationClosed(f"{reservation.what!r} ({reservation.id}) is closed already; close it exactly once")
        reservation.is_open = False
        for ledger in reservation.ledger._chain:
            ledger.reserved -= reservation.nano

    def _write(self, reservation: Reservation, event: Event, nano: int) -> None:
        sink = reservation.ledger._sink
        if sink is not None:
            sink(Entry(reservation.ledger.path, reservation.id, event, nano, reservation.what, time.time()))


def _cap(ledger: Ledger) -> int:
    assert ledger.cap is not None, "only capped ledgers are compared"
    return ledger.cap


def _check_amount(nano: int, role: str) -> None:
    if type(nano) is not int:
        raise TypeError(f"{role} is an integer in nano-USD, got {nano!r}; orchestra.ledger.nano makes one from dollars")
    if nano < 0:
        raise ValueError(f"{role} is at least zero, got {nano} nano-USD")
