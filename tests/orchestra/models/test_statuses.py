import pickle
from email.utils import formatdate

import pytest

from orchestra.models.statuses import asked_wait_seconds, status_error
from orchestra.testing import REFUSING


@pytest.mark.parametrize("status", range(400, 600))
def test_what_the_server_double_counts_as_refused_is_what_is_given_back(status):
    error = status_error("m", status, "no")
    assert error.served is (False if status in REFUSING else None)
    assert f"HTTP {status}" in str(error)


def test_a_429_for_want_of_credit_is_final():
    assert not status_error("m", 429, "You exceeded your current quota").retryable
    assert status_error("m", 429, "slow down").retryable


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("inf", None), ("nan", None)]
)
def test_a_wait_is_understood_or_left_out(said, seconds):
    assert asked_wait_seconds({"retry-after": said}) == seconds


def test_a_date_is_seconds_from_now_and_a_past_one_none():
    assert asked_wait_seconds({"retry-after": formatdate(0, usegmt=True)}) == 0.0
    assert asked_wait_seconds(None) is None


def test_an_error_survives_being_sent_to_another_process():
    error = pickle.loads(pickle.dumps(status_error("m", 429, "slow", headers={"retry-after": "2"})))
    assert (error.retryable, error.retry_after_seconds, error.served) == (True, 2.0, False)
