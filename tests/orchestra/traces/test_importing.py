"""Traces of applications that know nothing of us, recorded from real runs, and spans written for a point to make."""

import json
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from orchestra.traces import names
from orchestra.traces.episode import Episode, Message, ToolCall
from orchestra.traces.importing import Importer, StoreExporter, import_file
from orchestra.traces.importing_otlp import from_document
from orchestra.traces.joins import keep_call
from orchestra.traces.records import SpanRecord
from orchestra.traces.store import Store
from orchestra.traces.summary import run_episodes

FOREIGN = Path(__file__).parents[2] / "golden" / "traces" / "foreign"
RECORDED = ("langgraph", "langgraph-plain", "autogen")


def remembered(store, name):
    """What the proxy had kept when the application ran."""
    kept = json.loads((FOREIGN / f"{name}-calls.json").read_text(encoding="utf-8"))
    for digest, value in kept["blobs"].items():
        assert store.blob(value) == digest
    for answer, entry in kept["calls"].items():
        store.cache(f"call {answer}", "call", entry)
    return kept


def imported(store, name):
    outcome = import_file(store, FOREIGN / f"{name}.jsonl", run_id="golden")
    return outcome, run_episodes(store, "golden")


@pytest.mark.parametrize("name", RECORDED)
def test_the_spans_of_an_application_become_the_golden_episode(store, name):
    remembered(store, name)
    _, (episode,) = imported(store, name)
    golden = (FOREIGN / f"{name}-episode.json").read_text(encoding="utf-8")
    assert episode == Episode.model_validate_json(golden)  # as loaded: one of an earlier version lacks later fields


@pytest.mark.parametrize("name", RECORDED)
def test_ids_are_those_the_proxy_kept_under_the_id_of_the_answer(store, name):
    kept = remembered(store, name)
    outcome, (episode,) = imported(store, name)
    assert (outcome.calls, outcome.joined, outcome.unplaced) == (2, 2, 0)
    assert len(episode.turns) == 2
    for turn in episode.turns:
        ids = kept["blobs"][kept["calls"][turn.response_id]["attributes"][names.TOKEN_IDS]]
        assert turn.trainable
        assert (list(turn.prompt_token_ids), list(turn.reply_token_ids)) == (ids["prompt"], ids["reply"])
        assert list(turn.logprobs) == ids["logprobs"]
        assert (turn.usage.input_tokens, turn.usage.output_tokens) == (len(ids["prompt"]), len(ids["reply"]))


@pytest.mark.parametrize("name", RECORDED)
def test_without_the_proxy_there_are_turns_but_no_ids(store, name):
    outcome, (episode,) = imported(store, name)
    assert (outcome.calls, outcome.joined) == (2, 0)
    assert [turn.trainable for turn in episode.turns] == [False, False]
    counted = [turn.usage.output_tokens is not None for turn in episode.turns]
    assert counted == [name != "langgraph-plain"] * 2  # that one streamed, and did not ask to be told
    assert "17 and 25" in episode.input


def test_agents_are_nodes_and_their_tools_are_theirs(store):
    for name, nodes in (("langgraph", ("calculator", "writer")), ("autogen", ("calculator", "writer"))):
        import_file(store, FOREIGN / f"{name}.jsonl", run_id=name)
        (episode,) = run_episodes(store, name)
        first, second = episode.transcripts
        assert (first.node, second.node) == nodes
        (use,) = first.tool_uses
        assert (use.name, use.arguments) == ("add", json.loads(first.turns[0].tool_calls[0].arguments))
        assert second.tool_uses == ()
        assert len(episode.seats) == 1


def test_agents_nobody_named_are_told_by_their_system_prompts(store):
    _, (episode,) = imported(store, "langgraph-plain")
    assert [(one.node, len(one.turns), len(one.tool_uses)) for one in episode.transcripts] == [
        ("agent", 1, 1),
        ("agent-2", 1, 0),
    ]
    assert (episode.seats[0].team, episode.error) == ("LangGraph", None)


@pytest.mark.parametrize("name", RECORDED)
def test_nothing_of_a_span_is_lost(store, name):
    imported(store, name)
    lines = (FOREIGN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    given = [span for line in lines for _, spans in from_document(json.loads(line), "golden") for span in spans]
    kept = {span.span_id: span for span in store.spans("golden")}
    assert len(kept) == len(given)
    for span in given:
        found = kept[span.span_id]
        assert (found.parent_id, found.start_ns, found.end_ns, found.status) == (
            span.parent_id,
            span.start_ns,
            span.end_ns,
            span.status,
        )
        assert (found.events, found.links, found.scope) == (span.events, span.links, span.scope)
        for key, value in span.attributes.items():
            now = found.attributes[key]
            if now != (tuple(value) if isinstance(value, list) else value):
                assert store.blob_value(now) == json.loads(value)


# Older names, and shapes other instrumentations use.


def foreign(number=1, parent=None, name="chat m", trace="a", **fields):
    attributes = fields.pop("attributes", {})
    start = fields.pop("at", number)
    return SpanRecord(
        run_id="x",
        trace_id=trace * 32,
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        name=name,
        start_ns=start * 10**9,
        end_ns=(start + fields.pop("seconds", 1)) * 10**9,
        attributes=attributes,
        **fields,
    )


def episodes_of(store, *spans, resource=None, **settings):
    importer = Importer(store, "test", run_id="r", **settings)
    importer.add(resource or {"service.name": "app"}, spans)
    return importer.imported(), run_episodes(store, "r")


OLDER = {
    "renamed": {
        "attributes": {
            "gen_ai.system": "openai",
            "gen_ai.usage.prompt_tokens": 7,
            "gen_ai.usage.completion_tokens": 2,
            "gen_ai.prompt": '[{"role":"system","content":"s"},{"role":"user","content":"2 + 2?"}]',
            "gen_ai.completion": '[{"role":"assistant","content":"4"}]',
        }
    },
    "numbered": {
        "attributes": {
            "gen_ai.system": "openai",
            "llm.request.type": "chat",
            "gen_ai.usage.prompt_tokens": 7,
            "gen_ai.usage.completion_tokens": 2,
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "s",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "2 + 2?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "4",
        }
    },
    "events": {
        "attributes": {"gen_ai.system": "openai", names.INPUT_TOKENS: 7, names.OUTPUT_TOKENS: 2},
        "events": (
            {"name": "gen_ai.system.message", "at_ns": 1, "attributes": {"content": "s"}},
            {"name": "gen_ai.user.message", "at_ns": 1, "attributes": {"content": "2 + 2?"}},
            {"name": "gen_ai.choice", "at_ns": 2, "attributes": {"index": 0, "message": '{"content":"4"}'}},
        ),
    },
    "content events": {
        "attributes": {"gen_ai.system": "openai", names.INPUT_TOKENS: 7, names.OUTPUT_TOKENS: 2},
        "events": (
            {
                "name": "gen_ai.content.prompt",
                "attributes": {"gen_ai.prompt": '[{"role":"system","content":"s"},{"role":"user","content":"2 + 2?"}]'},
            },
            {
                "name": "gen_ai.content.completion",
                "attributes": {"gen_ai.completion": '[{"role":"assistant","content":"4"}]'},
            },
        ),
    },
}


@pytest.mark.parametrize("fields", OLDER.values(), ids=OLDER)
def test_older_names_say_the_same_and_stay(store, fields):
    _, (episode,) = episodes_of(store, foreign(**fields))
    (turn,) = episode.turns
    assert turn.messages == (Message(role="system", content="s"), Message(role="user", content="2 + 2?"))
    assert (turn.reply, turn.provider) == ("4", "openai")
    assert (turn.usage.input_tokens, turn.usage.output_tokens) == (7, 2)
    (span,) = store.spans("r")
    assert fields["attributes"].items() <= span.attributes.items()


def test_present_names_win_over_older_ones(store):
    both = {"gen_ai.system": "old", names.PROVIDER_NAME: "new", "gen_ai.prompt": "old", names.INPUT_MESSAGES: "new"}
    _, (episode,) = episodes_of(store, foreign(attributes=both))
    assert (episode.turns[0].provider, episode.turns[0].messages[0].content) == ("new", "new")


def test_tool_calls_in_numbered_attributes_and_events_are_read(store):
    numbered = {
        "gen_ai.completion.0.tool_calls.0.id": "c1",
        "gen_ai.completion.0.tool_calls.0.name": "add",
        "gen_ai.completion.0.tool_calls.0.arguments": '{"a":1}',
    }
    events = (
        {"name": "gen_ai.tool.message", "attributes": {"id": "c1", "content": "3"}},
        {
            "name": "gen_ai.choice",
            "attributes": {
                "message": '{"tool_calls":[{"id":"c2","type":"function","function":{"name":"add","arguments":"{}"}}]}'
            },
        },
    )
    _, told = episodes_of(store, foreign(attributes=numbered), foreign(2, trace="b", events=events))
    first, second = (episode.turns[0] for episode in told)
    assert first.tool_calls == (ToolCall(id="c1", name="add", arguments='{"a":1}'),)
    assert second.messages == (Message(role="tool", content="3", tool_call_id="c1"),)
    assert second.tool_calls == (ToolCall(id="c2", name="add", arguments="{}"),)


CHAT = {names.OPERATION_NAME: "chat"}


# Joining.


def kept(store, answer="r1", again=False, **fields):
    ids = store.blob({"prompt": [1, 2], "reply": [3], "logprobs": [-0.5]})
    told = {names.TOKEN_IDS: ids, names.INPUT_TOKENS: 2, names.OUTPUT_TOKENS: 1, names.REQUEST_TEMPERATURE: 0.5}
    keep_call(store, answer, foreign(9, attributes=told, **fields), again=again)


def test_what_the_framework_says_itself_stays_and_the_rest_is_put_to_it(store):
    kept(store, at=1)
    told = {**CHAT, names.RESPONSE_ID: "r1", names.REQUEST_TEMPERATURE: 0.25}
    outcome, (episode,) = episodes_of(store, foreign(1, attributes=told))
    (turn,) = episode.turns
    assert (outcome.joined, turn.trainable, turn.reply_token_ids) == (1, True, (3,))
    assert (turn.sampling.temperature, turn.usage.input_tokens) == (0.25, 2)
    assert store.spans("r")[0].attributes[names.CALL] == f"x/{9:016x}"


@pytest.mark.parametrize("why", ["other answer", "other count", "other time", "came again"])
def test_what_is_not_certain_is_not_joined(store, why):
    kept(store, at=100 if why == "other time" else 1)
    if why == "came again":
        kept(store, again=True)
    answer = "r2" if why == "other answer" else "r1"
    count = 5 if why == "other count" else 1
    outcome, (episode,) = episodes_of(
        store, foreign(1, attributes={**CHAT, names.RESPONSE_ID: answer, names.OUTPUT_TOKENS: count})
    )
    assert (outcome.joined, episode.turns[0].trainable) == (0, False)


def test_what_a_redactor_changes_has_no_ids(store):
    kept(store, at=1)
    told = {**CHAT, names.RESPONSE_ID: "r1", names.INPUT_MESSAGES: '[{"role":"user","content":"key 123"}]'}
    _, (episode,) = episodes_of(store, foreign(1, attributes=told), redact=lambda text: text.replace("123", "***"))
    (turn,) = episode.turns
    assert (turn.messages[0].content, turn.redacted, turn.reply_token_ids) == ("key ***", True, None)


# The exporter for an application's own process.


def test_an_application_exports_to_a_store_with_one_line(store):
    exporter = StoreExporter(store)
    provider = TracerProvider(resource=Resource({"service.name": "mine"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("mine")
    with tracer.start_as_current_span("invoke_agent writer", attributes={names.AGENT_NAME: "writer"}):
        said = {names.OUTPUT_MESSAGES: '[{"role":"assistant","parts":[{"type":"text","content":"hi"}]}]'}
        with tracer.start_as_current_span("chat m", attributes={**CHAT, **said}):
            pass
    provider.shutdown()
    (episode,) = run_episodes(store, exporter.run_id)
    assert (episode.transcript("writer").turns[0].reply, exporter.imported().spans) == ("hi", 2)
    assert store.runs()[0].command == "import"


def test_a_store_that_fails_costs_spans_and_not_the_application(tmp_path):
    store = Store.open(tmp_path / "s.sqlite")
    exporter = StoreExporter(store)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    store.close()
    with provider.get_tracer("mine").start_as_current_span("chat m"):
        pass
    provider.shutdown()
    with Store.open(tmp_path / "s.sqlite") as again:
        assert again.runs() == ()
