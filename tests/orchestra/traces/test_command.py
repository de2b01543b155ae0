import json

import pytest
from typer.testing import CliRunner

from orchestra.cli.traces import traces_app
from orchestra.errors import InputError
from orchestra.ledger import Entry, show_usd
from orchestra.traces import names
from orchestra.traces.episode import Episode
from orchestra.traces.spans import Tracer
from orchestra.traces.store import Fact, LedgerEntry, RunRecord, Store
from orchestra.traces.summary import export


@pytest.fixture
def run_id(store):
    """A run of two episodes: one that went well, one that failed."""
    run_id = "20260801-093012-3f9c"
    store.post(RunRecord(run_id, "evaluate", 1_785_576_612.0, {"team": "team.yaml"}))
    tracer = Tracer(store, run_id)
    with tracer.span("attempt", attributes={names.RUN_ID: run_id}):
        for number in range(2):
            play(tracer, store, number)
    store.post(LedgerEntry(run_id, Entry("run", "1", "reserve", 9_000_000, "c", 1.0)))
    store.post(LedgerEntry(run_id, Entry("run", "1", "settle", 2_000_000, "c", 1.0)))
    store.post(LedgerEntry(run_id, Entry("run", "2", "reserve", 500_000, "c", 1.0)))
    store.flush_sync()
    return run_id


def play(tracer, store, number):
    given = {names.EPISODE_ID: f"e{number}", names.TASK_ID: f"task-{number}", names.AGENT_NAME: "team"}
    with tracer.span("invoke_workflow team", attributes=given) as root:
        with tracer.span("invoke_agent writer", attributes={names.NODE: "writer", names.NODE_KIND: "agent"}):
            used = {names.INPUT_TOKENS: 1200, names.OUTPUT_TOKENS: 30, names.PAID_NANO: 0, names.LIST_NANO: 1_000_000}
            with tracer.span("chat local/m", attributes=used) as span:
                span.content(names.OUTPUT_MESSAGES, [{"role": "assistant", "content": "forty-[two] " * 30}])
            with tracer.span("execute_tool search", attributes={names.TOOL_NAME: "search"}) as span:
                span.content(names.TOOL_CALL_RESULT, "found")
        if number:
            root.fail(RuntimeError("nobody spoke"))
        else:
            root.content(names.OUTPUT, "42")
            store.post(Fact(tracer.run_id, root.id, "score", 0.5, "scorer:x"))


def invoke(*words):
    result = CliRunner().invoke(traces_app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_list_shows_runs_with_their_figures(run_id, file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    shown = invoke("list", "--store", file)
    for part in (run_id, "evaluate", "done", "2 (1 failed)", "2,400 → 60", "$0.0025"):
        assert part in shown


def test_list_as_json_is_one_document(run_id, file):
    (one,) = json.loads(invoke("list", "--store", file, "--json"))
    assert (one["run_id"], one["state"], one["episodes"], one["failed"]) == (run_id, "done", 2, 1)
    assert one["figures"]["paid_nano"] == 2_500_000  # settled, and what is still reserved
    assert one["figures"]["list_nano"] == 2_000_000


def test_a_run_that_never_ended_is_listed_as_cut_off(file):
    with Store.open(file) as store:
        store.post(RunRecord("r", "run"))
    (one,) = json.loads(invoke("list", "--store", file, "--json"))
    assert (one["state"], one["episodes"], one["figures"]["seconds"]) == ("cut off", 0, None)


def test_show_is_a_tree_of_episodes_and_nodes(run_id, file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    shown = invoke("show", "2026", "--store", file)
    lines = shown.splitlines()
    assert lines[0].startswith(run_id)
    assert (
        f"✓ task-0 · score 0.5 · 1 call · 1,200 → 30 tokens · {show_usd(0)} paid, {show_usd(1_000_000)} uncached"
        in shown
    )
    assert "✗ task-1" in shown
    assert "RuntimeError: nobody spoke" in shown
    assert "writer agent · 1 call" in shown
    assert "search: found" in shown
    assert "forty-[two] forty-[two]" in shown
    assert "…" in shown
    assert "→ 42" in shown


def test_show_whole_replies_and_fewer_episodes(run_id, file):
    assert "…" not in invoke("show", run_id, "--full", "--store", file)
    assert "task-1" not in invoke("show", run_id, "--limit", 1, "--store", file)


def test_show_as_json_holds_the_episodes(run_id, file):
    document = json.loads(invoke("show", run_id, "--json", "--store", file))
    episodes = [Episode.model_validate(one["episode"]) for one in document["episodes"]]
    assert [episode.task_id for episode in episodes] == ["task-0", "task-1"]
    assert document["episodes"][0]["figures"]["input_tokens"] == 1200


def test_export_holds_everything_the_store_knows(run_id, file, tmp_path):
    out = tmp_path / "run.json"
    assert invoke("export", run_id, "--out", out, "--store", file) == ""
    document = json.loads(out.read_text(encoding="utf-8"))
    with Store.open(file) as store:
        assert document == json.loads(json.dumps(export(store, run_id)))
        for span in document["spans"]:
            for value in span["attributes"].values():
                if str(value).startswith("sha256:"):
                    assert document["blobs"][value] == store.blob_value(value)
    assert [line["event"] for line in document["ledger"]] == ["reserve", "settle", "reserve"]
    assert [fact["name"] for fact in document["facts"]] == ["start", "score"]


def test_export_without_a_file_prints_the_document(run_id, file):
    assert json.loads(invoke("export", run_id, "--store", file))["run"]["run_id"] == run_id


def test_export_to_a_file_says_so_as_json(run_id, file, tmp_path):
    told = json.loads(invoke("export", run_id, "--out", tmp_path / "x.json", "--json", "--store", file))
    assert told == {"out": str(tmp_path / "x.json"), "run_id": run_id, "episodes": 2}


def test_bad_input_says_what_to_do(run_id, file, tmp_path):
    with pytest.raises(InputError, match=r"no run 'nope'.*the latest: 2026"):
        invoke("show", "nope", "--store", file)
    with pytest.raises(InputError, match="does not exist; nothing has been run"):
        invoke("list", "--store", tmp_path / "none.sqlite")
    with pytest.raises(InputError, match="cannot be written"):
        invoke("export", run_id, "--out", tmp_path / "no" / "x.json", "--store", file)
