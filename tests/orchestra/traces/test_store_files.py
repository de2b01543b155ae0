import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from orchestra.errors import InputError
from orchestra.traces.store import Fact, RunRecord, Store
from orchestra.traces.store.opening import open_engine, shown, store_url
from orchestra.traces.store.schema import SCHEMA_VERSION, ensure_schema
from orchestra.traces.store.tables import METADATA, insert_statements

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
from orchestra.traces.store import Fact, Store

async def main():
    with Store.open(sys.argv[1]) as store:
        for number in range(150):
            await store.write(Fact("r", None, "n", [sys.argv[2], number], "me"))

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


def python(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", script, *map(str, arguments)]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.02, 0.2])
def test_what_was_acknowledged_survives_a_kill(tmp_path, seconds, ending):
    file = tmp_path / "s.sqlite"
    script = python(WRITES_UNTIL_KILLED, file)
    writer = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(seconds)
    writer.send_signal(ending)
    acknowledged = [tuple(map(int, line.split())) for line in [first, *writer.stdout] if line.endswith("\n")]
    writer.wait()
    writer.stdout.close()
    assert len(acknowledged) > 4
    with Store.open(file) as store:
        facts = {(fact.name, *fact.value) for fact in store.facts("r")}
        store.post(Fact("r", None, "after", 1, "me"))
    for worker, number in acknowledged:
        assert {("written", worker, number), ("posted", worker, number)} <= facts


def test_several_processes_write_one_file(tmp_path):
    file = tmp_path / "s.sqlite"  # made by whichever comes first
    writers = [subprocess.Popen(python(WRITES_BESIDE_OTHERS, file, name)) for name in "abc"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    with Store.open(file) as store:
        facts = [tuple(fact.value) for fact in store.facts("r")]
    assert {name: [n for who, n in facts if who == name] for name in "abc"} == {
        name: list(range(150)) for name in "abc"
    }


async def test_a_loop_waits_for_another_process_and_then_writes(store, file):
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


@pytest.mark.parametrize("how", ["forget", "interrupt"])
def test_a_process_that_ends_without_closing_loses_nothing(tmp_path, how):
    file = tmp_path / "s.sqlite"
    subprocess.run(python(FORGETS_TO_CLOSE, file, how), stderr=subprocess.DEVNULL, check=False)
    with Store.open(file) as store:
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


def test_a_store_of_the_first_version_still_opens(tmp_path):
    golden = Path(__file__).parents[2] / "golden" / "traces" / "store-v1.sql"
    old = sqlite3.connect(tmp_path / "s.sqlite")
    old.executescript(golden.read_text(encoding="utf-8"))
    old.close()
    with Store.open(tmp_path / "s.sqlite") as store:
        (run,) = store.runs()
        assert [span.name for span in store.spans(run.run_id)][-1] == "invoke_workflow team"
        assert store.cached("k") == {"text": "kept"}


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
    assert set(statements) == set(METADATA.tables) - {"orchestra_schema"}
    assert "ON CONFLICT DO NOTHING" in statements["blobs"]
    assert statements["facts"].count("%s") == 6


def test_starts_are_kept_before_anything_else_happens(tmp_path):
    with Store.open(tmp_path / "s.sqlite") as store:
        store.post(RunRecord("r", "run"))
        assert store.facts("r")[0].name == "start"
