"""The theorem of the ledger, on random trees of agents with fifty calls at once.

What the ledger says is not trusted: an account of its entries is kept beside it, and checked at every one of them.
"""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass

from hypothesis import event, given, settings
from hypothesis import strategies as st

from orchestra.errors import CannotAfford
from orchestra.ledger import Ledger

CALLS = 50


@dataclass
class Call:
    seat: int
    nano: int
    end: str
    """settle | overrun | unknown | release | cancel (waiting or working) | late (times out at work)"""
    share: int
    """Of the reservation, in per cent, that it costs."""
    steps: int
    """How long it works, in turns of the event loop."""
    deadline_seconds: float | None


ends = ["settle"] * 12 + ["unknown"] * 3 + ["release"] * 3 + ["cancel"] * 3 + ["late"] * 2 + ["overrun"]
calls = st.builds(
    Call,
    seat=st.integers(0, 9),
    nano=st.integers(0, 60),
    end=st.sampled_from(ends),
    share=st.integers(0, 100),
    steps=st.integers(0, 6),
    deadline_seconds=st.sampled_from([None, None, None, 0.0]),
)
caps = st.one_of(st.none(), st.integers(0, 400))
trees = st.lists(st.tuples(st.integers(0, 9), caps), max_size=9)


class Books:
    """An account of every ledger by its entries alone, checked at each; it knows nothing of how a ledger counts."""

    def __init__(self):
        self.caps, self.open = {}, {}
        self.gone, self.held, self.direct = Counter(), Counter(), Counter()
        self.overrun, self.served = set(), defaultdict(list)

    def __call__(self, entry):
        chain = [path for path in self.caps if f"{entry.ledger}/".startswith(f"{path}/")]
        if entry.event == "reserve":
            if entry.nano:
                assert not any(path in self.overrun and self.caps[path] is not None for path in chain)
            self.open[entry.reservation_id] = entry.nano
            self.served[entry.ledger].append(int(entry.what))
        elif entry.event == "overrun":
            self.overrun.update(chain)
            return
        change = self.open[entry.reservation_id] * (1 if entry.event == "reserve" else -1)
        kept = entry.nano if entry.event in ("settle", "unknown") else 0
        self.direct[entry.ledger] += kept
        for path in chain:
            self.held[path] += change
            self.gone[path] += kept
            over = self.gone[path] + self.held[path] > (self.caps[path] if self.caps[path] is not None else 10**9)
            assert not over or path in self.overrun or kept > -change, (path, entry)
        if entry.event != "reserve":
            del self.open[entry.reservation_id]

    def could_never_fit(self, path, nano):
        chain = [above for above in self.caps if f"{path}/".startswith(f"{above}/") and self.caps[above] is not None]
        return any(above in self.overrun or nano > self.caps[above] - self.gone[above] for above in chain)


def grown(root_cap, branches, books, sink):
    """Every ledger of a random tree; each branch hangs below one that is there already."""
    ledgers = [Ledger(root_cap, sink=sink)]
    for number, (parent, cap) in enumerate(branches):
        ledgers.append(ledgers[parent % len(ledgers)].child(str(number), cap))
    books.caps = {ledger.path: ledger.cap for ledger in ledgers}
    return ledgers


async def made(number, call, ledger, books, waited):
    reservation = None
    try:
        reservation = ledger.reserve_now(call.nano, str(number))
        if reservation is None:
            waited[ledger.path].append(number)
            event("somebody waited")
            reservation = await ledger.reserve(call.nano, str(number), deadline_seconds=call.deadline_seconds)
    except CannotAfford:
        assert books.could_never_fit(ledger.path, call.nano), "refused although it might have fitted"
        return
    except TimeoutError:
        return
    try:
        async with asyncio.timeout(0 if call.end == "late" else None):
            for _ in range(call.steps):
                await asyncio.sleep(0)
    except (asyncio.CancelledError, TimeoutError) as cut:
        ledger.unknown(reservation)
        if isinstance(cut, asyncio.CancelledError):
            raise
        return
    if call.end == "unknown":
        ledger.unknown(reservation)
    elif call.end == "release":
        ledger.release(reservation)
    else:
        ledger.settle(reservation, call.nano + 7 if call.end == "overrun" else call.nano * call.share // 100)


async def played(root_cap, branches, some_calls):
    entries, books, waited = [], Books(), defaultdict(list)

    def sink(entry):
        entries.append(entry)
        books(entry)

    ledgers = grown(root_cap, branches, books, sink)
    tasks = [
        asyncio.create_task(made(number, call, ledgers[call.seat % len(ledgers)], books, waited))
        for number, call in enumerate(some_calls)
    ]
    for turn in range(3):
        await asyncio.sleep(0)
        for task, call in zip(tasks, some_calls, strict=True):
            if call.end == "cancel" and call.steps % 3 == turn:
                task.cancel()
    # Nobody may wait for ever once all others are done.
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in done), done
    return ledgers, entries, books, waited


@settings(deadline=None)
@given(caps, trees, st.lists(calls, min_size=CALLS, max_size=CALLS))
def test_no_cap_is_ever_exceeded_and_nobody_starves_with_fifty_calls_at_once(root_cap, branches, some_calls):
    ledgers, entries, books, waited = asyncio.run(played(root_cap, branches, some_calls))
    for ledger in ledgers:
        path = ledger.path
        assert (ledger.reserved, ledger.spent) == (0, books.gone[path])
        assert ledger.overrun == (path in books.overrun)
        children = [other for other in ledgers if other.path.rpartition("/")[0] == path]
        assert ledger.spent == books.direct[path] + sum(child.spent for child in children)
        assert ledger.unknown_total == sum(
            e.nano for e in entries if e.event == "unknown" and f"{e.ledger}/".startswith(f"{path}/")
        )
        in_line = [number for number in books.served[path] if number in waited[path] and some_calls[number].nano]
        assert in_line == sorted(in_line, key=waited[path].index), "served first in, first out"
    again = Ledger(root_cap)
    again.replay(entries)
    assert (again.settled, again.unknown_total) == (ledgers[0].settled, ledgers[0].unknown_total)


@given(st.lists(st.integers(1, 10), min_size=2, max_size=30))
def test_on_one_ledger_nobody_overtakes(amounts):
    async def order():
        ledger, served = Ledger(10), []
        first = ledger.reserve_now(10, "first")

        async def call(number, nano):
            reservation = await ledger.reserve(nano, str(number))
            served.append(number)
            await asyncio.sleep(0)
            ledger.settle(reservation, 0)

        tasks = [asyncio.create_task(call(number, nano)) for number, nano in enumerate(amounts)]
        await asyncio.sleep(0)
        ledger.release(first)
        await asyncio.gather(*tasks)
        return served

    assert asyncio.run(order()) == list(range(len(amounts)))


@given(trees, st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), max_size=60))
def test_many_children_that_are_each_given_the_whole_cap_spend_it_once(branches, wishes):
    root = Ledger(100)
    ledgers = [root]
    for number, (parent, _) in enumerate(branches):
        ledgers.append(ledgers[parent % len(ledgers)].child(str(number), 100))
    for seat, nano in wishes:
        ledger = ledgers[seat % len(ledgers)]
        left = ledger.remaining
        try:
            ledger.settle(ledger.reserve_now(nano, "call"), nano)
        except CannotAfford:
            assert nano > left
    assert root.spent <= 100
    assert all(ledger.remaining <= 100 - root.spent for ledger in ledgers)
