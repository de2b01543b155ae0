import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import InputError, ModelError
from orchestra.models.retry import RetryPolicy, wait_seconds, with_retries
from orchestra.testing import FakeClock

BUSY = ModelError("busy", retryable=True)


def asked_to_wait(seconds):
    return ModelError("slow down", retryable=True, retry_after_seconds=seconds)


def flaky(failures):
    attempts = []

    async def call(attempt):
        attempts.append(attempt)
        if attempt <= len(failures):
            raise failures[attempt - 1]
        return "done"

    return call, attempts


@given(st.integers(1, 9), st.integers())
def test_a_wait_never_exceeds_the_doubling_bound(attempt, seed):
    policy = RetryPolicy(attempts=10)
    wait = wait_seconds(policy, attempt, BUSY, random.Random(seed))
    assert 0 <= wait <= min(policy.longest_seconds, policy.first_seconds * 2 ** (attempt - 1))


@given(st.floats(0, 120), st.integers())
def test_a_server_is_never_asked_again_before_it_said(seconds, seed):
    assert wait_seconds(RetryPolicy(), 1, asked_to_wait(seconds), random.Random(seed)) >= seconds


def test_jitter_spreads_over_the_whole_range():
    waits = [wait_seconds(RetryPolicy(), 1, BUSY, random.Random(seed)) for seed in range(400)]
    assert min(waits) < 0.05
    assert max(waits) > 0.45


def test_a_server_that_asks_for_an_hour_is_not_waited_for():
    assert wait_seconds(RetryPolicy(), 1, asked_to_wait(3600), random.Random(0)) is None


@pytest.mark.parametrize("error", [ModelError("bad key"), InputError("typo"), ValueError("bug")])
def test_what_cannot_succeed_later_is_not_tried_again(error):
    assert wait_seconds(RetryPolicy(), 1, error, random.Random(0)) is None


def test_a_busy_server_is_asked_more_often_than_one_that_fails():
    policy, rng = RetryPolicy(attempts=2, refusals=5), random.Random(0)
    busy = ModelError("429", retryable=True, served=False, busy=True)
    assert [wait_seconds(policy, attempt, busy, rng) is None for attempt in (1, 2, 4, 5)] == [False, False, False, True]
    assert [wait_seconds(policy, attempt, BUSY, rng) is None for attempt in (1, 2)] == [False, True]


async def test_a_storm_of_refusals_does_not_use_up_the_attempts():
    clock = FakeClock()
    busy = ModelError("429", retryable=True, served=False, busy=True)
    policy = RetryPolicy(attempts=3, refusals=6)
    call, attempts = flaky([busy, BUSY, busy, busy, BUSY, busy, busy])
    assert await with_retries(call, policy=policy, rng=random.Random(1), sleep=clock.sleep) == "done"
    assert len(attempts) == 8 == policy.most
    call, attempts = flaky([busy] * 9)
    with pytest.raises(ModelError, match="429"):
        await with_retries(call, policy=policy, rng=random.Random(1), sleep=clock.sleep)
    assert len(attempts) == 6


async def test_it_stops_at_the_first_success():
    clock = FakeClock()
    call, attempts = flaky([BUSY, asked_to_wait(7)])
    assert await with_retries(call, policy=RetryPolicy(), rng=random.Random(1), sleep=clock.sleep) == "done"
    assert attempts == [1, 2, 3]
    assert clock.sleeps[1] >= 7


async def test_attempts_are_bounded_and_the_last_error_escapes():
    clock = FakeClock()
    last = ModelError("third", retryable=True)
    call, attempts = flaky([BUSY, BUSY, last, BUSY])
    with pytest.raises(ModelError, match="third"):
        await with_retries(call, policy=RetryPolicy(attempts=3), rng=random.Random(1), sleep=clock.sleep)
    assert attempts == [1, 2, 3]
    assert len(clock.sleeps) == 2


def test_the_same_generator_gives_the_same_waits():
    assert wait_seconds(RetryPolicy(), 3, BUSY, random.Random(5)) == wait_seconds(
        RetryPolicy(), 3, BUSY, random.Random(5)
    )


def test_a_policy_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="attempts"):
        RetryPolicy(attempts=0)
