import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import CannotAfford, ModelError
from orchestra.execution.admission import Admission, Turnstiles
from orchestra.ledger import Ledger
from orchestra.models.limits import Limits, Turnstile
from orchestra.testing import FakeClock


def nothing():
    """Nobody minds the wait."""


async def admitted(turnstile, ledger, nano=10, *, waits=nothing):
    admission = await Admission.of(turnstile, ledger, nano, "call", tokens=1, waits=waits)
    admission.passage.sent()
    return admission


CALL = st.tuples(
    st.integers(0, 1),  # of which model
    st.integers(0, 2),  # on whose ledger
    st.integers(1, 10),  # worst case
    st.integers(0, 10),  # share of it that it costs, in tenths
    st.integers(0, 9),  # turns of the event loop it takes
    st.sampled_from(["answers", "answers", "fails", "refuses", "cancelled"]),
)


@given(st.lists(CALL, min_size=1, max_size=40), st.integers(1, 3), st.integers(10, 25))
def test_waiting_for_money_and_waiting_for_a_turn_never_close_a_ring(calls, concurrency, cap):
    asyncio.run(crowd(calls, concurrency, cap))


async def crowd(calls, concurrency, cap):
    root = Ledger(cap)
    ledgers = [root.child("a", 10), root.child("b", 12), root]
    turnstiles = Turnstiles({"*": Limits(concurrency=concurrency)})

    async def call(model, ledger, worst, tenths, turns, fate):
        admission = await admitted(turnstiles.of(str(model)), ledgers[ledger], worst)
        assert turnstiles.of(str(model)).inside <= concurrency
        assert root.spent + root.reserved <= cap
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        except asyncio.CancelledError as cut:
            admission.fail(cut)
            raise
        if fate == "fails":
            admission.fail(ModelError("broke"))
        elif fate == "refuses":
            admission.fail(ModelError("busy", served=False))
        else:
            admission.answer(worst * tenths // 100, 1)

    tasks = [asyncio.create_task(call(*one)) for one in calls]
    for turn in range(6):
        await asyncio.sleep(0)
        for number, task in enumerate(tasks):
            if calls[number][5] == "cancelled" and number % 6 == turn:
                task.cancel()
    async with asyncio.timeout(20):
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, CannotAfford | asyncio.CancelledError | None) for end in ended)
    assert root.reserved == 0
    for model in ("0", "1"):
        assert (turnstiles.of(model).inside, turnstiles.of(model).waiting) == (0, 0)


async def test_waiting_for_a_turn_holds_no_money():
    turnstile, ledger = Turnstile(Limits(concurrency=1)), Ledger(100)
    inside = await admitted(turnstile, ledger, 60)
    waiting = asyncio.create_task(admitted(turnstile, ledger, 40))
    await asyncio.sleep(0)
    assert ledger.reserved == 60
    other = await admitted(Turnstile(), ledger, 40)  # of another model: the money is there
    inside.answer(60, 1)
    other.answer(0, 1)
    (await waiting).withdraw()


async def test_waiting_for_money_holds_nobody_up_who_has_some():
    turnstile, root = Turnstile(Limits(concurrency=1)), Ledger(None)
    poor = root.child("poor", 10)
    elsewhere = poor.reserve_now(10, "in flight with another model")
    waiting = asyncio.create_task(admitted(turnstile, poor, 10))
    await asyncio.sleep(0)
    rich = await admitted(turnstile, root.child("rich", 10))
    async with asyncio.timeout(5):
        later = asyncio.create_task(admitted(turnstile, root))
        await asyncio.sleep(0)  # it queues first
        poor.release(elsewhere)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert turnstile.waiting == 2
        rich.answer(1, 1)
        (await waiting).answer(1, 1)  # and yet comes second: the other was at the front before
        assert not later.done()
        (await later).answer(1, 1)


async def test_a_call_cancelled_while_it_waits_leaves_no_trace():
    turnstile, ledger = Turnstile(Limits(concurrency=1)), Ledger(10)
    inside = await admitted(turnstile, ledger, 10)
    for _ in range(3):  # once for its turn, once for money, once for its turn with money in hand
        waiting = asyncio.create_task(admitted(turnstile, ledger, 10))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    inside.answer(0, 1)
    assert (ledger.reserved, turnstile.inside, turnstile.waiting) == (0, 0, 0)


async def test_a_call_that_can_never_be_paid_for_does_not_keep_its_passage():
    turnstile = Turnstile(Limits(concurrency=1))
    with pytest.raises(CannotAfford):
        await admitted(turnstile, Ledger(5), 10)
    assert turnstile.inside == 0


@pytest.mark.parametrize(
    ("error", "booked"),
    [
        (ModelError("500"), 10),
        (ModelError("429", served=False), 0),
        (TimeoutError(), 10),
        (asyncio.CancelledError(), 10),
    ],
)
async def test_a_failed_call_stays_booked_unless_it_was_refused(error, booked):
    ledger = Ledger(100)
    admission = await admitted(Turnstile(), ledger)
    assert admission.fail(error) == booked
    assert (ledger.spent, ledger.reserved) == (booked, 0)


async def test_what_a_server_asks_one_call_to_wait_the_next_call_waits():
    clock = FakeClock()
    turnstile, ledger = Turnstile(clock=clock, sleep=clock.sleep), Ledger(None)
    heard = await admitted(turnstile, ledger)
    heard.fail(ModelError("busy", served=False, retry_after_seconds=7.0))
    waited = []
    (await admitted(turnstile, ledger, waits=lambda: waited.append(clock()))).answer(1, 1)
    assert (waited, clock()) == ([0.0], 7.0)


def test_limits_of_all_models_hold_for_each_by_itself():
    own = Limits(concurrency=1)
    turnstiles = Turnstiles({"*": Limits(concurrency=9), "a": own})
    assert turnstiles.of("a").limits is own
    assert turnstiles.of("b") is turnstiles.of("b")
    assert turnstiles.of("b") is not turnstiles.of("c")
    assert turnstiles.of("c").limits.concurrency == 9
