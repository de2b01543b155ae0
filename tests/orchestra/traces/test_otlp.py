"""Export to a collector: the tree that arrives, what is left out, and what it may never cost."""

import json
import threading

import pytest

from orchestra.execution import Settings, run
from orchestra.testing import LoopbackCollector
from orchestra.testing.collector import attributes_of
from orchestra.traces import names
from orchestra.traces.otlp import Exporter, send_run
from orchestra.traces.spans import Tracer
from orchestra.traces.store import Store

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
TEAM = """
schema_version: 1
name: office
output: verdict
nodes:
  - {id: desk, kind: router, call: {name: route, call: "office:route"}}
  - {id: solver, kind: agent, role: You solve., tools: [{name: order, call: "office:order"}]}
  - {id: idler, kind: agent}
  - {id: verdict, kind: vote}
channels:
  - {source: desk, target: solver}
  - {source: desk, target: idler}
  - {source: solver, target: verdict}
  - {source: idler, target: verdict}
"""
TOOLS = """
def order(text): return "order 61 came to 65"
def route(text): return "solver"
"""
SCRIPT = """
- {match: "order 61 came", reply: "It cost 65"}
- {match: "", reply: "CALL order: 61"}
"""


@pytest.fixture
def office(tmp_path, monkeypatch):
    """A team file with its tools and script; the shell says nothing about telemetry."""
    for name in (CONTENT, "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "team.yaml").write_text(TEAM)
    (tmp_path / "office.py").write_text(TOOLS)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    return tmp_path


@pytest.fixture
def asked(office):
    """Runs the office once with its spans sent to `url`; the episode and what the exporter says."""

    async def once(url, question="What did 61 cost?"):
        told = []
        settings = Settings(model=f"scripted/{office}/script.yaml", otlp=url, on_exported=told.append)
        episode = await run(office / "team.yaml", question, settings=settings, store=office / "store.sqlite")
        return episode, told[0]

    return once


def stored(office):
    with Store.open(office / "store.sqlite", read_only=True) as store:
        return store.spans(store.runs(1)[0].run_id)


async def test_the_tree_that_arrives_is_the_tree_in_the_store(office, asked):
    with LoopbackCollector() as collector:
        _, exported = await asked(collector.url)
    sent = {span.span_id.hex(): span.parent_span_id.hex() or None for span in collector.spans}
    assert sent == {span.span_id: span.parent_id for span in stored(office)}
    assert (exported.sent, exported.dropped.total()) == (len(sent), 0)
    assert {span.trace_id.hex() for span in collector.spans} == {stored(office)[0].trace_id}
    assert list(sent.values()).count(None) == 1


async def test_every_span_has_a_kind_that_pages_know(asked):
    with LoopbackCollector() as collector:
        await asked(collector.url)
    kinds = [(span.name, attributes_of(span)["openinference.span.kind"]) for span in collector.spans]
    assert sorted(set(kinds)) == [
        (f"chat {names_of(collector)}", "LLM"),
        ("execute_tool order", "TOOL"),
        ("execute_tool route", "TOOL"),
        ("invoke_agent solver", "AGENT"),
        ("invoke_workflow office", "CHAIN"),
        ("orchestra run", "CHAIN"),
        ("router desk", "CHAIN"),
        ("vote verdict", "CHAIN"),
    ]


def names_of(collector):
    return next(span.name.removeprefix("chat ") for span in collector.spans if span.name.startswith("chat "))


async def test_models_tokens_and_cost_arrive(asked):
    with LoopbackCollector() as collector:
        episode, _ = await asked(collector.url)
    chats = [attributes_of(span) for span in collector.spans if span.name.startswith("chat ")]
    turns = [turn for transcript in episode.transcripts for turn in transcript.turns]
    assert len(chats) == 2
    assert [chat["llm.token_count.prompt"] for chat in chats] == [turn.usage.input_tokens for turn in turns]
    assert [chat["llm.token_count.completion"] for chat in chats] == [turn.usage.output_tokens for turn in turns]
    assert [chat["llm.cost.total"] for chat in chats] == [float(turn.paid_usd) for turn in turns]
    assert {chat["llm.model_name"] for chat in chats} == {turns[0].model}


async def test_a_reply_that_was_not_asked_for_anew_counts_no_tokens(office, tmp_path):
    settings = Settings(model=f"scripted/{office}/script.yaml", use_cache=True)
    await run(office / "team.yaml", "What did 61 cost?", settings=settings, store=office / "store.sqlite")
    with LoopbackCollector() as collector:
        again = Settings(model=settings.model, use_cache=True, otlp=collector.url)
        await run(office / "team.yaml", "What did 61 cost?", settings=again, store=office / "store.sqlite")
    chats = [attributes_of(span) for span in collector.spans if span.name.startswith("chat ")]
    assert [chat["llm.token_count.total"] for chat in chats] == [0, 0]
    assert all(chat["llm.cost.total"] == 0 and chat["gen_ai.usage.input_tokens"] > 0 for chat in chats)


async def test_without_being_asked_nothing_that_was_said_leaves(asked):
    with LoopbackCollector() as collector:
        await asked(collector.url, "What did 61 cost, Rumpelstiltskin?")
    wire = b"".join(span.SerializeToString() for span in collector.spans)
    for said in (b"Rumpelstiltskin", b"You solve", b"CALL order", b"came to 65", b"It cost 65", b"sha256:"):
        assert said not in wire


async def test_what_was_said_arrives_where_the_variable_asks_for_it(asked, monkeypatch):
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    with LoopbackCollector() as collector:
        await asked(collector.url)
    (root,), (tool,) = collector.attributes("orchestra run"), collector.attributes("execute_tool order")
    assert (root["input.value"], root["output.value"]) == ("What did 61 cost?", "It cost 65")
    assert (tool["input.value"], tool["output.value"]) == ("61", "order 61 came to 65")
    chat = attributes_of(next(span for span in collector.spans if span.name.startswith("chat ")))
    messages = json.loads(chat[names.INPUT_MESSAGES])
    assert messages[1]["parts"][0]["content"].startswith("What did 61 cost?")
    assert names.TOKEN_IDS not in chat


async def test_the_store_holds_what_was_said_whatever_the_variable_says(office, asked):
    with LoopbackCollector() as collector:
        episode, _ = await asked(collector.url)
    assert episode.output == "It cost 65"
    assert episode.transcripts[0].turns or episode.transcripts[1].turns


async def test_the_resource_is_ours_unless_the_user_says_otherwise(asked, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "openinference.project.name=mine")
    with LoopbackCollector() as collector:
        await asked(collector.url)
    resource = collector.resources[0]
    assert resource["service.name"] == "orchestra"
    assert resource["openinference.project.name"] == "mine"
    assert resource[names.NAMES_VERSION] == names.VERSION


@pytest.mark.parametrize("status", [429, 503, 500, 400])
async def test_what_a_full_collector_refuses_is_counted_and_the_store_lacks_nothing(office, asked, status):
    with LoopbackCollector([status]) as collector:
        _, exported = await asked(collector.url)
    assert exported.sent == 0
    assert exported.dropped == {f"were refused ({status})": len(stored(office))}
    assert "orchestra traces send" in exported.lines()[1]


async def test_a_collector_that_is_down_costs_no_span(office, asked):
    with LoopbackCollector() as gone:
        url = gone.url
    episode, exported = await asked(url)
    assert episode.error is None
    assert exported.dropped.total() == len(stored(office)) == 9
    assert exported.lines()[0].startswith(f"9 of 9 spans did not reach {url}/v1/traces: ")


async def test_a_collector_that_hangs_is_given_up_when_patience_ends(office, asked, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with LoopbackCollector(hangs=True) as collector:
        _, exported = await asked(collector.url)
    assert exported.dropped == {"were not taken in time": len(stored(office))}


async def test_spans_that_a_collector_took_but_could_not_use_are_counted(office, asked):
    with LoopbackCollector(rejected=2) as collector:
        _, exported = await asked(collector.url)
    assert exported.dropped == {"were rejected by it": 2 * collector.requests}
    assert exported.sent + exported.dropped.total() == len(stored(office))


def said(text):
    return [{"role": "user", "parts": [{"type": "text", "content": text}]}]


def exporter_of(collector, **chosen):
    return Exporter("run", f"{collector.url}/v1/traces", with_content=True, **chosen)


def test_a_batch_that_is_too_large_is_sent_in_parts(store):
    with LoopbackCollector(most_bytes=100_000) as collector:
        exporter = exporter_of(collector)
        tracer = Tracer(store, "run", export=exporter)
        for _ in range(20):
            with tracer.span("chat m") as span:
                span.content(names.INPUT_MESSAGES, said("a" * 20_000))
        exported = exporter.close()
    assert (exported.sent, exported.dropped.total()) == (20, 0)
    assert len(collector.spans) == 20


def test_a_message_of_more_than_16_mib_arrives_cut_and_referred_to(store):
    long = "word " * (17 * 2**20 // 5)
    content = said(long)
    with LoopbackCollector(most_bytes=4 * 2**20) as collector:
        exporter = exporter_of(collector)
        with Tracer(store, "run", export=exporter).span("chat m") as span:
            span.content(names.INPUT_MESSAGES, content)
        assert exporter.close().sent == 1
    (record,) = store.spans("run")
    (attributes,) = collector.attributes("chat m")
    kept = json.loads(attributes[names.INPUT_MESSAGES])[0]["parts"][0]["content"]
    assert long.startswith(kept[:100_000])
    assert f"{len(long):,} characters in all" in kept
    assert attributes[names.CUT] == [f"{names.INPUT_MESSAGES}={record.attributes[names.INPUT_MESSAGES]}"]
    assert store.blob_value(record.attributes[names.INPUT_MESSAGES]) == content


def test_a_history_of_many_long_messages_is_only_referred_to(store):
    history = said("a" * 100_000) * 40
    with LoopbackCollector() as collector:
        exporter = exporter_of(collector)
        with Tracer(store, "run", export=exporter).span("chat m") as span:
            span.content(names.INPUT_MESSAGES, history)
        exporter.close()
    (attributes,) = collector.attributes("chat m")
    assert names.INPUT_MESSAGES not in attributes
    assert attributes[names.CUT][0].startswith(f"{names.INPUT_MESSAGES}=sha256:")


def test_a_queue_that_is_full_drops_and_counts_and_never_waits(store, monkeypatch):
    monkeypatch.setattr("orchestra.traces.otlp.MOST_SPANS", 10)
    with LoopbackCollector(hangs=True) as collector:
        exporter = exporter_of(collector, patience_seconds=0.1)
        tracer = Tracer(store, "run", export=exporter)
        for _ in range(1000):
            with tracer.span("chat m"):
                pass
        exported = exporter.close()
    assert exported.dropped.total() == 1000
    assert exported.dropped["found the queue full"] >= 1000 - 10 - 256
    assert len(store.spans("run")) == 1000


def test_several_threads_may_hand_over_spans_at_once(store):
    with LoopbackCollector() as collector:
        exporter = exporter_of(collector)
        tracer = Tracer(store, "run", export=exporter)

        def some():
            for _ in range(50):
                with tracer.span("chat m") as span:
                    span.content(names.OUTPUT, "said")

        threads = [threading.Thread(target=some) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert exporter.close().sent == 200
    assert len({span.span_id for span in collector.spans}) == 200


def test_text_that_utf_8_cannot_say_is_sent_as_escapes(store):
    with LoopbackCollector() as collector:
        exporter = exporter_of(collector)
        with Tracer(store, "run", export=exporter).span("chat m") as span:
            span.content(names.OUTPUT, "half \ud83d pair")
        assert exporter.close().sent == 1
    assert collector.attributes("chat m")[0]["output.value"] == "half \\ud83d pair"


def test_a_secret_leaves_neither_with_content_nor_in_an_error(store):
    def redact(text):
        return text.replace("s3cret", "***")

    with LoopbackCollector() as collector:
        exporter = exporter_of(collector)
        tracer = Tracer(store, "run", redact=redact, export=exporter)
        with tracer.span("chat s3cret", attributes={"note": "s3cret"}) as span:
            span.content(names.INPUT_MESSAGES, said("s3cret"))
            span.content(names.TOKEN_IDS, {"reply": [1, 2]})
            span.fail(ValueError("s3cret"))
        exporter.close()
    (span,) = collector.spans
    assert b"s3cret" not in span.SerializeToString()
    assert span.name == "chat ***"
    assert "***" in attributes_of(span)[names.INPUT_MESSAGES]


def test_an_error_is_named_and_not_quoted_without_content(store):
    with LoopbackCollector() as collector:
        exporter = Exporter("run", f"{collector.url}/v1/traces", with_content=False)
        with pytest.raises(ValueError, match="quotes"), Tracer(store, "run", export=exporter).span("chat m"):
            raise ValueError("it quotes a prompt")
        exporter.close()
    (span,) = collector.spans
    assert span.status.message == "ValueError"
    assert b"quotes" not in span.SerializeToString()


def test_what_others_call_content_is_not_sent_without_it_either(store):
    theirs = {
        "gen_ai.prompt.0.content": "s3cret",
        "input.value": "s3cret",
        "tags": ["s3cret"],
        "llm.is_streaming": True,
    }
    with LoopbackCollector() as collector:
        exporter = Exporter("run", f"{collector.url}/v1/traces", with_content=False)
        with Tracer(store, "run", export=exporter).span("chat m", attributes={**theirs, names.REQUEST_MODEL: "m"}):
            pass
        exporter.close()
    (span,) = collector.spans
    assert b"s3cret" not in span.SerializeToString()
    assert attributes_of(span)["llm.is_streaming"] is True
    assert attributes_of(span)[names.REQUEST_MODEL] == "m"


async def test_a_stored_run_is_sent_afterwards_as_it_would_have_been_at_once(office, asked, monkeypatch):
    monkeypatch.setenv(CONTENT, "true")
    with LoopbackCollector() as at_once:
        await asked(at_once.url)
    with LoopbackCollector() as later, Store.open(office / "store.sqlite", read_only=True) as store:
        exported = send_run(store, store.runs(1)[0].run_id, f"{later.url}/v1/traces")
    assert exported.sent == len(at_once.spans)
    assert [span.SerializeToString() for span in later.spans] == [span.SerializeToString() for span in at_once.spans]


def test_nothing_is_waited_for_once_a_collector_has_refused(store):
    with LoopbackCollector() as gone:
        url = gone.url
    exporter = Exporter("run", f"{url}/v1/traces", with_content=True, patience_seconds=600)
    with Tracer(store, "run", export=exporter).span("chat m"):
        pass
    assert exporter.close().dropped.total() == 1


@pytest.fixture
def sent(store):
    """Makes spans with the function given, and sends them; those that arrive."""

    def sending(make, **chosen):
        with LoopbackCollector() as collector:
            exporter = Exporter("run", f"{collector.url}/v1/traces", **chosen)
            with Tracer(store, "run", export=exporter).span("attempt", attributes={names.COMMAND: "evaluate"}) as root:
                make(root._tracer)
            exporter.close()
            return {span.name: span for span in collector.spans}

    return sending


@pytest.mark.parametrize("with_content", [True, False])
def test_the_root_of_several_plays_tells_how_many_there_were_and_failed(sent, with_content):
    def three(tracer):
        for number in range(3):
            with tracer.span(f"invoke_workflow {number}") as span:
                if number == 1:
                    span.fail(ValueError("no"))

    root = sent(three, with_content=with_content)["orchestra evaluate"]
    assert (root.status.code, root.status.message) == (2, "1 of 3 plays failed")
    assert attributes_of(root)["input.value"] == "3 plays"
    assert attributes_of(root)["output.value"] == "2 finished"


@pytest.mark.parametrize(("with_content", "told"), [(True, "no luck"), (False, "ValueError")])
def test_the_root_of_one_play_that_failed_tells_how(sent, with_content, told):
    def one(tracer):
        with tracer.span("invoke_workflow t") as span:
            span.fail(ValueError("no luck"))

    root = sent(one, with_content=with_content)["orchestra evaluate"]
    assert (root.status.code, root.status.message) == (2, told)


def test_what_went_well_is_shown_as_such(sent):
    spans = sent(lambda tracer: tracer.span("chat m").__enter__().__exit__(None, None, None), with_content=True)
    assert {span.status.code for span in spans.values()} == {1}
