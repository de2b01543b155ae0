import json
import subprocess
import sys
import time

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from orchestra.cli.traces import traces_app
from orchestra.cli.traces_prune import age, size
from orchestra.errors import InputError
from orchestra.traces.store import RunRecord, Store
from orchestra.traces.store.copying import rows_of_run
from orchestra.traces.store.pruning import Rules, prune
from orchestra.traces.store.tables import LEASES, TABLES_BY_NAME

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
def runs(target, play_run):
    """Five runs, a day apart: `r1` is the oldest."""
    with Store.open(target) as store:
        for number in range(1, 6):
            play_run(store, f"r{number}", at=NOW - (6 - number) * DAY)
    return target


def left(target):
    with Store.open(target, read_only=True) as store:
        return {run.run_id for run in store.runs(None)}


def gone(target, rules, **settings):
    return {run.run_id for run in prune(target, rules, now=NOW, **settings).runs}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Rules(run_ids=("r2",)), {"r2"}),
        (Rules(older_than_seconds=2.5 * DAY), {"r1", "r2", "r3"}),
        (Rules(keep_last=2), {"r1", "r2", "r3"}),
        (Rules(keep_last=0), {"r1", "r2", "r3", "r4", "r5"}),
        (Rules(keep_last=4, older_than_seconds=DAY / 2), {"r1"}),
        (Rules(keep_last=1, older_than_seconds=3.5 * DAY, run_ids=("r5",)), {"r1", "r2", "r5"}),
        (Rules(most_bytes=10**9), set()),
        (Rules(most_bytes=0), {"r1", "r2", "r3", "r4", "r5"}),
        (Rules(most_bytes=0, keep_last=3), {"r1", "r2"}),
        (Rules(), set()),
        (Rules(cache=True), set()),
    ],
)
def test_what_goes_is_what_the_rules_say_and_saying_so_changes_nothing(runs, rules, expected):
    assert gone(runs, rules) == expected
    assert left(runs) == {"r1", "r2", "r3", "r4", "r5"}
    assert gone(runs, rules, apply=True) == expected
    assert left(runs) == {"r1", "r2", "r3", "r4", "r5"} - expected


def test_a_size_is_kept_by_dropping_the_oldest(runs):
    everything = prune(runs, Rules(most_bytes=0), now=NOW)
    total = everything.bytes_estimated
    some = prune(runs, Rules(most_bytes=total // 2), now=NOW)
    assert {run.run_id for run in some.runs} in ({"r1", "r2"}, {"r1", "r2", "r3"})


def test_what_stays_is_whole_and_nothing_of_what_went_is_left(runs):
    with Store.open(runs, read_only=True) as store:
        before = list(rows_of_run(store, "r5"))
    done = prune(runs, Rules(keep_last=1), apply=True, now=NOW)
    assert done.blobs > 0
    with Store.open(runs) as store:
        assert list(rows_of_run(store, "r5")) == before
        for run_id in ("r1", "r2", "r3", "r4"):
            assert list(rows_of_run(store, run_id)) == []
        kept = {row[0] for table, row in before if table == "blobs"}
        assert {row[0] for row in store.query(select(TABLES_BY_NAME["blobs"].c.digest))} == kept
        writes = TABLES_BY_NAME["checkpoint_writes"].c.thread_id
        assert {row[0] for row in store.query(select(writes))} == {"r5/thread"}


def test_leases_go_with_their_run(runs):
    with Store.open(runs) as store:
        lease = ("l", "r1", "run", 1, 0, "closed", "h", 1.0, 0.0)
        store.transact(lambda connection: connection.execute(LEASES.insert().values(lease)))
    prune(runs, Rules(run_ids=("r1",)), apply=True)
    with Store.open(runs, read_only=True) as store:
        assert store.query(select(func.count()).select_from(LEASES))[0][0] == 0


HOLDS = """
import sys
from orchestra.traces.store import Store
store = Store.open(sys.argv[1])
with store.hold(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(runs):
    """Another process that carries out `r1`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, runs, "r1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate(timeout=60)


def test_a_run_that_is_being_carried_out_is_never_touched_and_content_stays_meanwhile(runs, holder):
    for rules in (Rules(run_ids=("r1", "r2"), unfinished=True), Rules(keep_last=0, unfinished=True)):
        assert prune(runs, rules).in_progress == ("r1",)
    done = prune(runs, Rules(run_ids=("r1", "r2")), apply=True)
    assert (done.in_progress, done.others, done.blobs) == (("r1",), True, 0)
    assert left(runs) == {"r1", "r3", "r4", "r5"}
    holder.communicate(timeout=60)
    assert prune(runs, Rules(), apply=True).blobs > 0  # now what r2 left behind goes


@pytest.mark.parametrize("state", ["interrupted", "paused", "ran-out", None])
def test_a_run_that_can_be_resumed_stays_unless_it_is_named_or_asked_for(target, play_run, state):
    with Store.open(target) as store:
        play_run(store, "r1", state=state)
        if state is None:  # started once more, and killed
            store.post(RunRecord("killed", "run", 1.0))
    first = "killed" if state is None else "r1"
    done = prune(target, Rules(keep_last=0))
    assert done.resumable == (first,)
    assert first not in {run.run_id for run in done.runs}
    assert first in gone(target, Rules(keep_last=0, unfinished=True))
    assert gone(target, Rules(run_ids=(first,)), apply=True) == {first}


def test_the_cache_goes_only_when_asked(runs):
    with Store.open(runs) as store:
        store.cache("k", "completion", {"text": "kept"})
        store.cache("same as r1", "completion", "4")
    prune(runs, Rules(keep_last=0), apply=True)
    with Store.open(runs, read_only=True) as store:
        assert store.cached("k") == {"text": "kept"}
        assert store.cached("same as r1") == "4"
    assert prune(runs, Rules(cache=True, older_than_seconds=DAY)).cache_entries == 0
    done = prune(runs, Rules(cache=True), apply=True, now=time.time() + 1)
    assert (done.cache_entries, done.blobs) == (2, 2)
    with Store.open(runs, read_only=True) as store:
        assert store.cached("k") is None
        assert store.query(select(func.count()).select_from(TABLES_BY_NAME["blobs"]))[0][0] == 0


def test_the_space_is_given_back(target, play_run):
    with Store.open(target) as store:
        play_run(store, "r1")
        for number in range(50):
            store.blob(b"%d" % number + bytes(100_000))
    done = prune(target, Rules(keep_last=1), apply=True)
    assert done.blobs == 50
    assert done.bytes_after is not None
    # PostgreSQL packs zeros before it stores them: what counts is that it is not more than before.
    assert done.bytes_after < (done.bytes_before / 10 if "sqlite" in target else done.bytes_before + 1)
    with Store.open(target) as store:  # and the store works on
        play_run(store, "r2")
        assert {run.run_id for run in store.runs()} == {"r1", "r2"}


def test_a_file_has_its_log_again_after_pruning(tmp_path, play_run):
    file = tmp_path / "s.sqlite"
    with Store.open(file) as store:
        play_run(store, "r1")
        store.blob(bytes(500_000))
    before = file.stat().st_size
    prune(file, Rules(keep_last=0), apply=True)
    assert file.stat().st_size < before
    assert [path.name for path in tmp_path.iterdir()] == ["s.sqlite"]
    with Store.open(file) as store:
        play_run(store, "r2")
        assert (tmp_path / "s.sqlite-wal").exists()


def test_there_must_be_a_store_and_the_run_in_it(tmp_path, runs):
    with pytest.raises(InputError, match="does not exist"):
        prune(tmp_path / "none.sqlite", Rules(keep_last=0), apply=True)
    with pytest.raises(InputError, match="no run 'r9'"):
        prune(runs, Rules(run_ids=("r9",)))


def invoke(*words):
    result = CliRunner().invoke(traces_app, ["prune", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_command_says_what_would_go_and_does_it_when_told(runs):
    said = invoke("--keep-last", 4, "--store", runs)
    assert said.stdout.startswith("r1  run  2027-01-10  ")
    assert left(runs) >= {"r1"}
    done = json.loads(invoke("--keep-last", 4, "--store", runs, "--yes", "--json").stdout)
    assert (done["applied"], [run["run_id"] for run in done["runs"]]) == (True, ["r1"])
    assert left(runs) == {"r2", "r3", "r4", "r5"}
    with pytest.raises(InputError, match="say which runs go"):
        invoke("--store", runs)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("30d", 30 * DAY), ("2W", 14 * DAY)])
def test_an_age_is_a_number_and_a_unit(text, seconds):
    assert age(text) == seconds


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("1.5kB", 1536), ("500MB", 500 << 20), ("2 GiB", 2 << 30)])
def test_a_size_is_a_number_and_a_unit(text, number):
    assert size(text) == number


@pytest.mark.parametrize(("parse", "text"), [(age, "30"), (age, "d"), (size, "-1"), (size, "2XB")])
def test_what_is_neither_says_how_to_write_it(parse, text):
    with pytest.raises(InputError, match="write a number and"):
        parse(text)
