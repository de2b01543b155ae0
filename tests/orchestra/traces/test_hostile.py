"""A real run under settings that break tracing elsewhere: the store lacks nothing, and nothing leaves this process.

Each run is a process of its own, because telemetry libraries read their settings when they are imported. What would
leave is seen twice: an audit hook writes down every connection, and collectors on loopback count what reaches them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.testing import LoopbackCollector
from orchestra.traces.content import is_digest
from orchestra.traces.store import Store

TEAM = """
schema_version: 1
name: pair
nodes:
  - {id: drafter, kind: agent, role: You draft.}
  - {id: reviewer, kind: agent, role: You review., tools: [{name: count, call: "office:count"}]}
channels: [{source: drafter, target: reviewer}]
output: reviewer
"""
QUESTION = "What is the longest question that nobody has cut short so far? " * 40
LISTENER = """
import sys
def hook(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) or event == "socket.getaddrinfo":
        with open({log!r}, "a") as log:
            print(event, *map(repr, arguments[-1:] if event == "socket.connect" else arguments[:2]), file=log)
sys.addaudithook(hook)
"""
FOREIGN = """
import sys
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from orchestra.cli import main
trace.set_tracer_provider(TracerProvider(sampler={sampler}))
{around}
main(sys.argv[1:])
"""
UNSAMPLED = "context.attach(set_span_in_context(NonRecordingSpan(SpanContext(7, 9, True, TraceFlags(0)))))"
RECORDING = "context.attach(set_span_in_context(trace.get_tracer('theirs').start_span('request')))"
LIMITS = ("ATTRIBUTE_COUNT", "EVENT_COUNT", "LINK_COUNT", "ATTRIBUTE_VALUE_LENGTH")
LANGSMITH = {"API_KEY": "lsv2_pt_0", "PROJECT": "theirs", "TRACING": "true", "TRACING_V2": "true"}
VARYING = {"orchestra.run.id", "gen_ai.response.time_to_first_chunk"}
ENDPOINT = "ENDPOINT"
"""Stands for the address of a collector that counts."""

SETTINGS = {
    "sdk disabled": {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT},
    "sampler always off": {"OTEL_TRACES_SAMPLER": "always_off"},
    "values of ten characters": {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "10", "OTEL_ATTRIBUTE_COUNT_LIMIT": "1"},
    "spans of one attribute": {f"OTEL_SPAN_{limit}_LIMIT": "1" for limit in LIMITS}
    | {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "1"},
    "no exporter and no content": {
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT,
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "false",
    },
    "langsmith": {f"LANGSMITH_{key}": value for key, value in LANGSMITH.items()}
    | {f"LANGCHAIN_{key}": value for key, value in LANGSMITH.items()}
    | {"LANGSMITH_ENDPOINT": ENDPOINT, "LANGCHAIN_ENDPOINT": ENDPOINT, "LANGSMITH_OTEL_ENABLED": "true"},
}
PROGRAMS = {
    "unsampled parent": FOREIGN.format(sampler="ALWAYS_OFF", around=UNSAMPLED),
    "global provider that records": FOREIGN.format(sampler="ALWAYS_ON", around=RECORDING),
}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("office")
    (folder / "team.yaml").write_text(TEAM)
    (folder / "office.py").write_text("def count(text): return str(len(text))\n")
    (folder / "script.yaml").write_text(
        "- {match: 'count: ', reply: 'It is long.'}\n- {match: 'drafter', reply: 'CALL count: it'}\n"
        "- {match: '', reply: 'A draft.'}\n"
    )
    return folder


def spans_of(office, where, settings, program=None):
    """The spans of one run in a process of its own, and the connections it made."""
    log = where / "connections"
    (where / "sitecustomize.py").write_text(LISTENER.format(log=str(log)))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LANG"))}
    here = str(Path(__file__).parents[3])
    environment = {**inherited, **settings, "PYTHONPATH": os.pathsep.join((str(where), here))}
    start = [sys.executable, "-m", "orchestra"] if program is None else [sys.executable, "-c", program]
    words = ["run", str(office / "team.yaml"), QUESTION, "--model", f"scripted/{office}/script.yaml"]
    done = subprocess.run(
        [*start, *words, "--store", str(where / "store.sqlite")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    with Store.open(where / "store.sqlite", read_only=True) as store:
        kept = [(span, dict(whole(store, span))) for span in store.spans(store.runs(1)[0].run_id)]
    return kept, log.read_text() if log.exists() else ""


def whole(store, span):
    for key, value in span.attributes.items():
        yield key, store.blob_value(value) if is_digest(value) else value


def shape(kept):
    """What two runs of the same team have in common: everything but ids and times."""
    named = {span.span_id: span.name for span, _ in kept}
    return sorted(
        (span.name, named.get(span.parent_id, "-"), span.status, str(sorted(steady(said).items())))
        for span, said in kept
    )


def steady(said):
    return {key: value for key, value in said.items() if key not in VARYING}


@pytest.fixture(scope="module")
def undisturbed(office, tmp_path_factory):
    kept, connections = spans_of(office, tmp_path_factory.mktemp("undisturbed"), {})
    assert connections == ""
    assert len(kept) == 8
    assert QUESTION in str([said for _, said in kept])
    return shape(kept)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_no_setting_of_the_shell_costs_a_span_or_lets_one_out(office, undisturbed, tmp_path, settings):
    with LoopbackCollector() as collector:
        told = {key: collector.url if value == ENDPOINT else value for key, value in settings.items()}
        kept, connections = spans_of(office, tmp_path, told)
    assert shape(kept) == undisturbed
    assert (connections, collector.requests) == ("", 0)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_no_tracing_of_the_program_around_costs_a_span_or_joins_the_tree(office, undisturbed, tmp_path, program):
    kept, connections = spans_of(office, tmp_path, {}, program)
    assert shape(kept) == undisturbed
    assert connections == ""
    assert len({span.trace_id for span, _ in kept}) == 1
    (root,) = (span for span, _ in kept if span.parent_id is None)
    assert len(root.links) == 1


def test_the_hook_sees_a_connection_when_there_is_one(office, tmp_path):
    """Else the tests above would prove nothing."""
    with LoopbackCollector() as collector:
        _, connections = spans_of(office, tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert "socket.connect" in connections
    assert len(collector.spans) == 8
