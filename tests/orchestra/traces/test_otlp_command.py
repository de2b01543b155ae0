"""Sending spans from the command line: while a run goes on, and afterwards."""

import json

import pytest

from orchestra.cli import execute
from orchestra.testing import LoopbackCollector

TEAM = """
schema_version: 1
name: one
nodes: [{id: only, kind: agent}]
output: only
"""
SPANS = 4  # root, workflow, agent, call


@pytest.fixture
def words(tmp_path, monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "team.yaml").write_text(TEAM)
    return ["run", str(tmp_path / "team.yaml"), "hello", "--model", "scripted/echo"]


def test_run_sends_spans_where_it_is_told_to_and_says_so(words, capsys):
    with LoopbackCollector() as collector:
        url = collector.url
        assert execute([*words, "--otlp", url]) == 0
    assert len(collector.spans) == SPANS
    assert f"{SPANS} spans sent to {url}/v1/traces, without what was said" in capsys.readouterr().err


def test_the_standard_variable_is_heeded(words, monkeypatch):
    with LoopbackCollector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        assert execute(words) == 0
    assert len(collector.spans) == SPANS


def test_without_either_nothing_is_sent_and_nothing_said(words, capsys):
    assert execute(words) == 0
    assert "spans" not in capsys.readouterr().err


def test_evaluate_sends_spans_too(words, tmp_path):
    (tmp_path / "tasks.jsonl").write_text('{"id": "a", "input": "hi", "target": "hi"}\n')
    with LoopbackCollector() as collector:
        evaluated = ["evaluate", words[1], "--tasks", str(tmp_path / "tasks.jsonl"), "--model", "scripted/echo"]
        assert execute([*evaluated, "--otlp", collector.url]) == 0
    assert len([span for span in collector.spans if not span.parent_span_id]) == 1


def test_spans_that_did_not_arrive_are_counted_with_what_to_do_and_the_run_is_well(words, capsys):
    with LoopbackCollector([503]) as collector:
        url = collector.url
        assert execute([*words, "--otlp", url]) == 0
    said = capsys.readouterr().err
    assert f"{SPANS} of {SPANS} spans did not reach {url}/v1/traces: {SPANS} were refused (503)" in said
    assert "orchestra traces send 20" in said


def test_what_did_not_arrive_is_sent_afterwards(words, capsys):
    with LoopbackCollector() as gone:
        url = gone.url
    assert execute([*words, "--otlp", url, "--json"]) == 0
    run_id = json.loads(capsys.readouterr().out)["run_id"]
    with LoopbackCollector() as collector:
        assert execute(["traces", "send", run_id, "--otlp", collector.url, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["sent"], document["dropped"], len(collector.spans)) == (SPANS, 0, SPANS)


def test_sending_to_nobody_is_an_error_that_says_what_to_give(words, capsys):
    assert execute(["traces", "send", "20"]) == 2
    assert "--otlp http://localhost:6006" in capsys.readouterr().err


def test_a_collector_that_refuses_a_stored_run_is_a_failure(words, capsys):
    assert execute([*words, "--json"]) == 0
    run_id = json.loads(capsys.readouterr().out)["run_id"]
    with LoopbackCollector([400]) as collector:
        assert execute(["traces", "send", run_id, "--otlp", collector.url]) == 1


def test_what_is_no_address_costs_nothing(words, capsys):
    assert execute([*words, "--otlp", "collector:4317"]) == 2
    assert "is not an HTTP address" in capsys.readouterr().err
