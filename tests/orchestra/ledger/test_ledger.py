import asyncio
import threading

import pytest

from orchestra.errors import CannotAfford
from orchestra.ledger import Entry, Ledger, ReservationClosed


def test_a_settle_refunds_the_rest():
    ledger = Ledger(100)
    ledger.settle(ledger.reserve_now(60, "call"), 20)
    assert (ledger.settled, ledger.reserved, ledger.remaining) == (20, 0, 80)


def test_a_reservation_that_could_never_fit_is_refused_with_the_fix():
    ledger = Ledger(100, name="search")
    ledger.settle(ledger.reserve_now(60, "call"), 60)
    with pytest.raises(CannotAfford, match=r"chat tiny: needs up to .* 'search' has .* left of .*; raise the cap"):
        ledger.reserve_now(41, "chat tiny")


def test_a_reservation_that_has_to_wait_is_none_when_asked_for_now():
    ledger = Ledger(100)
    assert ledger.reserve_now(60, "a")
    assert ledger.reserve_now(50, "b") is None
    assert ledger.reserve_now(40, "c")


@pytest.mark.parametrize("close", ["settle", "unknown", "release"])
@pytest.mark.parametrize("again", ["settle", "unknown", "release"])
def test_a_reservation_is_closed_exactly_once(close, again):
    ledger = Ledger(100)
    reservation = ledger.reserve_now(60, "call")
    arguments = {"settle": (reservation, 5), "unknown": (reservation,), "release": (reservation,)}
    getattr(ledger, close)(*arguments[close])
    before = (ledger.settled, ledger.unknown_total, ledger.reserved)
    with pytest.raises(ReservationClosed, match="closed already"):
        getattr(ledger, again)(*arguments[again])
    assert (ledger.settled, ledger.unknown_total, ledger.reserved) == before


def test_a_stranger_ledger_cannot_close_a_reservation():
    reservation = Ledger(100).reserve_now(60, "call")
    with pytest.raises(ReservationClosed, match="not reserved on"):
        Ledger(100).settle(reservation, 5)


def test_an_unknown_cost_stays_booked_in_full():
    ledger = Ledger(100)
    ledger.unknown(ledger.reserve_now(60, "call"))
    assert (ledger.settled, ledger.unknown_total, ledger.spent, ledger.remaining) == (0, 60, 60, 40)


def test_an_overrun_is_booked_in_full_and_stops_further_reservations():
    entries = []
    ledger = Ledger(100, sink=entries.append)
    ledger.settle(ledger.reserve_now(10, "call"), 25)
    assert (ledger.settled, ledger.overrun) == (25, True)
    assert [(e.event, e.nano) for e in entries] == [("reserve", 10), ("settle", 25), ("overrun", 15)]
    with pytest.raises(CannotAfford, match="cost more than was reserved"):
        ledger.reserve_now(1, "next")


def test_without_a_cap_an_overrun_is_flagged_and_nothing_stops():
    ledger = Ledger(None)
    ledger.settle(ledger.reserve_now(10, "call"), 25)
    assert ledger.overrun
    assert ledger.reserve_now(10, "next")


def test_an_overrun_in_a_child_stops_its_siblings_under_a_capped_parent_only():
    for cap, stopped in ((100, True), (None, False)):
        parent = Ledger(cap)
        one, other = parent.child("one", 50), parent.child("other", 50)
        one.settle(one.reserve_now(1, "call"), 2)
        with pytest.raises(CannotAfford):
            one.reserve_now(1, "next")
        if stopped:
            with pytest.raises(CannotAfford, match="'run'"):
                other.reserve_now(1, "next")
        else:
            assert other.reserve_now(1, "next")


def test_a_child_is_a_limit_on_its_parent_not_a_prepaid_slice():
    parent = Ledger(100)
    one, other = parent.child("one", 80), parent.child("other", 80)
    one.settle(one.reserve_now(80, "call"), 70)
    assert (parent.settled, other.remaining) == (70, 30)
    with pytest.raises(CannotAfford, match="'run'"):
        other.reserve_now(31, "call")
    with pytest.raises(CannotAfford, match="'run/one'"):
        one.reserve_now(11, "call")
    assert other.reserve_now(30, "call")


def test_a_refused_reservation_leaves_nothing_behind_on_any_ledger_of_the_chain():
    root = Ledger(100)
    leaf = root.child("middle", 90).child("leaf", 10)
    with pytest.raises(CannotAfford):
        leaf.reserve_now(11, "call")
    assert root.reserved == leaf.reserved == 0


@pytest.mark.parametrize("amount", [1.0, True, None])
def test_money_is_an_integer(amount):
    with pytest.raises(TypeError, match="nano-USD"):
        Ledger(10).reserve_now(amount, "call")


def test_negative_money_is_refused():
    ledger = Ledger(10)
    with pytest.raises(ValueError, match="at least zero"):
        ledger.reserve_now(-1, "call")
    reservation = ledger.reserve_now(5, "call")
    with pytest.raises(ValueError, match="at least zero"):
        ledger.settle(reservation, -5)
    with pytest.raises(ValueError, match="at least zero"):
        Ledger(-1)


def test_a_free_call_fits_under_a_cap_of_zero_and_past_those_who_wait():
    ledger = Ledger(0)
    assert ledger.reserve_now(0, "free")
    assert ledger.remaining == 0


def test_a_free_call_passes_a_cap_that_is_used_up_or_overrun():
    ledger = Ledger(10)
    ledger.settle(ledger.reserve_now(10, "call"), 10)
    assert ledger.child("local model").reserve_now(0, "free")
    ledger = Ledger(10)
    ledger.settle(ledger.reserve_now(5, "call"), 12)
    assert ledger.reserve_now(0, "free")


def test_what_is_closed_twice_counts_as_it_was_closed_first():
    entries = [
        Entry("run/a", "x-1", event, nano, "call", 0.0)
        for event, nano in (("reserve", 60), ("unknown", 60), ("settle", 3))
    ]
    ledger = Ledger(100)
    ledger.replay(entries)
    assert (ledger.settled, ledger.unknown_total) == (0, 60)


async def test_those_who_wait_are_served_first_in_first_out():
    ledger, order = Ledger(10), []

    async def call(name, nano):
        reservation = await ledger.reserve(nano, name)
        order.append(name)
        await asyncio.sleep(0)
        ledger.settle(reservation, 0)

    first = ledger.reserve_now(10, "first")
    waiting = [asyncio.create_task(call(str(i), 10 if i % 2 else 1)) for i in range(10)]
    await asyncio.sleep(0)
    ledger.settle(first, 0)
    await asyncio.gather(*waiting)
    assert order == [str(i) for i in range(10)]


async def test_a_large_call_is_not_starved_by_small_ones():
    ledger, small_ones = Ledger(10), 0
    stream = [ledger.reserve_now(1, "small") for _ in range(10)]
    large = asyncio.create_task(ledger.reserve(10, "large"))
    await asyncio.sleep(0)
    while stream:
        ledger.settle(stream.pop(), 0)
        if ledger.reserve_now(1, "small") is not None:
            small_ones += 1
    assert small_ones == 0
    assert (await large).nano == 10


async def test_who_waits_for_its_own_limit_does_not_hold_up_a_sibling():
    root = Ledger(100)
    narrow, wide = root.child("narrow", 10), root.child("wide", 100)
    taken = narrow.reserve_now(10, "call")
    waiting = asyncio.create_task(narrow.reserve(10, "next"))
    await asyncio.sleep(0)
    assert wide.reserve_now(50, "call")
    assert narrow.reserve_now(1, "late") is None
    narrow.release(taken)
    assert (await waiting).nano == 10


async def test_who_waits_behind_another_holds_nothing_itself():
    root = Ledger(100)
    narrow, wide = root.child("narrow", 10), root.child("wide")
    narrow.reserve_now(10, "call")
    waiting = [asyncio.create_task(narrow.reserve(nano, "next")) for nano in (5, 10)]
    await asyncio.sleep(0)
    wide.reserve_now(80, "fills the root up to 10")  # too full for the second in line, which is not at its front
    assert wide.reserve_now(5, "fits")
    for task in waiting:
        task.cancel()


async def test_a_wait_ends_at_its_deadline_and_lets_the_next_in():
    ledger = Ledger(10)
    ledger.reserve_now(5, "first")
    late = asyncio.create_task(ledger.reserve(6, "large", deadline_seconds=0.01))
    await asyncio.sleep(0)
    behind = asyncio.create_task(ledger.reserve(5, "small"))
    with pytest.raises(TimeoutError, match=r"large: waited 0\.01 s"):
        await late
    assert (await behind).nano == 5


async def test_who_waits_is_refused_once_it_could_never_fit():
    ledger = Ledger(10)
    first = ledger.reserve_now(5, "first")
    waiting = asyncio.create_task(ledger.reserve(6, "large"))
    await asyncio.sleep(0)
    ledger.settle(first, 5)
    with pytest.raises(CannotAfford, match="large"):
        await waiting


async def test_an_overrun_refuses_everyone_who_waits():
    ledger = Ledger(10)
    first = ledger.reserve_now(10, "first")
    waiting = [asyncio.create_task(ledger.reserve(1, "next")) for _ in range(3)]
    await asyncio.sleep(0)
    ledger.settle(first, 11)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(o) for o in outcomes] == [CannotAfford] * 3


@pytest.mark.parametrize("settled_first", [True, False], ids=["granted, then cancelled", "cancelled, then freed"])
async def test_a_cancelled_wait_leaves_nothing_reserved(settled_first):
    ledger = Ledger(10)
    first = ledger.reserve_now(10, "first")
    waiting = asyncio.create_task(ledger.reserve(10, "cancelled"))
    behind = asyncio.create_task(ledger.reserve(10, "behind"))
    await asyncio.sleep(0)
    if settled_first:
        ledger.settle(first, 0)  # decided in favour of `waiting`, which has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not settled_first:
        ledger.settle(first, 0)
    assert (await behind).what == "behind"
    assert ledger.reserved == 10


async def test_a_thread_may_settle_what_a_coroutine_waits_for():
    ledger = Ledger(10)
    first = ledger.reserve_now(10, "first")
    waiting = asyncio.create_task(ledger.reserve(10, "next"))
    await asyncio.sleep(0)
    thread = threading.Thread(target=ledger.settle, args=(first, 3))
    thread.start()
    with pytest.raises(CannotAfford):
        await asyncio.wait_for(waiting, 5)
    thread.join()
    assert ledger.settled == 3


def test_threads_never_push_a_ledger_over_its_cap():
    ledger, over = Ledger(10), []

    def work():
        for _ in range(2_000):
            reservation = ledger.reserve_now(3, "call")
            if reservation is not None:
                if ledger.spent + ledger.reserved > 10:
                    over.append(True)
                ledger.release(reservation)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not over
    assert ledger.reserved == 0


def test_a_ledger_is_rebuilt_from_its_entries():
    entries = []
    root = Ledger(100, sink=entries.append)
    child = root.child("trial", 50)
    child.settle(child.reserve_now(20, "paid"), 15)
    root.unknown(root.reserve_now(7, "cut"))
    root.release(root.reserve_now(9, "never sent"))
    child.reserve_now(10, "in flight when the run was killed")

    written = []
    again = Ledger(100, sink=written.append)
    again.replay(entries)
    assert (again.settled, again.unknown_total, again.reserved) == (15, 17, 0)
    assert [(e.event, e.nano, e.ledger) for e in written] == [("unknown", 10, "run/trial")]
    trial = again.child("trial", 50)
    assert (trial.settled, trial.unknown_total, trial.remaining) == (15, 10, 25)

    third = Ledger(100)
    third.replay(entries + written)
    assert (third.settled, third.unknown_total) == (15, 17)


def test_an_overrun_outlives_a_restart():
    entries = []
    root = Ledger(None, sink=entries.append)
    one = root.child("one", 50)
    one.settle(one.reserve_now(1, "call"), 2)
    again = Ledger(None)
    again.replay(entries)
    with pytest.raises(CannotAfford):
        again.child("one", 50).reserve_now(1, "next")
    assert again.child("other", 50).reserve_now(1, "next")
