"""What a client sees through the proxy is what it would have seen without; what the server knew is kept."""

import asyncio
import json
import os
import socket

import httpx
import pytest

from orchestra.errors import InputError
from orchestra.models.serving.record import Record
from orchestra.proxy import proxying
from orchestra.proxy.relay import Upstream
from orchestra.testing.faulty import NEVER, Answer, FaultyServer
from orchestra.testing.tokens import encoded
from orchestra.traces import names
from orchestra.traces.episode import Usage
from orchestra.traces.store import Store
from orchestra.traces.summary import run_episodes

ASKED = {"model": "loopback", "messages": [{"role": "user", "content": "2 + 2?"}]}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
KEYS_OF_IDS = ("token_ids", "prompt_token_ids")


def turns(store, proxy):
    return [turn for episode in run_episodes(store, proxy.run_id) for turn in episode.turns]


async def post(url, body, path="/chat/completions", **more):
    async with httpx.AsyncClient(timeout=10) as client:
        return await client.post(url + path, json=body, **more)


async def listen(url, heard, pause_seconds=0.0):
    """Take a stream in piece by piece, at first with a pause after each."""
    asked = {**ASKED, "stream": True}
    async with httpx.AsyncClient() as client, client.stream("POST", url + "/chat/completions", json=asked) as got:
        async for chunk in got.aiter_raw():
            heard += chunk
            if pause_seconds and len(heard) < 100_000:
                await asyncio.sleep(pause_seconds)


def documents(response):
    """What an answer says, one document or several, without empty keys."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return [bare(response.json())]
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    return [line if line == "[DONE]" else bare(json.loads(line)) for line in lines]


def bare(value):
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items() if item is not None or key not in KEYS_OF_IDS}
    return [bare(item) for item in value] if isinstance(value, list) else value


REQUESTS = {
    "whole": {},
    "stream": {"stream": True},
    "counted stream": {"stream": True, "stream_options": {"include_usage": True}},
    "tools": {"tools": [TOOL]},
    "streamed tools": {"tools": [TOOL], "stream": True},
    "log-probabilities": {"logprobs": True},
    "streamed log-probabilities": {"logprobs": True, "stream": True},
    "ids": {"return_token_ids": True},
    "streamed ids": {"return_token_ids": True, "stream": True},
}


@pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
@pytest.mark.parametrize("extra", REQUESTS.values(), ids=REQUESTS)
async def test_a_client_reads_what_it_would_have_read_without(store, path, extra):
    chat = path == "/chat/completions"
    asked = {**ASKED, **extra} if chat else {"model": "loopback", "prompt": "2 + 2?", **extra}
    calls = (("add", '{"a": 2}'),) if "tools" in extra else ()
    async with FaultyServer([Answer(text="it is four", tool_calls=calls)]) as server:
        without = await post(server.url, asked, path)
    async with (
        FaultyServer([Answer(text="it is four", tool_calls=calls)]) as server,
        proxying(server.url, store=store, processed_logprobs=True) as proxy,
    ):
        through = await post(proxy.url, asked, path)
    assert documents(through) == documents(without)
    (turn,) = turns(store, proxy)
    (served,) = server.served
    assert turn.trainable
    assert len(turn.prompt_token_ids) == served.prompt_tokens
    assert len(turn.reply_token_ids) == len(turn.logprobs) == served.completion_tokens
    assert turn.usage == Usage(input_tokens=served.prompt_tokens, output_tokens=served.completion_tokens)
    assert [call.name for call in turn.tool_calls] == (["add"] if calls and chat else [])


async def test_what_is_kept_is_what_was_asked_and_said(store):
    async with FaultyServer([Answer(text="four")]) as server, proxying(server.url, store=store) as proxy:
        await post(proxy.url, {**ASKED, "temperature": 0.5, "max_tokens": 9, "seed": 7, "stop": "x", "stream": True})
    (turn,) = turns(store, proxy)
    assert [(message.role, message.content) for message in turn.messages] == [("user", "2 + 2?")]
    assert (turn.reply, turn.finish_reason, turn.model, turn.response_id) == ("four", "stop", "loopback", "chatcmpl-1")
    assert (turn.sampling.temperature, turn.sampling.max_tokens, turn.sampling.seed) == (0.5, 9, 7)
    assert turn.sampling.stop == ("x",)
    assert turn.reply_token_ids[:4] == tuple(encoded("four"))
    assert 0 < turn.first_token_seconds <= turn.latency_seconds
    assert turn.error is None


async def test_the_key_goes_on_and_is_nowhere_in_the_store(store, tmp_path):
    async with FaultyServer() as server, proxying(server.url, store=store) as proxy:
        await post(proxy.url, ASKED, headers={"authorization": "Bearer sk-very-secret", "x-mine": "yes"})
    assert server.served[0].headers["authorization"] == "Bearer sk-very-secret"
    assert server.served[0].headers["x-mine"] == "yes"
    store.close()
    assert not [path for path in tmp_path.iterdir() if b"sk-very-secret" in path.read_bytes()]


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
async def test_an_error_comes_through_as_it_is(store, status):
    answer = Answer(status=status, headers=(("retry-after", "7"), ("x-request-id", "r1")))
    async with FaultyServer([answer]) as server:
        without = await post(server.url, ASKED)
        async with proxying(server.url, store=store) as proxy:
            through = await post(proxy.url, ASKED)
    assert (through.status_code, through.content) == (without.status_code, without.content)
    assert dict(through.headers) == dict(without.headers)
    (turn,) = turns(store, proxy)
    assert (turn.error, turn.reply) == (f"status {status}", None)


async def test_a_server_that_refuses_what_it_does_not_know_is_asked_without(store):
    def strict(record):
        return Answer(status=400) if "return_token_ids" in record.body else Answer(text="four")

    async with FaultyServer(strict) as server, proxying(server.url, store=store) as proxy:
        answers = [await post(proxy.url, ASKED) for _ in range(2)]
        refused = await post(proxy.url, {**ASKED, "return_token_ids": True})
    assert [one.json()["choices"][0]["message"]["content"] for one in answers] == ["four", "four"]
    assert [record.status for record in server.served] == [400, 200, 200, 400, 400]
    assert refused.status_code == 400
    first, second, third = turns(store, proxy)
    assert (first.reply, first.trainable, second.reply) == ("four", False, "four")
    assert third.error == "status 400"


async def test_an_upstream_that_is_down_is_a_502_that_says_so(store):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with proxying(down, store=store) as proxy:
            answer = await post(proxy.url, ASKED)
            other = await post(proxy.url, {}, "/embeddings")
    assert answer.status_code == other.status_code == 502
    assert down in answer.json()["error"]["message"]
    assert "is it running?" in answer.json()["error"]["message"]
    assert down in turns(store, proxy)[0].error


async def test_a_cut_stream_is_cut_for_the_client_and_kept_as_far_as_it_went(store):
    cut = Answer(text="one two three", hang_up_after=3)
    async with FaultyServer([cut]) as server, proxying(server.url, store=store) as proxy:
        heard = bytearray()
        with pytest.raises(httpx.RemoteProtocolError):
            await listen(proxy.url, heard)
    (turn,) = turns(store, proxy)
    assert b"two" in heard
    assert b"three" not in heard
    assert "hung up" in turn.error
    assert turn.reply == "one two"
    assert len(turn.reply_token_ids) == turn.usage.output_tokens == server.served[0].completion_tokens


async def test_an_error_in_the_middle_of_a_stream_is_kept_as_one(store):
    body = b'data: {"id":"r1","choices":[]}\n\ndata: {"error":{"message":"out of memory"}}\n\ndata: [DONE]\n\n'

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    heard = bytearray()
    async with server, proxying(upstream, store=store) as proxy:
        await listen(proxy.url, heard)
    assert heard == body
    assert turns(store, proxy)[0].error == "out of memory"


async def test_an_answer_cut_in_its_middle_is_a_502(store):
    async with FaultyServer([Answer(hang_up_after=0)]) as server, proxying(server.url, store=store) as proxy:
        answer = await post(proxy.url, ASKED)
    assert answer.status_code == 502
    assert "hung up in the middle" in turns(store, proxy)[0].error


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_the_call_of_the_upstream(store, stream):
    slow = Answer(text="one two three", hang_after=3) if stream else Answer(delay_seconds=NEVER)
    async with FaultyServer([slow]) as server, proxying(server.url, store=store) as proxy:
        with pytest.raises(httpx.ReadTimeout):
            await post(proxy.url, {**ASKED, "stream": stream}, timeout=0.3)
        async with asyncio.timeout(5):
            while server.running or not proxy.keeper.calls:
                await asyncio.sleep(0.005)
    (turn,) = turns(store, proxy)
    assert turn.error == "the client left before the answer was complete"
    assert turn.reply == ("one two" if stream else None)


async def test_nonsense_passes_unchanged(store):
    odd = [Answer(body="not JSON"), Answer(body="[1]"), Answer(body='{"choices": [7], "usage": 3, "id": 9}')]
    async with FaultyServer(odd) as server, proxying(server.url, store=store) as proxy:
        said = [(await post(proxy.url, ASKED)).text for _ in odd]
        empty = await post(proxy.url, ASKED, content=None)
    assert said[:2] == ["not JSON", "[1]"]
    assert json.loads(said[2]) == {"choices": [7], "usage": 3, "id": 9}
    assert empty.status_code == 200
    assert "not a JSON object" in turns(store, proxy)[0].error


async def test_a_garbled_stream_passes_unchanged(store):
    garbling = FaultyServer([Answer(text="one two", malformed=True)])
    async with garbling as server, proxying(server.url, store=store) as proxy:
        through = await post(proxy.url, {**ASKED, "stream": True})
    first, *garbled, end = through.text.split("\n\n")
    assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [piece[-8:] for piece in garbled if piece.endswith("}")] == []
    assert (garbled[-1], end) == ("data: [DO", "")
    assert turns(store, proxy)[0].error == "the stream ended before the answer was complete"


async def test_everything_else_goes_to_the_upstream_and_is_not_kept(store):
    async with FaultyServer() as server, proxying(server.url, store=store) as proxy:
        async with httpx.AsyncClient() as client:
            models = await client.get(proxy.url + "/models?limit=1", headers={"accept-encoding": "gzip"})
            health = await client.get(proxy.otlp_url + "/health")
        tokens = await post(proxy.otlp_url, {"prompt": "ab"}, "/tokenize")
    assert models.json()["data"][0]["id"] == "loopback"
    assert (health.status_code, tokens.json()["count"]) == (200, 2)
    assert server.asides[0].headers["accept-encoding"] == "gzip"
    assert proxy.keeper.calls == 0
    assert store.runs() == ()


async def test_calls_at_once_are_answered_at_once_and_each_kept_once(store):
    def echo(record):
        return Answer(text=record.body["messages"][0]["content"], delay_seconds=0.05)

    def asked(number):
        said = [{"role": "user", "content": f"no {number}"}]
        return {"model": "m", "messages": said, "stream": number % 2 == 0}

    async with FaultyServer(echo) as server, proxying(server.url, store=store) as proxy:
        answers = await asyncio.gather(*(post(proxy.url, asked(number)) for number in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    assert server.running_most > 10
    kept = turns(store, proxy)
    assert sorted(turn.reply for turn in kept) == sorted(f"no {number}" for number in range(60))
    assert all(bytes(turn.reply_token_ids[:-1]).decode() == turn.reply for turn in kept)


async def test_a_large_request_and_a_large_answer_come_through(store):
    text = "word " * 10_000
    async with FaultyServer([Answer(text=text)]) as server, proxying(server.url, store=store) as proxy:
        asked = {"model": "m", "messages": [{"role": "user", "content": text * 40}]}
        answer = await post(proxy.url, asked)
    assert answer.json()["choices"][0]["message"]["content"] == text
    assert server.served[0].body["messages"][0]["content"] == text * 40
    assert turns(store, proxy)[0].messages[0].content == text * 40


async def test_a_slow_reader_slows_the_upstream_down_and_loses_nothing(store):
    text = "word " * 5_000
    async with FaultyServer([Answer(text=text)]) as server, proxying(server.url, store=store) as proxy:
        heard = bytearray()
        await listen(proxy.url, heard, pause_seconds=0.001)
    assert heard.count(b'"content":"word') + heard.count(b'"content":" word') == 5_000
    assert heard.endswith(b"data: [DONE]\n\n")


async def test_ids_that_are_not_as_many_as_the_server_counts_are_not_the_turns(store):
    async with FaultyServer([Answer(text="four", usage=(9, 99))]) as server, proxying(server.url, store=store) as proxy:
        await post(proxy.url, ASKED)
    (turn,) = turns(store, proxy)
    assert not turn.trainable
    (span,) = store.spans(proxy.run_id)
    assert "counts 99 tokens" in span.attributes["orchestra.token_ids.missing"]


async def test_what_a_redactor_changes_is_kept_without_ids(store):
    def redact(text):
        return text.replace("123", "***")

    telling = FaultyServer([Answer(text="the key is 123")])
    async with telling as server, proxying(server.url, store=store, redact=redact) as proxy:
        answer = await post(proxy.url, ASKED)
    (turn,) = turns(store, proxy)
    assert "123" in answer.text
    assert (turn.reply, turn.redacted, turn.reply_token_ids) == ("the key is ***", True, None)


async def test_a_store_that_fails_costs_the_record_and_not_the_call(tmp_path, caplog):
    store = Store.open(tmp_path / "store.sqlite")
    async with FaultyServer() as server, proxying(server.url, store=store) as proxy:
        store.close()
        answer = await post(proxy.url, ASKED)
        assert (answer.status_code, proxy.keeper.lost) == (200, 1)
    assert "was not kept" in caplog.text


async def test_a_trace_the_client_says_it_belongs_to_is_the_calls(store):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with FaultyServer() as server, proxying(server.url, store=store) as proxy:
        await post(proxy.url, ASKED, headers={"traceparent": f"00-{trace}-{span}-01"})
        await post(proxy.url, ASKED, headers={"traceparent": "nonsense"})
    first, second = store.spans(proxy.run_id)
    assert (first.trace_id, first.parent_id) == (trace, span)
    assert (second.parent_id, len(second.trace_id)) == (None, 32)


async def test_the_word_of_who_started_the_server_is_taken(store, tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    async with FaultyServer([Answer(text="four")]) as server, proxying(server.url, store=store) as proxy:
        await post(proxy.url, ASKED)
        Record(
            url=server.url.removesuffix("/v1"), model="loopback", root="/r", weights_sha256="0" * 64, dtype="bfloat16",
            device="d", threads=2, tools=False, processed_logprobs=True, pid=os.getpid(), started_at="now",
        ).write()  # fmt: skip
        await post(proxy.url, ASKED)
    assert [turn.logprobs is None for turn in turns(store, proxy)] == [True, False]


async def test_a_path_goes_on_as_it_was_written(store):
    async with FaultyServer() as server, proxying(server.url, store=store) as proxy:
        await post(f"{proxy.otlp_url}/episode/task%2F7/v1", ASKED)
        async with httpx.AsyncClient() as client:
            through = await client.get(f"{proxy.url}/models/org%2Fname%20a")
    assert through.status_code == 200
    assert [record.path for record in server.served] == ["/v1/chat/completions", "/v1/models/org%2Fname%20a"]
    (span,) = store.spans(proxy.run_id)
    assert span.attributes[names.CONVERSATION_ID] == "task/7"


async def test_calls_to_an_address_with_an_episodes_name_are_one_episode(store):
    async with FaultyServer() as server, proxying(server.url, store=store) as proxy:
        for name in ("a", "a", "b"):
            answer = await post(f"{proxy.otlp_url}/episode/{name}/v1", ASKED)
            assert answer.status_code == 200
        async with httpx.AsyncClient() as client:
            models = await client.get(f"{proxy.otlp_url}/episode/a/v1/models")
    assert models.status_code == 200
    assert {record.path for record in server.served} == {"/v1/chat/completions"}
    assert [len(episode.turns) for episode in run_episodes(store, proxy.run_id)] == [2, 1]


@pytest.mark.parametrize(
    ("url", "path", "address"),
    [
        ("http://h:1", "/v1/models", "http://h:1/v1/models"),
        ("http://h:1/", "/health", "http://h:1/health"),
        ("http://h:1/v1", "/v1/models", "http://h:1/v1/models"),
        ("http://h:1/v1/", "/health", "http://h:1/health"),
        ("https://h/api/v1", "/v1/chat/completions", "https://h/api/v1/chat/completions"),
        ("https://h/v1beta/openai", "/v1/models", "https://h/v1beta/openai/models"),
    ],
)
def test_paths_map_to_the_upstreams(url, path, address):
    assert Upstream(url).address(path, b"") == address
    assert Upstream(url).address(path, b"a=1") == f"{address}?a=1"


async def test_what_is_no_address_or_a_taken_port_is_refused_before_anything_starts(store):
    for wrong in ("localhost:8000", "ftp://h", "http://", "nonsense"):
        with pytest.raises(InputError, match="is not an address"):
            async with proxying(wrong, store=store):
                pass
    async with proxying("http://127.0.0.1:1", store=store) as proxy:
        with pytest.raises(InputError, match="try another --port"):
            async with proxying("http://127.0.0.1:1", store=store, port=int(proxy.otlp_url.rpartition(":")[2])):
                pass
