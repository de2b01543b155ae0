"""The theorem of the ledger, on random trees of ledgers with fifty calls at once."""

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import CannotAfford
from orchestra.ledger import Ledger

CALLS = 50


@dataclass
class Call:
    seat: int
    nano: int
    end: str
    """settle | unknown | release | cancel while waiting or working"""
    share: int
    """Of the reservation, in per cent, that it costs."""
    steps: int
    """How long it works, in turns of the event loop."""
    deadline_seconds: float | None


calls = st.builds(
    Call,
    seat=st.integers(0, 9),
    nano=st.integers(0, 60),
    end=st.sampled_from(["settle", "settle", "settle", "unknown", "release", "cancel"]),
    share=st.integers(0, 100),
    steps=st.integers(0, 6),
    deadline_seconds=st.sampled_from([None, None, None, 0.0]),
)
caps = st.one_of(st.none(), st.integers(0, 200))
trees = st.lists(st.tuples(st.integers(0, 9), caps), max_size=9)


def grown(root_cap, branches, sink):
    """Every ledger of a random tree; each branch hangs below one that is there already."""
    ledgers = [Ledger(root_cap, sink=sink)]
    for number, (parent, cap) in enumerate(branches):
        ledgers.append(ledgers[parent % len(ledgers)].child(str(number), cap))
    return ledgers


async def made(call, ledger, check):
    try:
        reservation = await ledger.reserve(call.nano, "call", deadline_seconds=call.deadline_seconds)
    except (CannotAfford, TimeoutError):
        check()
        return
    try:
        for _ in range(call.steps):
            check()
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        ledger.unknown(reservation)
        raise
    if call.end == "unknown":
        ledger.unknown(reservation)
    elif call.end == "release":
        ledger.release(reservation)
    else:
        ledger.settle(reservation, call.nano * call.share // 100)
    check()


async def played(root_cap, branches, some_calls):
    entries = []
    ledgers = grown(root_cap, branches, entries.append)

    def check():
        for ledger in ledgers:
            assert min(ledger.settled, ledger.unknown_total, ledger.reserved) >= 0
            assert ledger.cap is None or ledger.settled + ledger.unknown_total + ledger.reserved <= ledger.cap

    tasks = [asyncio.create_task(made(call, ledgers[call.seat % len(ledgers)], check)) for call in some_calls]
    for turn in range(3):
        await asyncio.sleep(0)
        for task, call in zip(tasks, some_calls, strict=True):
            if call.end == "cancel" and call.steps % 3 == turn:
                task.cancel()
    # Nobody may wait for ever once all others are done.
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in done), done
    return ledgers, entries


@settings(deadline=None)
@given(caps, trees, st.lists(calls, min_size=CALLS, max_size=CALLS))
def test_no_cap_is_ever_exceeded_and_nobody_starves_with_fifty_calls_at_once(root_cap, branches, some_calls):
    ledgers, entries = asyncio.run(played(root_cap, branches, some_calls))
    for ledger in ledgers:
        below = [e for e in entries if f"{e.ledger}/".startswith(f"{ledger.path}/")]
        sums = {event: sum(e.nano for e in below if e.event == event) for event in ("reserve", "settle", "unknown")}
        assert (ledger.reserved, ledger.settled, ledger.unknown_total) == (0, sums["settle"], sums["unknown"])
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
