import asyncio
import gc
import time
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from orchestra.errors import InputError, MissingExtra
from orchestra.ledger import Entry
from orchestra.traces.content import canonical_json, digest, is_digest
from orchestra.traces.store import (
    CacheEntry,
    Fact,
    JournalEntry,
    LedgerEntry,
    RunRecord,
    SpanRecord,
    Store,
    StoreFailed,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def span(number: int, run_id: str = "r") -> SpanRecord:
    return SpanRecord(
        run_id=run_id, trace_id="a" * 32, span_id=f"{number:016x}", name="chat m", start_ns=number, end_ns=number + 1
    )


def seen_by_others(target: str) -> int:
    with Store.open(target, read_only=True) as other:
        return len(other.spans("r"))


async def test_every_kind_of_record_comes_back_as_it_was_written(store):
    full = SpanRecord(
        run_id="r",
        trace_id="a" * 32,
        span_id="b" * 16,
        parent_id="c" * 16,
        name="chat m",
        kind="client",
        start_ns=1_800_000_000_123_456_789,
        end_ns=1_800_000_000_123_456_790,
        status="error",
        status_message="no",
        attributes={"text": "é", "yes": True, "n": 2**60, "x": 0.1, "list": ("a", "b")},
        events=({"name": "e", "at_ns": 5, "attributes": {"k": "v"}},),
        links=({"trace_id": "d" * 32, "span_id": "e" * 16, "attributes": {}},),
        scope="s",
        resource="f",
    )
    fact = Fact("r", None, "score", {"v": [1, None]}, "person:ann", 3.5)
    begun = JournalEntry(run_id="r", key="k", event="begin", kind="model", request_hash="h", reserved_nano=7, at=1.0)
    ended = JournalEntry(run_id="r", key="k", event="finish", kind="model", reply={"t": "x"}, settled_nano=0, at=2.0)
    line = LedgerEntry("r", Entry("run/child", "7", "settle", 12, "chat", 4.25))
    await store.write(full, fact, begun, ended, line)
    assert store.spans("r") == (full,)
    assert store.facts("r") == (fact,)
    assert store.journal("r") == (begun, ended)
    assert store.ledger_entries("r") == (line,)


async def test_records_come_back_in_the_order_they_were_given_however_they_were_written(store):
    for number in range(0, 30, 3):
        store.post(span(number))
        await store.write(span(number + 1))
        await asyncio.to_thread(store.post, span(number + 2))
    assert [record.start_ns for record in store.spans("r")] == list(range(30))


async def test_concurrent_writes_share_transactions(store):
    await asyncio.gather(*(store.write(span(number)) for number in range(200)))
    assert len(store.spans("r")) == 200
    assert store.commits == 1


async def test_a_write_is_visible_to_others_when_it_returns(store, target):
    await store.write(span(1))
    assert seen_by_others(target) == 1


def test_a_store_works_without_an_event_loop(store, target):
    store.post(span(1))
    store.flush_sync()
    assert seen_by_others(target) == 1


def test_posted_records_are_committed_soon_without_being_asked(store, target):
    store.post(span(1))
    deadline = time.monotonic() + 10
    while seen_by_others(target) == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert seen_by_others(target) == 1


async def test_posted_records_are_committed_soon_on_a_loop_too(store, target):
    store.post(span(1))
    deadline = time.monotonic() + 10
    while seen_by_others(target) == 0 and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert seen_by_others(target) == 1


def test_one_store_outlives_several_event_loops(store):
    async def write(number: int) -> None:
        store.post(span(number))
        await store.write(span(number + 1))

    for number in range(0, 6, 2):
        asyncio.run(write(number))
    assert len(store.spans("r")) == 6


def test_a_loop_that_ended_before_its_turn_does_not_stop_the_next(store):
    async def forget() -> None:
        store.post(span(1))
        task = asyncio.ensure_future(store.write(span(2)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(forget())
    asyncio.run(store.write(span(3)))
    assert len(store.spans("r")) == 3


async def test_a_cancelled_write_is_written_all_the_same(store):
    task = asyncio.ensure_future(store.write(span(1)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(store.spans("r")) == 1


async def test_threads_and_a_loop_lose_nothing_between_them(store):
    def post(offset: int) -> None:
        for number in range(500):
            store.post(span(offset + number))

    async def write(offset: int) -> None:
        for number in range(200):
            await store.write(span(offset + number))

    await asyncio.gather(
        *(asyncio.to_thread(post, 10_000 * worker) for worker in range(3)),
        *(write(100_000 * (worker + 1)) for worker in range(3)),
    )
    assert len(store.spans("r")) == 3 * 500 + 3 * 200


def test_closing_commits_what_was_posted(target):
    store = Store.open(target)
    store.post(*map(span, range(1000)))
    store.close()
    store.close()
    assert seen_by_others(target) == 1000


def test_a_store_that_is_dropped_without_closing_loses_nothing(target):
    store = Store.open(target)
    store.post(span(1))
    del store
    gc.collect()
    assert seen_by_others(target) == 1


async def test_writing_to_a_closed_store_is_refused(store):
    store.close()
    with pytest.raises(StoreFailed, match="closed"):
        await store.write(span(1))


async def test_a_failed_commit_fails_its_writer_and_every_later_one(store):
    store.transact(lambda connection: connection.execute(text("DROP TABLE spans")))
    with pytest.raises(StoreFailed, match=r"no such table|does not exist"):
        await store.write(span(1))
    with pytest.raises(StoreFailed, match=r"no such table|does not exist"):
        store.post(span(2))


async def test_a_value_that_cannot_be_stored_is_refused_where_it_was_made(store):
    with pytest.raises(ValueError, match="content must be JSON"):
        store.post(Fact("r", None, "score", object(), "me"))
    with pytest.raises(ValueError, match="64 bits"):
        store.post(JournalEntry(run_id="r", key="k", event="begin", kind="model", reserved_nano=2**70))
    await store.write(span(1))
    assert len(store.spans("r")) == 1


@given(content=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_comes_back_from_its_blob(store, content):
    name = store.blob(content)
    assert is_digest(name)
    assert canonical_json(store.blob_value(name)) == canonical_json(content)


def test_equal_content_is_stored_once(store, target):
    names = {store.blob({"a": 1, "b": 2}), store.blob({"b": 2, "a": 1})}
    with Store.open(target) as other:
        names.add(other.blob({"a": 1, "b": 2}))
    store.flush_sync()
    assert names == {digest(b'{"a":1,"b":2}')}
    assert store.blob_value(names.pop()) == {"a": 1, "b": 2}


def test_bytes_come_back_as_bytes(store):
    assert store.blob_value(store.blob(b"\x00\xff")) == b"\x00\xff"


def test_an_unknown_blob_is_a_key_error(store):
    with pytest.raises(KeyError):
        store.blob_value("sha256:0")


def test_the_cache_answers_what_was_kept_and_the_first_value_stays(store):
    assert store.cached("k") is None
    store.cache("k", "completion", {"text": "first"})
    assert store.cached("k") == {"text": "first"}
    store.cache("k", "completion", {"text": "second"})
    store.flush_sync()
    assert store.cached("k") == {"text": "first"}


def test_text_that_no_database_holds_is_kept_in_content(store):
    text = "a\ud800b\0c"
    assert store.blob_value(store.blob(text)) == text
    store.post(Fact("r", None, "n", text, "me"))
    assert store.facts("r")[0].value == text


def test_runs_are_listed_once_newest_first_with_their_attempts(store):
    store.post(RunRecord("one", "run", 1.0, {"task": "t"}))
    store.post(RunRecord("two", "compose", 2.0))
    store.post(RunRecord("one", "run", 3.0))
    assert [(run.run_id, run.at, run.attempts) for run in store.runs()] == [("one", 1.0, 2), ("two", 2.0, 1)]
    assert [run.run_id for run in store.runs(limit=1)] == ["one"]
    assert store.run("one") == RunRecord("one", "run", 1.0, {"task": "t"}, 2)
    assert store.run("none") is None


def test_every_start_of_a_run_is_a_fact(store):
    store.post(RunRecord("one", "run", 1.0, {"task": "t"}))
    (fact,) = store.facts("one")
    assert (fact.name, fact.value, fact.span_id) == ("start", {"command": "run", "task": "t"}, None)


def test_a_run_is_found_by_the_beginning_of_its_id(store):
    store.post(RunRecord("20260101-aa", "run"), RunRecord("20260101-ab", "run"), RunRecord("20260101", "run"))
    assert store.find_run("20260101-aa") == "20260101-aa"
    assert store.find_run("20260101") == "20260101"
    with pytest.raises(InputError, match="several runs: 20260101-aa, 20260101-ab"):
        store.find_run("20260101-a")
    with pytest.raises(InputError, match="no run '%'"):
        store.find_run("%")


def test_a_read_only_store_refuses_to_be_written(store, target):
    store.post(span(1))
    store.flush_sync()
    with Store.open(target, read_only=True) as reader:
        assert len(reader.spans("r")) == 1
        with pytest.raises(StoreFailed, match="opened to be read"):
            reader.post(span(2))


def test_the_users_own_store_lies_in_the_data_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with Store.open() as store:
        assert store.url == f"sqlite:///{tmp_path}/data/orchestra/orchestra.sqlite"


def test_an_sqlite_url_names_the_same_store_as_its_path(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.sqlite") as store:
        store.post(span(1))
    with Store.open(str(tmp_path / "s.sqlite")) as store:
        assert len(store.spans("r")) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mysql://host/name", "'mysql' is not supported"),
        ("sqlite://", "would be lost"),
        ("nonsense://", "not supported|not a URL"),
    ],
)
def test_a_url_that_cannot_be_a_store_is_refused(target, message):
    with pytest.raises(InputError, match=message):
        Store.open(target)


def test_postgresql_without_its_driver_names_the_extra():
    pytest.importorskip("sqlalchemy")
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(MissingExtra, match=r"orchestra-mas\[postgres\]"):
            Store.open("postgresql://user:secret@localhost/name")


def test_cache_entries_are_records_too(store):
    value = store.blob({"a": Decimal("1").to_eng_string()})
    store.post(CacheEntry("k", "trial", value))
    assert store.cached("k") == {"a": "1"}


async def test_on_sqlite_a_lone_writer_is_committed_at_once_and_a_crowd_together(tmp_path):
    store = Store.open(tmp_path / "s.sqlite")
    for number in range(3):  # the first shows that it is alone
        await store.write(span(number))
        await asyncio.sleep(0)
    before = store.commits
    lone = store.write(span(3))
    with pytest.raises(StopIteration):  # it never gave way to the loop
        lone.send(None)
    assert store.commits == before + 1
    await asyncio.gather(*(store.write(span(number)) for number in range(10, 60)))
    await asyncio.gather(*(store.write(span(number)) for number in range(60, 110)))
    assert store.commits <= before + 4
    assert len(store.spans("r")) == 104
    store.close()
