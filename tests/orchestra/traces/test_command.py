import json

import pytest
from typer.testing import CliRunner

from graphs.motifs import MOTIFS
from graphs.serialisation import write
from orchestra.cli import execute
from orchestra.cli.traces import traces_app
from orchestra.errors import InputError
from orchestra.ledger import Entry, show_usd
from orchestra.testing import Answer, FaultyServer
from orchestra.traces import names
from orchestra.traces.episode import Episode
from orchestra.traces.spans import Tracer
from orchestra.traces.store import Fact, LedgerEntry, RunRecord, Store
from orchestra.traces.summary import export, run_episodes


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
    for part in (run_id, "evaluate", "finished", "2 (1 failed)", "2,400 → 60", "$0.0025"):
        assert part in shown


def test_list_as_json_is_one_document(run_id, file):
    (one,) = json.loads(invoke("list", "--store", file, "--json"))
    assert (one["run_id"], one["state"], one["episodes"], one["failed"]) == (run_id, "finished", 2, 1)
    assert one["figures"]["paid_nano"] == 2_500_000  # settled, and what is still reserved
    assert one["figures"]["list_nano"] == 2_000_000


def test_show_tells_of_tries_that_failed_and_of_counts_that_were_not_believed(tmp_path, file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    write(MOTIFS["solo"](["You answer."]), tmp_path / "team.yaml")
    with FaultyServer([Answer(status=500), Answer(usage=(10**6, 1))]).in_process() as server:
        model = f"vllm/loopback@{server.url.removesuffix('/v1')}?token_ids=false"
        assert execute(["run", str(tmp_path / "team.yaml"), "go", "--model", model, "--store", str(file)]) == 0
    with Store.open(file, read_only=True) as store:
        (episode,) = run_episodes(store, store.runs()[0].run_id)
    (turn,) = episode.turns
    (attempt,) = turn.failed_attempts
    assert "500" in attempt.error
    assert attempt.booked_usd == 0
    assert turn.usage_doubt is not None
    shown = invoke("show", "2", "--store", file)
    assert "failed try: " in shown
    assert "tokens: " in shown
    assert turn.usage_doubt[:40] in shown


def test_a_run_that_never_ended_is_listed_as_cut_off(file):
    with Store.open(file) as store:
        store.post(RunRecord("r", "run"))
    (one,) = json.loads(invoke("list", "--store", file, "--json"))
    assert (one["state"], one["episodes"], one["figures"]["seconds"]) == ("interrupted", 0, None)


def test_show_is_a_tree_of_episodes_and_nodes(run_id, file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    shown = invoke("show", "2026", "--store", file)
    lines = shown.splitlines()
    assert lines[0].startswith(run_id)
    assert f"✓ task-0 · score 0.5 · 1 call · 1,200 → 30 tokens · {show_usd(0)} paid of {show_usd(1_000_000)}" in shown
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


@pytest.fixture
def busy_run(store):
    """A run of 30 episodes in two groups."""
    run_id = "20260802-093012-3f9c"
    store.post(RunRecord(run_id, "compose", 1_785_576_613.0, {}))
    tracer = Tracer(store, run_id)
    for number in range(30):
        name = f"{'trial/calculator' if number < 10 else 'held-out/team'}/task-{number}/0"
        given = {names.EPISODE_ID: name, names.TASK_ID: f"task-{number}", names.AGENT_NAME: "team"}
        with tracer.span("invoke_workflow team", attributes=given) as root:
            with tracer.span("invoke_agent a", attributes={names.NODE: "a", names.NODE_KIND: "agent"}):
                used = {names.INPUT_TOKENS: 100, names.OUTPUT_TOKENS: 10, names.PAID_NANO: 5000, names.LIST_NANO: 7000}
                with tracer.span("chat local/m", attributes=used) as span:
                    span.content(names.OUTPUT_MESSAGES, [{"role": "assistant", "content": "word " * 100}])
            store.post(Fact(run_id, root.id, "score", float(number % 2), "scorer:x"))
    store.flush_sync()
    return run_id


@pytest.fixture
def columns(monkeypatch):
    """Sets the width of the console."""

    def set_columns(width):
        monkeypatch.setenv("COLUMNS", str(width))

    return set_columns


def test_many_episodes_are_a_table_of_their_groups(busy_run, file, columns):
    columns(120)
    lines = [line.split() for line in invoke("show", busy_run, "--store", file).splitlines()]
    assert lines[2] == ["group", "episodes", "score", "calls", "tokens", "paid", "list", "latency"]
    assert lines[3][:9] == ["trial/calculator", "10", "0.50", "10", "1,000", "→", "100", "$0.00005", "$0.00007"]
    assert lines[4][:4] == ["held-out/team", "20", "0.50", "20"]
    assert len(lines) == 5


def test_an_episode_is_found_by_its_id_its_beginning_or_its_task(busy_run, file, columns):
    columns(120)
    for wanted in ("trial/calculator/task-7/0", "trial/calculator/task-7", "task-7"):
        shown = invoke("show", busy_run, "--episode", wanted, "--store", file)
        assert shown.count("✓") == 1
        assert "✓ task-7 · score 1" in shown
    assert invoke("show", busy_run, "--episode", "held-out/team", "--store", file).count("✓") == 20
    with pytest.raises(InputError, match=r"no episode 'nope'.*such as 'trial/calculator/task-0/0'"):
        invoke("show", busy_run, "--episode", "nope", "--store", file)


def test_all_trees_are_shown_when_asked_for(busy_run, file):
    assert invoke("show", busy_run, "--all", "--store", file).count("✓") == 30
    assert invoke("show", busy_run, "--limit", 3, "--store", file).count("✓") == 3


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_longer_than_the_console_and_replies_keep_to_one(busy_run, file, columns, width):
    columns(width)
    tree = invoke("show", busy_run, "--episode", "task-7", "--store", file).splitlines()
    assert len(tree) == 5  # two of the head; episode, node, reply
    table = invoke("show", busy_run, "--store", file).splitlines()
    assert max(map(len, tree + table)) <= width
    assert not any("…" in line for line in table)


def test_how_a_run_ended_is_said_with_the_reason(store, file):
    store.post(RunRecord("cut", "run"), RunRecord("broke", "run"))
    tracer = Tracer(store, "broke")
    with pytest.raises(RuntimeError), tracer.span("attempt", attributes={names.RUN_ID: "broke"}):
        raise RuntimeError("the [disk] is full")
    store.flush_sync()
    assert "it was killed, or is still going" in invoke("show", "cut", "--store", file)
    shown = invoke("show", "broke", "--store", file)
    assert "failed" in shown.splitlines()[0]
    assert "the [disk] is full" in shown


def test_a_silent_tool_node_says_so_on_its_line_and_a_speaking_one_is_not_named_twice(store, file):
    store.post(RunRecord("r", "run"))
    tracer = Tracer(store, "r")
    with tracer.span("invoke_workflow team", attributes={names.EPISODE_ID: "e", names.TASK_ID: "t"}):
        for node, result in (("quiet", None), ("loud", "42")):
            with (
                tracer.span(f"invoke_agent {node}", attributes={names.NODE: node, names.NODE_KIND: "tool"}),
                tracer.span(f"execute_tool {node}", attributes={names.TOOL_NAME: node}) as span,
            ):
                if result:
                    span.content(names.TOOL_CALL_RESULT, result)
    store.flush_sync()
    shown = invoke("show", "r", "--store", file)
    assert shown.count("quiet") == shown.count("loud") == shown.count("silent") == 1
    assert "└── 42" in shown
