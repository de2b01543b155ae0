"""A real collector with a page: Arize Phoenix gets a run and shows a tree with kinds, models, tokens and cost."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphs import AgentGraph, AgentNode, Channel, Sampling
from orchestra.execution import Settings, run
from orchestra.ledger import Price
from orchestra.traces.export_settings import CONTENT_VARIABLE
from orchestra.traces.otlp import send_run
from orchestra.traces.store import Store

pytestmark = pytest.mark.live

TEAM = """
schema_version: 1
name: office
output: verdict
nodes:
  - {id: desk, kind: router, call: {name: route, call: "office:route"}}
  - {id: solver, kind: agent, role: You solve., tools: [{name: order, call: "office:order"}]}
  - {id: spare, kind: agent}
  - {id: checker, kind: agent, role: You check.}
  - {id: verdict, kind: vote}
channels:
  - {source: desk, target: solver}
  - {source: desk, target: spare}
  - {source: solver, target: checker}
  - {source: solver, target: verdict}
  - {source: checker, target: verdict}
  - {source: spare, target: verdict}
"""
TOOLS = """
def order(text): return "it came to 65"
def route(text): return "solver"
"""
SCRIPT = """
- {match: "order: it came", reply: "It cost 65"}
- {match: "solver: ", reply: "It cost 65"}
- {match: "", reply: "CALL order: 61"}
"""
TREE = {
    "orchestra run": ("CHAIN", None),
    "invoke_workflow office": ("CHAIN", "orchestra run"),
    "router desk": ("CHAIN", "invoke_workflow office"),
    "execute_tool route": ("TOOL", "router desk"),
    "invoke_agent solver": ("AGENT", "invoke_workflow office"),
    "execute_tool order": ("TOOL", "invoke_agent solver"),
    "invoke_agent checker": ("AGENT", "invoke_workflow office"),
    "vote verdict": ("CHAIN", "invoke_workflow office"),
}
"""Kind and parent of every span but the model calls, which hang from the agents."""
INPUT_USD, OUTPUT_USD = 1000, 4000
"""Per million tokens, as registered with the page: dear, so that it shows dollars."""
TRACE = """
query($id: String!) { getTraceByOtelId(traceId: $id) {
  costSummary { total { cost tokens } }
  spans(first: 100) { edges { node {
    spanId parentId name spanKind statusCode tokenCountPrompt tokenCountCompletion attributes
    input { value } output { value } costSummary { total { cost } }
  } } }
} }
"""


@dataclass(frozen=True)
class Phoenix:
    """A running server."""

    url: str

    def asked(self, query: str, **variables: object) -> dict:
        """The data of one GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            document = json.load(answer)
        assert "errors" not in document, document["errors"]
        return document["data"]

    def set_price(self, pattern: str) -> None:
        """Register what tokens cost, of models whose name matches."""
        costs = [
            {"tokenType": "input", "costPerMillionTokens": INPUT_USD, "kind": "PROMPT"},
            {"tokenType": "output", "costPerMillionTokens": OUTPUT_USD, "kind": "COMPLETION"},
        ]
        self.asked(
            "mutation($given: CreateModelMutationInput!) { createModel(input: $given) { model { id } } }",
            given={"name": pattern, "namePattern": pattern, "costs": costs},
        )

    def trace(self, trace_id: str, spans: int) -> dict:
        """A trace, once all its spans are there and priced."""
        deadline = time.monotonic() + 30
        while True:
            found = self.asked(TRACE, id=trace_id)["getTraceByOtelId"]
            nodes = [edge["node"] for edge in found["spans"]["edges"]] if found else []
            priced = all(node["costSummary"]["total"]["cost"] for node in nodes if node["spanKind"] == "llm")
            if (len(nodes) >= spans and priced) or time.monotonic() > deadline:
                return {"cost": found["costSummary"]["total"] if found else None, "spans": nodes}
            time.sleep(0.2)


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory):
    python = os.environ.get("ORCHESTRA_PHOENIX_PYTHON")
    if not python:
        pytest.fail("ORCHESTRA_PHOENIX_PYTHON names no interpreter; run `make test-vllm`")
    folder = tmp_path_factory.mktemp("phoenix")
    http, grpc = _free_ports(2)
    environment = {
        **os.environ,
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(http),
        "PHOENIX_GRPC_PORT": str(grpc),
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [str(Path(python).parent / "phoenix"), "serve"], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        running = Phoenix(f"http://127.0.0.1:{http}")
        _wait_for(running.url, server, folder / "log")
        running.set_price("^scripted/.*$")
        running.set_price("(?i)^.*smollm2.*$")
        time.sleep(6)  # it reads its prices every five seconds
        yield running
    finally:
        server.terminate()
        server.wait(30)


def _free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _wait_for(url, server, log):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"phoenix did not answer: {log.read_text()}")


@pytest.fixture
def office(tmp_path, monkeypatch):
    monkeypatch.setenv(CONTENT_VARIABLE, "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "30")  # patience with a busy machine
    (tmp_path / "team.yaml").write_text(TEAM)
    (tmp_path / "office.py").write_text(TOOLS)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    return tmp_path


def scripted(office, phoenix):
    return Settings(model=f"scripted/{office}/script.yaml", otlp=phoenix.url)


async def test_a_run_is_a_tree_with_kinds_models_tokens_and_cost(phoenix, office):
    settings = scripted(office, phoenix)
    episode = await run(office / "team.yaml", "What did 61 cost?", settings=settings, store=office / "s.db")
    turns = [turn for transcript in episode.transcripts for turn in transcript.turns]
    spans = phoenix.trace(episode.trace_id, len(TREE) + len(turns))["spans"]
    named = {span["spanId"]: span["name"] for span in spans}
    calls = [span for span in spans if span["name"].startswith("chat ")]
    rest = {span["name"]: (span["spanKind"].upper(), named.get(span["parentId"])) for span in without(calls, spans)}
    assert rest == TREE
    assert sorted(named[span["parentId"]] for span in calls) == ["invoke_agent checker"] + ["invoke_agent solver"] * 2
    assert {span["statusCode"] for span in spans} == {"OK"}
    assert {span["spanKind"] for span in calls} == {"llm"}
    for span in calls:
        assert json.loads(span["attributes"])["llm"]["model_name"] == turns[0].model
        assert span["costSummary"]["total"]["cost"] == pytest.approx(cost_of(span))
    tokens = sorted((span["tokenCountPrompt"], span["tokenCountCompletion"]) for span in calls)
    assert tokens == sorted((turn.usage.input_tokens, turn.usage.output_tokens) for turn in turns)


async def test_the_page_s_line_for_a_run_shows_the_question_and_the_answer(phoenix, office):
    settings = scripted(office, phoenix)
    episode = await run(office / "team.yaml", "What did 61 cost?", settings=settings, store=office / "s.db")
    spans = phoenix.trace(episode.trace_id, len(TREE))["spans"]
    (root,) = [span for span in spans if span["parentId"] is None]
    assert (root["input"]["value"], root["output"]["value"]) == ("What did 61 cost?", "It cost 65")
    solver = next(span for span in spans if span["name"] == "invoke_agent solver")
    assert solver["output"]["value"] == "It cost 65"


async def test_a_stored_run_is_shown_as_well(phoenix, office):
    settings = Settings(model=f"scripted/{office}/script.yaml")
    episode = await run(office / "team.yaml", "What did 61 cost?", settings=settings, store=office / "s.db")
    with Store.open(office / "s.db", read_only=True) as store:
        exported = send_run(store, episode.run_id, f"{phoenix.url}/v1/traces")
    assert exported.dropped.total() == 0
    assert len(phoenix.trace(episode.trace_id, exported.sent)["spans"]) == exported.sent


async def test_a_team_on_a_real_engine_has_the_tokens_of_that_engine_and_their_cost(phoenix, office, vllm):
    pair = AgentGraph(
        name="pair",
        nodes=(AgentNode(id="writer", role="You write."), AgentNode(id="reader", role="You read.")),
        channels=(Channel(source="writer", target="reader"),),
        sampling=Sampling(max_tokens=16),
        output="reader",
    )
    price = Price.per_million("1", "4", source="this test, where nobody has measured the server yet")
    settings = Settings(model=vllm.name, otlp=phoenix.url, price=price)
    episode = await run(pair, "Say hello.", settings=settings, store=office / "s.db", max_cost_usd="10")
    turns = [turn for transcript in episode.transcripts for turn in transcript.turns]
    found = phoenix.trace(episode.trace_id, 6)
    calls = [span for span in found["spans"] if span["spanKind"] == "llm"]
    tokens = sorted((span["tokenCountPrompt"], span["tokenCountCompletion"]) for span in calls)
    assert tokens == sorted((turn.usage.input_tokens, turn.usage.output_tokens) for turn in turns)
    assert found["cost"]["cost"] == pytest.approx(sum(map(cost_of, calls)))
    paid = [json.loads(span["attributes"])["llm"]["cost"]["total"] for span in calls]
    assert sum(paid) == pytest.approx(sum(float(turn.paid_usd) for turn in turns))


def without(some, spans):
    return [span for span in spans if span not in some]


def cost_of(span):
    return (span["tokenCountPrompt"] * INPUT_USD + span["tokenCountCompletion"] * OUTPUT_USD) / 1e6
