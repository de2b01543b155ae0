import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.models.limits import WINDOW_SECONDS, Limits, Turnstile
from orchestra.testing import FakeClock


def turnstile(**limits):
    clock = FakeClock()
    return Turnstile(Limits(**limits), clock=clock, sleep=clock.sleep), clock


CALLER = st.tuples(
    st.integers(1, 40), st.integers(0, 40), st.integers(0, 12), st.sampled_from(["stays", "cancelled", "unsent"])
)
"""Tokens thought, tokens used, event-loop turns inside, and what becomes of it."""


async def crowd(callers, limits):
    """When each call was sent and what it came to, and the most that were inside at once."""
    gate, clock = turnstile(**limits)
    sent, entered, most = [], [], 0

    async def call(number, tokens, used, turns, fate):
        nonlocal most
        passage = await gate.enter(tokens)
        entered.append(number)
        try:
            most = max(most, gate.inside)
            for _ in range(turns // 2):
                await asyncio.sleep(0)
            if fate == "unsent":
                return
            passage.sent()
            sent.append((clock(), passage))
            for _ in range(turns):
                await asyncio.sleep(0)
            passage.used(used)
        finally:
            passage.leave()

    tasks = [asyncio.create_task(call(number, *caller)) for number, caller in enumerate(callers)]
    for turn in range(8):
        await asyncio.sleep(0)
        for number, task in enumerate(tasks):
            if callers[number][3] == "cancelled" and number % 8 == turn:
                task.cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks, return_exceptions=True)
    return gate, [(at, passage.tokens) for at, passage in sent], entered, most


@given(st.lists(CALLER, min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 6), st.integers(30, 90))
def test_no_window_of_sixty_seconds_ever_holds_more_than_allowed(callers, concurrency, requests, tokens):
    limits = {"concurrency": concurrency, "requests_per_minute": requests, "tokens_per_minute": tokens}
    gate, sent, entered, most = asyncio.run(crowd(callers, limits))
    assert most <= concurrency
    for at, _ in sent:
        window = [size for other, size in sent if at <= other < at + WINDOW_SECONDS]
        assert len(window) <= requests
        assert sum(window) <= tokens
    assert entered == sorted(entered)  # first in, first out
    assert {n for n, caller in enumerate(callers) if caller[3] != "cancelled"} <= set(entered)  # nobody starves
    assert (gate.inside, gate.waiting) == (0, 0)


async def test_a_waiter_that_is_cancelled_gives_its_place_back():
    gate, _ = turnstile(concurrency=1)
    inside = await gate.enter()
    waiting = [asyncio.create_task(gate.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    inside.leave()
    second = await waiting[1]
    assert not waiting[2].done()
    second.leave()
    (await waiting[2]).leave()
    assert (gate.inside, gate.waiting) == (0, 0)


async def test_what_was_never_sent_takes_nothing_from_the_minute():
    gate, clock = turnstile(requests_per_minute=1)
    (await gate.enter()).leave()
    async with gate.passage():
        pass
    assert clock() == 0
    async with gate.passage():
        assert clock() == WINDOW_SECONDS


async def test_a_place_in_the_minute_is_free_after_sixty_seconds_and_not_before():
    gate, clock = turnstile(requests_per_minute=1)
    async with gate.passage():
        pass
    clock.now_seconds = 59.9
    assert gate.enter_now() is None
    clock.now_seconds = 60.0
    assert gate.enter_now() is not None


async def test_a_call_counts_when_it_is_sent_not_when_it_entered():
    gate, clock = turnstile(requests_per_minute=1)
    late = await gate.enter()
    clock.now_seconds = 100.0
    late.sent()
    late.leave()
    async with gate.passage():
        assert clock() == 160.0


async def test_what_a_server_asks_one_caller_to_wait_all_wait():
    gate, clock = turnstile()
    gate.hold_back(7.0)
    gate.hold_back(3.0)
    for _ in range(3):
        async with gate.passage():
            assert clock() == 7.0


async def test_a_call_larger_than_the_limit_waits_until_it_is_alone():
    gate, clock = turnstile(tokens_per_minute=100)
    async with gate.passage(40), asyncio.timeout(5):
        pass
    async with gate.passage(100_000):
        assert clock() == WINDOW_SECONDS
    assert gate.enter_now(1) is None


async def test_usage_below_the_estimate_makes_room_at_once():
    gate, clock = turnstile(tokens_per_minute=100)
    async with gate.passage(100) as passage:
        assert gate.enter_now(50) is None
        passage.used(20)
        assert gate.enter_now(50) is not None
    assert clock() == 0


async def test_who_stepped_aside_comes_before_who_came_later():
    gate, _ = turnstile(concurrency=1)
    inside = await gate.enter()
    order = []

    async def come(name, **how):
        passage = await gate.enter(**how)
        order.append(name)
        passage.leave()

    tasks = [asyncio.create_task(come("ordinary")), asyncio.create_task(come("was first", first=True))]
    await asyncio.sleep(0)
    inside.leave()
    await asyncio.gather(*tasks)
    assert order == ["was first", "ordinary"]


async def test_without_limits_nobody_waits_and_nothing_is_kept():
    gate = Turnstile()
    passages = [gate.enter_now(1_000_000) for _ in range(1000)]
    for passage in passages:
        passage.sent()
        passage.leave()
        passage.leave()  # twice is harmless
    assert (gate.inside, len(gate._window)) == (0, 0)


async def test_on_a_real_clock_the_wait_is_real():
    gate = Turnstile(Limits(concurrency=2))
    gate.hold_back(0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(10), gate.passage():
        assert loop.time() - began >= 0.049
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("name", ["concurrency", "requests_per_minute", "tokens_per_minute"])
def test_a_limit_below_one_is_refused(name):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


async def test_a_wait_that_nobody_has_the_patience_for_holds_nobody_back():
    clock = FakeClock()
    gate = Turnstile(patience_seconds=120.0, clock=clock, sleep=clock.sleep)
    gate.hold_back(86_400.0)
    async with gate.passage():
        assert clock() == 0.0
    gate.hold_back(120.0)
    async with gate.passage():
        assert clock() == 120.0
