import json
from pathlib import Path

import pytest

from graphs.motifs import MOTIFS
from graphs.serialisation import write
from orchestra.cli import execute
from orchestra.errors import InputError
from orchestra.execution.measured import measured as sizes
from orchestra.traces.importing import Importer, import_file
from orchestra.traces.importing_otlp import from_document, from_request, is_otlp

FOREIGN = Path(__file__).parents[2] / "golden" / "traces" / "foreign"


def test_every_type_of_value_is_read(store):
    values = {
        "text": {"stringValue": "x"},
        "yes": {"boolValue": False},
        "whole": {"intValue": "9007199254740993"},
        "part": {"doubleValue": 0.5},
        "list": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "a"}]}},
        "map": {"kvlistValue": {"values": [{"key": "k", "value": {"arrayValue": {}}}]}},
        "bytes": {"bytesValue": "AAE="},
        "none": {},
    }
    span = {
        "traceId": "A" * 32,
        "spanId": "b" * 16,
        "parentSpanId": "0" * 16,
        "name": "n",
        "kind": "SPAN_KIND_CLIENT",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": 2,
        "status": {"code": "STATUS_CODE_ERROR", "message": "no"},
        "attributes": [{"key": key, "value": value} for key, value in values.items()],
    }
    document = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "s"}, "spans": [span]}]}]}
    ((_, (record,)),) = from_document(document, "r")
    importer = Importer(store, "test", run_id="r")
    importer.add({}, [record])
    assert store.spans("r")[0].attributes == {
        "text": "x",
        "yes": False,
        "whole": 9007199254740993,
        "part": 0.5,
        "list": (1, "a"),
        "map": {"k": []},
        "bytes": "AAE=",
        "none": None,
    }
    assert (record.trace_id, record.parent_id, record.kind, record.status) == ("a" * 32, None, "client", "error")


def test_what_is_not_otlp_is_refused_with_its_place(tmp_path, store):
    path = tmp_path / "spans.jsonl"
    path.write_text('{"resourceSpans": []}\n\n{"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}\n')
    with pytest.raises(InputError, match="line 3"):
        import_file(store, path)
    assert store.runs() == ()
    for body, kind in (
        (b"{", "application/json"),
        (b"\xff\xff", "application/x-protobuf"),
        (b"[1]", "application/json"),
    ):
        with pytest.raises(InputError, match="not OTLP"):
            from_request(body, kind, "", "r")
    with pytest.raises(InputError, match="not OTLP"):
        from_request(b"{}", "application/json", "zstd", "r")


def test_the_command_imports_a_collectors_file_once(tmp_path, capsys):
    words = ["traces", "import", str(FOREIGN / "langgraph.jsonl"), "--store", str(tmp_path / "s.sqlite")]
    assert execute([*words, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["format"], first["rows"]) == ("otlp", {"spans": 6})
    assert "2 calls of a model" in first["notes"][0]
    assert execute([*words, "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["run_ids"], second["rows"]) == (first["run_ids"], {"spans": 0})
    assert execute(["traces", "show", *first["run_ids"], "--store", str(tmp_path / "s.sqlite")]) == 0
    shown = capsys.readouterr().out
    assert "calculator" in shown
    assert "writer" in shown
    assert execute(["traces", "list", "--store", str(tmp_path / "s.sqlite"), "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["command"], listed["attempts"], listed["episodes"]) == ("import", 1, 1)
    assert (listed["figures"]["calls"], listed["state"]) == (2, "finished")


def test_a_line_of_otlp_is_told_from_others():
    assert is_otlp('{"resourceSpans": []}')
    assert is_otlp('{"resource_spans":[{"reso')
    assert not is_otlp('{"run": 1}')
    assert not is_otlp("resourceSpans")


def otlp(*spans):
    """A line of OTLP with a tool span for each of `spans`: id, parent, result."""
    named = [
        {
            "traceId": f"{number:032x}",
            "spanId": span_id,
            "parentSpanId": parent,
            "name": "execute_tool t",
            "startTimeUnixNano": "1",
            "endTimeUnixNano": "2",
            "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}},
                {"key": "gen_ai.tool.name", "value": {"stringValue": "t"}},
                {"key": "gen_ai.tool.call.result", "value": {"stringValue": result}},
            ],
        }
        for number, span_id, parent, result in spans
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": named}]}]})


def test_spans_that_lie_in_a_ring_spoil_nothing(tmp_path, capsys):
    alone, other, ring = "a" * 16, "b" * 16, ("c" * 16, "d" * 16)
    rows = [(1, alone, alone, "x"), (2, other, "0" * 16, "x"), (2, ring[0], ring[1], "x"), (2, ring[1], ring[0], "x")]
    (tmp_path / "spans.jsonl").write_text(otlp(*rows) + "\n")
    store = ["--store", str(tmp_path / "s.sqlite"), "--json"]
    assert execute(["traces", "import", str(tmp_path / "spans.jsonl"), *store]) == 0
    (run_id,) = json.loads(capsys.readouterr().out)["run_ids"]
    assert execute(["traces", "list", *store]) == 0
    assert execute(["traces", "show", run_id, *store]) == 0


def test_what_json_cannot_say_is_kept_as_text_and_an_import_is_whole_or_not_there(tmp_path, store, monkeypatch):
    path = tmp_path / "spans.jsonl"
    rows = ["fine", '{"loss": NaN}', "cut in half \ud83d"]
    path.write_text("".join(otlp((n, f"{n:016x}", "0" * 16, said)) + "\n" for n, said in enumerate(rows, 1)))
    put = store.blob

    def refusing(content):
        if content == '{"loss": NaN}':
            raise ValueError("content must be JSON")
        return put(content)

    with monkeypatch.context() as patched:
        patched.setattr(store, "blob", refusing)
        with pytest.raises(ValueError, match="must be JSON"):
            import_file(store, path)
    assert store.runs() == ()
    assert import_file(store, path).spans == 3
    found = store.spans(store.runs()[0].run_id)
    assert [store.blob_value(span.attributes["gen_ai.tool.call.result"]) for span in found] == rows
    assert sorted(sizes(store).by_tool["t"]) == [4, 13, 15]


def test_half_a_letter_in_the_store_stops_no_later_run(tmp_path, capsys):
    (tmp_path / "spans.jsonl").write_text(otlp((1, "1" * 16, "0" * 16, "cut \ud83d")) + "\n")
    write(MOTIFS["solo"](["You answer."]), tmp_path / "solo.yaml")
    store = ["--store", str(tmp_path / "s.sqlite")]
    assert execute(["traces", "import", str(tmp_path / "spans.jsonl"), *store, "--json"]) == 0
    (run_id,) = json.loads(capsys.readouterr().out)["run_ids"]
    assert execute(["run", str(tmp_path / "solo.yaml"), "hi", "--model", "scripted/echo", *store]) == 0
    for words in (["show", run_id], ["show", run_id, "--json"], ["export", run_id]):
        assert execute(["traces", *words, *store]) == 0
