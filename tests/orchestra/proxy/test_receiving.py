"""An application that sends its spans where it sends its calls is kept whole."""

import gzip
import json
import time

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from orchestra.proxy import proxying
from orchestra.testing.faulty import Answer, FaultyServer
from orchestra.traces.summary import run_episodes

TRACE, ROOT, CHAT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def spans(response_id, began_ns):
    def span(span_id, name, parent="", **attributes):
        told = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
        return {
            "traceId": TRACE,
            "spanId": span_id,
            "parentSpanId": parent,
            "name": name,
            "kind": 3,
            "startTimeUnixNano": str(began_ns),
            "endTimeUnixNano": str(time.time_ns()),
            "attributes": told,
        }

    of_call = {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.response.id": response_id}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "writer"}
    both = [span(ROOT, "invoke_agent writer", **agent), span(CHAT, "chat m", ROOT, **of_call)]
    service = {"attributes": [{"key": "service.name", "value": {"stringValue": "app"}}]}
    return {"resourceSpans": [{"resource": service, "scopeSpans": [{"scope": {"name": "theirs"}, "spans": both}]}]}


def protobuf(document):
    request = ExportTraceServiceRequest()
    for told in document["resourceSpans"]:
        resource = request.resource_spans.add()
        for scope in told["scopeSpans"]:
            into = resource.scope_spans.add()
            for span in scope["spans"]:
                made = into.spans.add(name=span["name"], kind=3)
                made.trace_id, made.span_id = bytes.fromhex(span["traceId"]), bytes.fromhex(span["spanId"])
                made.parent_span_id = bytes.fromhex(span["parentSpanId"])
                made.start_time_unix_nano = int(span["startTimeUnixNano"])
                made.end_time_unix_nano = int(span["endTimeUnixNano"])
                for pair in span["attributes"]:
                    made.attributes.add(key=pair["key"]).value.string_value = pair["value"]["stringValue"]
    return request.SerializeToString()


@pytest.mark.parametrize("form", ["protobuf", "json", "gzip"])
async def test_calls_and_spans_meet_in_one_episode(store, form):
    began = time.time_ns()
    async with (
        FaultyServer([Answer(text="four")]) as server,
        proxying(server.url, store=store, processed_logprobs=True) as proxy,
        httpx.AsyncClient() as client,
    ):
        asked = {"model": "m", "messages": [{"role": "user", "content": "2 + 2?"}]}
        answer = (await client.post(f"{proxy.url}/chat/completions", json=asked)).json()
        told = spans(answer["id"], began)
        body = json.dumps(told).encode() if form == "json" else protobuf(told)
        headers = {"content-type": "application/json" if form == "json" else "application/x-protobuf"}
        if form == "gzip":
            body, headers["content-encoding"] = gzip.compress(body), "gzip"
        taken = await client.post(f"{proxy.otlp_url}/v1/traces", content=body, headers=headers)
    assert (taken.status_code, taken.headers["content-type"]) == (200, headers["content-type"])
    outcome = proxy.importer.imported()
    assert (outcome.spans, outcome.calls, outcome.joined, outcome.unplaced) == (2, 1, 1, 0)
    (episode,) = run_episodes(store, outcome.run_id)
    (turn,) = episode.transcript("writer").turns
    assert (turn.messages[0].content, turn.reply, turn.trainable) == ("2 + 2?", "four", True)
    assert bytes(turn.reply_token_ids[:4]) == b"four"
    assert {run.command for run in store.runs()} == {"proxy", "import"}


async def test_spans_sent_twice_are_there_once(store):
    async with proxying("http://127.0.0.1:1", store=store) as proxy, httpx.AsyncClient() as client:
        for _ in range(2):
            await client.post(f"{proxy.otlp_url}/v1/traces", json=spans("r1", time.time_ns()))
    assert len(store.spans(proxy.importer.run_id)) == 2


async def test_metrics_and_logs_are_taken_and_nonsense_is_refused(store):
    async with proxying("http://127.0.0.1:1", store=store) as proxy, httpx.AsyncClient() as client:
        for path in ("metrics", "logs"):
            taken = await client.post(f"{proxy.otlp_url}/v1/{path}", json={})
            assert (taken.status_code, taken.json()) == (200, {})
        wrong = {"content-type": "application/x-protobuf"}
        refused = await client.post(f"{proxy.otlp_url}/v1/traces", content=b"\xff\xff", headers=wrong)
    assert refused.status_code == 400
    assert "not OTLP" in refused.json()["message"]
    assert store.runs() == ()
