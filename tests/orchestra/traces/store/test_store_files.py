import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.dialects import postgresql

from orchestra.errors import InputError
from orchestra.execution.checkpoints import StoreSaver
from orchestra.traces.store import Fact, RunRecord, Store
from orchestra.traces.store.opening import open_engine, shown, store_url
from orchestra.traces.store.schema import SCHEMA_VERSION, ensure_schema
from orchestra.traces.store.tables import METADATA, TABLES_BY_NAME, insert_statements

WRITES_UNTIL_KILLED = """
import asyncio, sys
from orchestra.traces.store import Fact, Store

async def main():
    store = Store.open(sys.argv[1])
    async def one(worker):
        number = 0
        while True:
            store.post(Fact("r", None, "posted", [worker, number], "me"))
            await store.write(Fact("r", None, "written", [worker, number], "me"))
            print(worker, number, flush=True)
            number += 1
    await asyncio.gather(*(one(worker) for worker in range(4)))

asyncio.run(main())
"""

WRITES_BESIDE_OTHERS = """
import asyncio, sys
from orchestra.traces.store import Fact, SpanRecord, Store

def span(number):
    mine = f"{ord(sys.argv[2]):02x}{number:014x}"
    return SpanRecord(run_id="r", trace_id="a" * 32, span_id=mine, name="n", start_ns=number, end_ns=number)

async def main():
    with Store.open(sys.argv[1]) as store:
        async def write(number):
            content = store.blob({"said by all": number})
            store.cache(f"key {number}", "completion", content)
            store.post(span(number), span(number))
            await store.write(Fact("r", None, "n", [sys.argv[2], number], "me"))
        for first in range(0, 150, 10):
            order = range(first, first + 10)
            await asyncio.gather(*map(write, reversed(order) if sys.argv[2] == "b" else order))

asyncio.run(main())
"""

FORGETS_TO_CLOSE = """
import sys
from orchestra.traces.store import Fact, Store

store = Store.open(sys.argv[1])
for number in range(1000):
    store.post(Fact("r", None, "n", number, "me"))
if sys.argv[2] == "interrupt":
    raise KeyboardInterrupt
"""


SHARED = ("blobs", "cache")


def python(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", script, *map(str, arguments)]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.02, 0.2])
def test_what_was_acknowledged_survives_a_kill(target, seconds, ending):
    script = python(WRITES_UNTIL_KILLED, target)
    writer = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert writer.stdout is not None
    first = [writer.stdout.readline() for _ in range(5)]  # however slow the machine is
    time.sleep(seconds)
    writer.send_signal(ending)
    acknowledged = [tuple(map(int, line.split())) for line in [*first, *writer.stdout] if line.endswith("\n")]
    writer.wait()
    writer.stdout.close()
    assert len(acknowledged) > 4
    with Store.open(target) as store:
        facts = {(fact.name, *fact.value) for fact in store.facts("r")}
        store.post(Fact("r", None, "after", 1, "me"))
    for worker, number in acknowledged:
        assert {("written", worker, number), ("posted", worker, number)} <= facts


def test_several_processes_write_one_file(target):
    writers = [subprocess.Popen(python(WRITES_BESIDE_OTHERS, target, name)) for name in "abc"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    with Store.open(target) as store:
        facts = [tuple(fact.value) for fact in store.facts("r")]
        spans = [span.span_id for span in store.spans("r")]
        count = {name: store.query(select(func.count()).select_from(TABLES_BY_NAME[name]))[0][0] for name in SHARED}
        assert store.cached("key 149") == store.blob({"said by all": 149})
    assert len(spans) == len(set(spans)) == 3 * 150
    assert count == {"blobs": 150 + 150, "cache": 150}  # a blob for each digest that the cache holds
    assert {name: [n for who, n in facts if who == name] for name in "abc"} == {
        name: sorted(range(150), key=lambda n: (n // 10, -n if name == "b" else n)) for name in "abc"
    }


async def test_a_loop_waits_for_another_process_and_then_writes(tmp_path):
    file = tmp_path / "s.sqlite"
    store = Store.open(file)
    other = sqlite3.connect(file, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, other.commit)
    release.start()
    started = time.monotonic()
    await store.write(Fact("r", None, "n", 1, "me"))
    assert time.monotonic() - started >= 0.3
    assert len(store.facts("r")) == 1
    release.join()
    other.close()
    store.close()


@pytest.mark.parametrize("how", ["forget", "interrupt"])
def test_a_process_that_ends_without_closing_loses_nothing(target, how):
    subprocess.run(python(FORGETS_TO_CLOSE, target, how), stderr=subprocess.DEVNULL, check=False)
    with Store.open(target) as store:
        assert len(store.facts("r")) == 1000


def test_a_newer_store_is_refused(tmp_path):
    file = tmp_path / "s.sqlite"
    Store.open(file).close()
    newer = sqlite3.connect(file)
    newer.execute("UPDATE orchestra_schema SET version = 99")
    newer.commit()
    newer.close()
    for read_only in (False, True):
        with pytest.raises(InputError, match=r"version 99, written by a newer Orchestra.*upgrade"):
            Store.open(file, read_only=read_only)


def test_an_older_store_is_brought_up_to_date_one_version_at_a_time(tmp_path):
    engine = open_engine(store_url(tmp_path / "s.sqlite"))
    done = []

    def add_column(connection):
        done.append("add a column")
        connection.execute(text("ALTER TABLE facts ADD COLUMN extra TEXT"))

    def fill(connection):
        done.append("fill it")
        connection.execute(text("UPDATE facts SET extra = 'x'"))

    steps = {SCHEMA_VERSION: add_column, SCHEMA_VERSION + 1: fill}
    for _ in range(2):  # the second time there is nothing left to do
        with engine.connect() as connection, connection.begin():
            ensure_schema(connection, "store", version=SCHEMA_VERSION + 2, migrations=steps)
    assert done == ["add a column", "fill it"]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version FROM orchestra_schema")).scalar() == SCHEMA_VERSION + 2
    engine.dispose()


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path):
    engine = open_engine(store_url(tmp_path / "s.sqlite"))

    def fail(connection):
        connection.execute(text("ALTER TABLE facts ADD COLUMN extra TEXT"))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError), engine.connect() as connection, connection.begin():
        ensure_schema(connection, "store", version=SCHEMA_VERSION + 1, migrations={SCHEMA_VERSION: fail})
    engine.dispose()
    with Store.open(tmp_path / "s.sqlite") as store:
        store.post(Fact("r", None, "n", 1, "me"))
    columns = sqlite3.connect(tmp_path / "s.sqlite")
    assert "extra" not in [row[1] for row in columns.execute("PRAGMA table_info(facts)")]
    columns.close()


def written_by_version(number: int, file: Path) -> Path:
    golden = Path(__file__).parents[3] / "golden" / "traces" / f"store-v{number}.sql"
    old = sqlite3.connect(file)
    old.executescript(golden.read_text(encoding="utf-8"))
    old.close()
    return file


def everything_in(file: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(file)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    connection.close()
    return rows


@pytest.mark.parametrize("number", range(1, SCHEMA_VERSION + 1))
@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_every_earlier_version_still_opens(tmp_path, number, read_only):
    file = written_by_version(number, tmp_path / "s.sqlite")
    with Store.open(file, read_only=read_only) as store:
        (run,) = store.runs()
        assert [span.name for span in store.spans(run.run_id)][-1] == "invoke_workflow team"
        assert store.cached("k") == {"text": "kept"}


def test_bringing_a_store_up_to_date_changes_nothing_that_was_in_it(tmp_path):
    file = written_by_version(1, tmp_path / "s.sqlite")
    before = everything_in(file)
    Store.open(file, read_only=True).close()
    assert everything_in(file) == before  # to look at it does not change it
    Store.open(file).close()
    after = everything_in(file)
    assert after.pop("orchestra_schema") == [(SCHEMA_VERSION,)]
    assert {name: rows for name, rows in after.items() if rows} == {
        name: rows for name, rows in before.items() if name != "orchestra_schema"
    }
    assert set(after) == set(METADATA.tables) - {"orchestra_schema"}


def test_a_checkpoint_of_the_second_version_is_read_as_it_was_written(tmp_path):
    with Store.open(written_by_version(2, tmp_path / "s.sqlite")) as store:
        found = StoreSaver(store).get_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": ""}})
        assert found is not None
        assert found.checkpoint["channel_values"] == {"log": ["a"], "raw": b"\x00\xff", "long": ["x" * 40] * 40}
        assert found.metadata["step"] == 1
        assert found.pending_writes == [("task-1", "__error__", "no"), ("task-1", "log", ["b"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("this is no database, only text that is long enough to be looked at", "not an Orchestra store"),
        (None, "it has"),
    ],
)
def test_a_file_that_is_not_a_store_is_refused_and_left_alone(tmp_path, content, message):
    file = tmp_path / "other.db"
    if content is None:
        other = sqlite3.connect(file)
        other.execute("CREATE TABLE theirs (a)")
        other.commit()
        other.close()
    else:
        file.write_text(content)
    before = file.read_bytes()
    for read_only in (False, True):
        with pytest.raises(InputError, match=message):
            Store.open(file, read_only=read_only)
    assert file.read_bytes() == before


def test_a_directory_is_not_a_store(tmp_path):
    with pytest.raises(InputError, match=r"is a directory; name a file in it"):
        Store.open(tmp_path)


def test_a_missing_store_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Store.open(tmp_path / "none.sqlite", read_only=True)
    assert not (tmp_path / "none.sqlite").exists()


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        Store.open(tmp_path / "file" / "s.sqlite")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        Store.open(tmp_path / "s.sqlite")
    tmp_path.chmod(0o700)


def test_messages_never_show_a_password():
    assert "secret" not in shown(store_url("postgresql://user:secret@host/name"))


def test_every_insert_compiles_for_postgresql():
    statements = insert_statements(postgresql.dialect(paramstyle="format"))
    assert set(statements) == set(METADATA.tables) - {"orchestra_schema", "leases"}
    assert "ON CONFLICT DO NOTHING" in statements["blobs"]
    assert statements["facts"].count("%s") == 6


def test_starts_are_kept_before_anything_else_happens(tmp_path):
    with Store.open(tmp_path / "s.sqlite") as store:
        store.post(RunRecord("r", "run"))
        assert store.facts("r")[0].name == "start"
