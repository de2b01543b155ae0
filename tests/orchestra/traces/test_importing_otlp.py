import json
from pathlib import Path

import pytest

from orchestra.cli import execute
from orchestra.errors import InputError
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
