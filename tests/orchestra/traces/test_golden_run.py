"""One whole run's spans in the names of the GenAI conventions: the golden file, and every name against the standard."""

import json
from pathlib import Path

import pytest
import yaml

from graphs.motifs import MOTIFS
from orchestra.execution import Settings, run
from orchestra.models.protocol import Capabilities, ToolCall
from orchestra.testing import Answer, FaultyServer, ScriptedModel
from orchestra.traces import names
from orchestra.traces.content import is_digest
from orchestra.traces.store import Store

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "traces"
GOLDEN = FOLDER / "run-genai-0.1.0.json"
SERVED = FOLDER / "run-server-genai-0.1.0.json"
CONVENTION = yaml.safe_load((FOLDER / "genai-0.1.0.yaml").read_text(encoding="utf-8"))
"""Operation -> names that its span must have, and names that it may have."""

TEAM = """
schema_version: 1
name: office
output: verdict
nodes:
  - {id: desk, kind: router, call: {name: route, call: "office:route"}}
  - {id: solver, kind: agent, role: You solve., tools: [{name: order, description: Look it up., call: "office:order"}]}
  - {id: checker, kind: agent, role: You check.}
  - {id: ledger, kind: tool, tool: {name: order, call: "office:order"}}
  - {id: spare, kind: agent}
  - {id: verdict, kind: vote}
channels:
  - {source: desk, target: solver}
  - {source: desk, target: spare}
  - {source: ledger, target: checker}
  - {source: solver, target: checker}
  - {source: solver, target: verdict}
  - {source: checker, target: verdict}
  - {source: spare, target: verdict}
"""
TOOLS = """
def order(text): return "it came to 65"
def route(text): return "solver"
"""


def answer(request):
    """The solver looks the order up by native function calling; the checker agrees."""
    last = request.messages[-1]
    if last.role == "tool":
        return "It cost 65"
    return ToolCall(name="order", arguments='{"input": "61"}', id="call_1") if request.tools else "It cost 65"


@pytest.fixture
async def played(tmp_path, monkeypatch):
    """The store after one run, and that run's id."""
    (tmp_path / "team.yaml").write_text(TEAM)
    (tmp_path / "office.py").write_text(TOOLS)
    able = Capabilities(stream=True, tools=True, seed=True)
    model = ScriptedModel(answer, name="scripted/office", capabilities=able)
    monkeypatch.setattr("orchestra.execution.runtime.opened_model", lambda name, settings: model)
    await run(tmp_path / "team.yaml", "What did 61 cost?", settings=Settings(model=model.name), store=tmp_path / "s.db")
    with Store.open(tmp_path / "s.db", read_only=True) as store:
        yield store, store.runs(1)[0].run_id


def tree(store, run_id):
    """The spans of a run as nested documents, in order of their beginning; ids and times replaced by what they are."""
    children = {}
    for span in sorted(store.spans(run_id), key=lambda span: span.start_ns):
        children.setdefault(span.parent_id, []).append(span)

    def below(parent_id):
        return [
            {
                "name": span.name,
                "kind": span.kind,
                "status": span.status,
                "attributes": dict(sorted(written_out(store, span).items())),
                "events": [event["name"] for event in span.events],
                "children": below(span.span_id),
            }
            for span in sorted(children.get(parent_id, []), key=due_together)
        ]

    return below(None)


def due_together(span):
    """Nodes that are due together begin in either order; all else keeps its own."""
    return span.name if span.name.startswith("invoke_agent ") else ""


def written_out(store, span):
    varying = {names.RUN_ID: "<run>", names.FIRST_TOKEN_SECONDS: "<seconds>"}
    attributes = {key: varying.get(key, value) for key, value in span.attributes.items()}
    return {key: store.blob_value(value) if is_digest(value) else value for key, value in attributes.items()}


async def test_a_whole_run_has_the_spans_it_always_had(played):
    now = json.loads(json.dumps(tree(*played)))
    assert now == json.loads(GOLDEN.read_text(encoding="utf-8"))


def known(operation):
    return [name for level in CONVENTION.get(operation, {}).values() for name in level]


async def test_every_name_is_one_of_the_convention_or_ours(played):
    store, run_id = played
    strangers = [
        (span.name, key)
        for span in store.spans(run_id)
        for key in span.attributes
        if not key.startswith(names.OURS) and key not in known(span.attributes.get(names.OPERATION_NAME))
    ]
    assert strangers == []


async def test_every_span_has_what_the_convention_requires_and_is_called_as_it_says(played):
    store, run_id = played
    seen = set()
    for span in store.spans(run_id):
        operation = span.attributes.get(names.OPERATION_NAME)
        if operation is None:
            assert span.name == names.ATTEMPT
            continue
        seen.add(operation)
        assert set(CONVENTION[operation]["required"]) <= set(span.attributes)
        about = (names.REQUEST_MODEL, names.TOOL_NAME, names.WORKFLOW_NAME, names.AGENT_NAME)
        assert span.name == f"{operation} {next(span.attributes[key] for key in about if key in span.attributes)}"
        assert span.kind == "internal"
    assert seen == set(CONVENTION)


@pytest.mark.parametrize("plan", [[Answer(text="hi")], [Answer(status=400)]], ids=["answered", "refused"])
async def test_a_call_of_a_server_is_a_client_s_and_has_what_the_convention_requires(tmp_path, plan):
    async with FaultyServer(plan) as server:
        model = f"vllm/loopback@{server.url.removesuffix('/v1')}?token_ids=false"
        await run(MOTIFS["solo"](["Go."]), "go", settings=Settings(model=model), store=tmp_path / "s.db")
    with Store.open(tmp_path / "s.db", read_only=True) as store:
        (chat,) = [span for span in store.spans(store.runs(1)[0].run_id) if span.name.startswith("chat ")]
    assert (chat.name, chat.kind) == (f"chat {model}", "client")
    assert {key for key in chat.attributes if not key.startswith(names.OURS)} <= set(known("chat"))
    assert set(CONVENTION["chat"]["required"]) <= set(chat.attributes)
    assert (names.ERROR_TYPE in chat.attributes) == (plan[0].status == 400)
    assert (names.RESPONSE_ID in chat.attributes) == (plan[0].status == 200)


async def test_a_whole_run_against_a_server_has_the_spans_it_always_had(tmp_path):
    (tmp_path / "team.yaml").write_text(TEAM)
    (tmp_path / "office.py").write_text(TOOLS)

    def plan(asked):
        if asked.body["messages"][-1]["role"] == "tool" or not asked.body.get("tools"):
            return Answer(text="It cost 65")
        return Answer(tool_calls=(("order", '{"input": "61"}'),))

    async with FaultyServer(plan) as server:
        port = server.url.removesuffix("/v1").rpartition(":")[2]
        settings = Settings(model=f"vllm/loopback@http://127.0.0.1:{port}?token_ids=false&tools=true&stream=false")
        await run(tmp_path / "team.yaml", "What did 61 cost?", settings=settings, store=tmp_path / "s.db")
    with Store.open(tmp_path / "s.db", read_only=True) as store:
        now = json.dumps(tree(store, store.runs(1)[0].run_id)).replace(f"127.0.0.1:{port}", "127.0.0.1:<port>")
    now = now.replace(f'"{names.SERVER_PORT}": {port}', f'"{names.SERVER_PORT}": "<port>"')
    assert json.loads(now) == json.loads(SERVED.read_text(encoding="utf-8"))


async def test_the_names_the_convention_gave_up_are_nowhere(played):
    store, run_id = played
    gone = {"gen_ai.system", "gen_ai.prompt", "gen_ai.completion", "gen_ai.agent.id", "gen_ai.usage.prompt_tokens"}
    assert gone & {key for span in store.spans(run_id) for key in span.attributes} == set()
