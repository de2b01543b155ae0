import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from orchestra.cli.traces import traces_app
from orchestra.errors import InputError
from orchestra.traces.store import Fact, Store
from orchestra.traces.store.copying import rows_of_run
from orchestra.traces.summary import run_episodes
from orchestra.traces.transfer import READERS, import_file, new_file, write_jsonl


def everything(store, *run_ids):
    return {run_id: list(rows_of_run(store, run_id)) for run_id in run_ids}


@pytest.fixture
def exported(store, play_run, tmp_path):
    """A store of two runs, and the file they were written to."""
    for run_id in ("r1", "r2"):
        play_run(store, run_id)
    with new_file(tmp_path / "runs.jsonl") as stream:
        write_jsonl(store, ["r1", "r2", "r1"], stream)
    return tmp_path / "runs.jsonl"


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request, tmp_path):
    target = tmp_path / "other.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with Store.open(target) as opened:
        yield opened


def test_runs_go_into_another_store_whole(store, exported, other):
    imported = import_file(other, exported)
    assert imported.run_ids == ("r1", "r2")
    assert everything(other, "r1", "r2") == everything(store, "r1", "r2")
    assert run_episodes(other, "r1") == run_episodes(store, "r1")
    tables = {"blobs", "runs", "spans", "facts", "journal", "ledger", "checkpoints", "checkpoint_writes"}
    assert set(imported.rows) == tables
    assert imported.rows["facts"] == 6  # a fact that was told twice is there twice


def test_a_run_is_the_same_file_whatever_database_it_comes_from(exported, other, tmp_path):
    import_file(other, exported)
    with new_file(tmp_path / "back.jsonl") as stream:
        write_jsonl(other, ["r1", "r2"], stream)
    assert (tmp_path / "back.jsonl").read_bytes() == exported.read_bytes()


def test_importing_twice_changes_nothing(exported, other):
    import_file(other, exported)
    before = everything(other, "r1", "r2")
    assert import_file(other, exported).rows == {}
    assert everything(other, "r1", "r2") == before


def test_a_run_that_went_on_is_brought_up_to_date(store, exported, other, tmp_path):
    import_file(other, exported)
    store.post(Fact("r1", None, "label", "good", "person:ann", 5.0))
    with new_file(tmp_path / "again.jsonl") as stream:
        write_jsonl(store, ["r1"], stream)
    assert import_file(other, tmp_path / "again.jsonl").rows == {"facts": 1}
    assert everything(other, "r1") == everything(store, "r1")


def test_importing_into_the_store_it_came_from_adds_nothing(store, exported):
    assert import_file(store, exported).rows == {}


def test_content_is_written_once_and_before_what_refers_to_it(exported):
    lines = [json.loads(line) for line in exported.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["runs"] == ["r1", "r2"]
    assert lines[-1] == {"end": True, "rows": len(lines) - 2}
    blobs = Counter(line["digest"] for line in lines if line.get("table") == "blobs")
    assert set(blobs.values()) == {1}
    assert lines[1]["table"] == "blobs"
    assert exported.read_text(encoding="utf-8").isascii()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:-1], "is torn: it ends after"),
        (lambda lines: [*lines[:5], *lines[6:]], "is torn: it ends after"),
        (lambda lines: [*lines[:5], lines[5][:30]], "line 6 is not JSON"),
        (lambda lines: [lines[0].replace('"schema":2', '"schema":99'), *lines[1:]], "newer Orchestra"),
        (lambda lines: [*lines[:5], "[1]", *lines[5:]], "line 6 is not a row"),
        (lambda lines: [*lines[:5], '{"table":"theirs"}', *lines[5:]], "unknown table 'theirs'"),
        (lambda lines: ["hello", *lines], "is not a file of traces: it begins with 'hello"),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_of_it_is_kept(exported, other, damage, message):
    lines = exported.read_text(encoding="utf-8").splitlines()
    exported.write_text("\n".join(damage(lines)) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        import_file(other, exported)
    assert other.runs() == ()


def test_a_file_that_is_not_there_and_an_unknown_format_say_what_to_do(other, exported, tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        import_file(other, tmp_path / "none")
    with pytest.raises(InputError, match=f"no format 'csv'; there are {', '.join(READERS)}"):
        import_file(other, exported, format="csv")


def test_a_file_that_could_not_be_finished_is_not_there(tmp_path):
    def fail_half_way() -> None:
        with new_file(tmp_path / "out.jsonl") as stream:
            stream.write("half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_content_that_content_refers_to_is_taken_along(store, other, tmp_path):
    inner = store.blob("deep down")
    store.post(Fact("r", None, "n", store.blob({"refers to": inner}), "me", 1.0))
    with new_file(tmp_path / "f") as stream:
        write_jsonl(store, ["r"], stream)
    import_file(other, tmp_path / "f")
    assert other.blob_value(inner) == "deep down"


def invoke(*words):
    result = CliRunner().invoke(traces_app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_the_commands_export_and_import(store, file, exported, tmp_path):
    out = tmp_path / "out.jsonl"
    told = json.loads(invoke("export", "--all", "--format", "jsonl", "--out", out, "--store", file, "--json"))
    assert told["run_ids"] == ["r2", "r1"]
    assert invoke("export", "r2", "r1", "--format", "jsonl", "--store", file) == out.read_text(encoding="utf-8")
    imported = json.loads(invoke("import", out, "--store", tmp_path / "other.sqlite", "--json"))
    assert imported["rows"] == told["rows"]
    assert imported["format"] == "orchestra"
    assert invoke("import", out, "--store", tmp_path / "other.sqlite") == ""
    with Store.open(tmp_path / "other.sqlite") as other:
        assert everything(other, "r1", "r2") == everything(store, "r1", "r2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say which runs to export"),
        (("r1", "--all"), "say which runs to export"),
        (("r1", "r2"), "a JSON document holds one run, not 2"),
        (("r1", "--format", "parquet"), "name it with --out"),
        (("r9",), "no run 'r9'"),
        (("r1", "--format", "jsonl", "--out", "/nowhere/x"), "cannot be written: No such file"),
    ],
)
def test_export_that_cannot_be_says_why(exported, file, words, message):
    with pytest.raises(InputError, match=message):
        invoke("export", *words, "--store", file)
