import sqlite3

import pytest

from orchestra.traces.journal import Journal
from orchestra.traces.store import Store, StoreFailed


async def test_a_reply_is_found_by_a_later_attempt(store):
    journal = Journal(store, "r")
    await journal.begin("k", "model", "hash", 100)
    assert journal.finished("k") is None
    await journal.finish("k", {"text": "hello"}, 40)
    assert Journal(store, "r").finished("k") == {"text": "hello"}
    assert Journal(store, "other").finished("k") is None


async def test_begin_is_durable_before_the_call_and_finish_before_the_reply_is_used(store, file):
    journal = Journal(store, "r")
    other = sqlite3.connect(file)
    await journal.begin("k", "model", "hash", 100)
    assert other.execute("SELECT event, reserved_nano FROM journal").fetchall() == [("begin", 100)]
    await journal.finish("k", {"text": "x"}, 40)
    assert other.execute("SELECT count(*) FROM journal WHERE event = 'finish'").fetchone() == (1,)
    other.close()


async def test_calls_in_flight_at_the_kill_are_listed_with_their_reservation(store):
    first = Journal(store, "r")
    await first.begin("done", "model", "h", 1)
    await first.finish("done", {}, 1)
    await first.begin("cut", "tool", "h2", 7)
    assert first.interrupted == ()
    second = Journal(store, "r")
    (entry,) = second.interrupted
    assert (entry.key, entry.kind, entry.request_hash, entry.reserved_nano) == ("cut", "tool", "h2", 7)
    assert second.was_interrupted("cut")
    assert not second.was_interrupted("done")
    await second.begin("cut", "tool", "h2", 7)
    await second.finish("cut", {"said": None})
    third = Journal(store, "r")
    assert third.interrupted == ()
    assert third.finished("cut") == {"said": None}


async def test_the_kind_of_a_call_is_kept_with_its_reply(store):
    journal = Journal(store, "r")
    await journal.begin("k", "tool")
    await journal.finish("k", {}, 0)
    assert [(entry.event, entry.kind) for entry in store.journal("r")] == [("begin", "tool"), ("finish", "tool")]


async def test_a_redacted_reply_is_kept_without_token_ids(store):
    journal = Journal(store, "r", redact=lambda text: text.replace("SECRET", "***"))
    await journal.finish("k", {"text": "a SECRET", "completion": {"token_ids": [1], "logprobs": [-1.0]}})
    assert store.journal("r")[0].reply == {"text": "a ***", "completion": {"token_ids": None, "logprobs": None}}
    await journal.finish("l", {"text": "fine", "token_ids": [1]})
    assert store.journal("r")[1].reply == {"text": "fine", "token_ids": [1]}
    answered = {"said": "a SECRET", "asked": "SECRET", "code": "SECRET"}  # digests, in which anything may occur
    await journal.finish("m", answered)
    assert store.journal("r")[2].reply == answered | {"said": "a ***"}


async def test_nothing_is_sent_that_could_not_be_written_down(file):
    store = Store.open(file)
    journal = Journal(store, "r")
    store.close()
    with pytest.raises(StoreFailed):
        await journal.begin("k", "model")
