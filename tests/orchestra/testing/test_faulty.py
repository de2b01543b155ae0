"""The loopback server against a client that is not ours."""

import asyncio
import json
import subprocess
import sys
import time

import httpx
import pytest

from orchestra.testing import FAULTS, Answer, FaultyServer
from orchestra.testing.tokens import END, called, counted, decoded, encoded, logprob_of, rendered

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def post(url, body=ASKED):
    async with httpx.AsyncClient() as client:
        return await client.post(f"{url}/chat/completions", json=body)


async def test_it_answers_in_order_and_repeats_the_last():
    async with FaultyServer([Answer(text="one"), Answer(text="two")]) as server:
        replies = [(await post(server.url)).json()["choices"][0]["message"]["content"] for _ in range(3)]
    assert replies == ["one", "two", "two"]
    assert [served.path for served in server.served] == ["/v1/chat/completions"] * 3
    assert all(served.finished for served in server.served)


async def test_it_streams_events_that_end_in_done():
    async with FaultyServer([Answer(text="a b")]) as server:
        reply = await post(server.url, {**ASKED, "stream": True, "stream_options": {"include_usage": True}})
    lines = [line for line in reply.text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert '"usage"' in lines[-2]
    assert reply.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_it_refuses_with_the_status_and_headers_it_was_told(status):
    async with FaultyServer([Answer(status=status, headers=(("retry-after", "3"),))]) as server:
        reply = await post(server.url)
    assert (reply.status_code, reply.headers["retry-after"]) == (status, "3")


async def test_it_hangs_up_in_mid_stream():
    async with FaultyServer([Answer(text="a b c", hang_up_after=2)]) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await post(server.url, {**ASKED, "stream": True})
        assert not server.served[0].finished


async def test_one_connection_carries_several_requests():
    async with FaultyServer() as server, httpx.AsyncClient() as client:
        for _ in range(3):
            assert (await client.post(f"{server.url}/chat/completions", json=ASKED)).status_code == 200
    assert len(server.served) == 3


async def test_it_counts_how_many_are_answered_at_once():
    async with FaultyServer([Answer(delay_seconds=0.1)]) as server:
        await asyncio.gather(*(post(server.url) for _ in range(5)))
    assert server.running_most == 5
    assert server.running == 0


async def test_closing_it_frees_the_port():
    async with FaultyServer() as server:
        url = server.url
    with pytest.raises(httpx.ConnectError):
        await post(url)


async def completions(url, **more):
    async with httpx.AsyncClient() as client:
        reply = await client.post(f"{url}/completions", json={"model": "m", "max_tokens": 128, **more})
    return reply.json()


def events_of(reply):
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    return [json.loads(line) for line in lines[:-1]]


STREAMED = {"stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True, "logprobs": True}


async def test_a_streamed_chat_carries_the_ids_of_its_prompt_and_of_every_piece():
    async with FaultyServer([Answer(text="one two")]) as server:
        *events, usage = events_of(await post(server.url, {**ASKED, **STREAMED}))
    prompt = rendered(ASKED["messages"])
    assert decoded(events[0]["prompt_token_ids"], marks=True) == prompt
    ids = [i for event in events for i in event["choices"][0].get("token_ids") or ()]
    assert decoded(ids) == "one two" == "".join(e["choices"][0]["delta"]["content"] for e in events)
    assert usage["usage"] == {
        "prompt_tokens": counted(prompt),
        "completion_tokens": 8,
        "total_tokens": 8 + counted(prompt),
    }
    logprobs = [t["logprob"] for e in events for t in (e["choices"][0]["logprobs"] or {"content": ()})["content"]]
    assert logprobs == [logprob_of(i) for i in ids]


async def test_a_completion_takes_ids_and_gives_ids():
    async with FaultyServer([Answer(text="four")]) as server:
        asked = {"prompt": encoded("2 + 2 = "), "return_token_ids": True, "logprobs": 0, "prompt_logprobs": 0}
        (choice,) = (await completions(server.url, **asked))["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("four", "stop")
    assert choice["prompt_token_ids"] == encoded("2 + 2 = ")
    assert choice["token_ids"] == [*encoded("four"), END]
    assert choice["logprobs"]["token_logprobs"] == [logprob_of(i) for i in choice["token_ids"]]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3, 4]
    assert [next(iter(row)) for row in choice["prompt_logprobs"][1:]] == [str(i) for i in encoded("2 + 2 = ")[1:]]


async def test_a_streamed_completion_says_what_a_whole_one_says():
    asked = {"prompt": "go", "return_token_ids": True, "logprobs": 0}
    async with FaultyServer([Answer(text="one two")]) as server:
        whole = (await completions(server.url, **asked))["choices"][0]
        async with httpx.AsyncClient() as client:
            reply = await client.post(f"{server.url}/completions", json={"model": "m", "stream": True, **asked})
    choices = [event["choices"][0] for event in events_of(reply)]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    assert [i for choice in choices for i in choice.get("token_ids") or ()] == whole["token_ids"]
    assert choices[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    assert choices[-1]["finish_reason"] == "stop"


async def test_a_reply_is_cut_where_the_request_says_unless_told_otherwise():
    async with FaultyServer([Answer(text="abcdef"), Answer(text="abcdef", obeys_max_tokens=False)]) as server:
        replies = [(await post(server.url, {**ASKED, "max_tokens": 3})).json() for _ in range(2)]
    assert [reply["choices"][0]["finish_reason"] for reply in replies] == ["length", "stop"]
    assert [reply["choices"][0]["message"]["content"] for reply in replies] == ["abc", "abcdef"]
    assert [record.completion_tokens for record in server.served] == [3, 7]


async def test_functions_are_called_in_a_chat_and_written_out_in_a_completion():
    answer = Answer(text="", tool_calls=(("clock", '{"input": "now"}'),))
    async with FaultyServer([answer]) as server:
        chat = (await post(server.url)).json()
        text = await completions(server.url, prompt="go")
    assert chat["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "clock"
    assert text["choices"][0]["text"] == called(answer.tool_calls)
    assert (
        chat["usage"]["completion_tokens"]
        == text["usage"]["completion_tokens"]
        == counted(called(answer.tool_calls)) + 1
    )


async def test_what_is_no_model_call_is_answered_and_counted_apart():
    async with FaultyServer([Answer(status=500)], model="base") as server, httpx.AsyncClient() as client:
        root = server.url.removesuffix("/v1")
        loaded = {"lora_name": "a-1", "lora_path": "/tmp/a"}
        statuses = [
            (await client.post(f"{server.url}/{what}_lora_adapter", json=loaded)).status_code
            for what in ("load", "load", "unload", "unload", "load")
        ]
        models = (await client.get(f"{server.url}/models")).json()["data"]
        tokens = (await client.post(f"{root}/tokenize", json={"messages": ASKED["messages"]})).json()
        assert (await client.get(f"{root}/health")).status_code == 200
    assert statuses == [200, 400, 200, 404, 200]
    assert [(card["id"], card["parent"]) for card in models] == [("base", None), ("a-1", "base")]
    assert tokens["tokens"] == encoded(rendered(ASKED["messages"]))
    assert (server.served, len(server.asides)) == ([], 8)


async def faulty(fault, *, stream):
    """What the client saw and what the server counted."""
    asked = {**ASKED, "max_tokens": 64, "stream": stream, "stream_options": {"include_usage": True} if stream else None}
    async with FaultyServer(FAULTS[fault]) as server:
        async with httpx.AsyncClient(timeout=0.3) as client:
            try:
                reply = await client.post(f"{server.url}/chat/completions", json=asked)
                seen = (reply.status_code, reply.text)
            except httpx.HTTPError as failure:
                seen = (type(failure).__name__, "")
        await until(lambda: server.running == 0)
        return seen, server.counts(), server.served[0]


async def until(true):
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


UNSEEN = {"hang": "ReadTimeout", "hang-midway": "ReadTimeout", "cut": "RemoteProtocolError"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_every_fault_is_seen_and_counted_by_what_was_made(fault, stream):
    (status, text), counts, record = await faulty(fault, stream=stream)
    expected = UNSEEN.get(fault, int(fault[:3]) if fault[:3].isdigit() else 200)
    assert status == expected
    assert counts.requests == 1
    assert counts.answered == (expected == 200)
    refused = fault in ("429", "429-retry-after", "503")
    assert (record.prompt_tokens == 0) == refused
    if fault == "past-max-tokens":
        assert record.completion_tokens > 64
    elif fault != "cut":
        assert (record.completion_tokens == 0) == refused
    if fault == "malformed-json":
        with pytest.raises(json.JSONDecodeError):
            [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]


async def test_a_peer_that_leaves_is_noticed_at_once_and_pays_for_what_was_made():
    async with FaultyServer([Answer(text="a b c d e f", word_seconds=0.02)]) as server:
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", f"{server.url}/chat/completions", json={**ASKED, "stream": True}) as reply,
        ):
            lines = reply.aiter_lines()
            for _ in range(4):
                await anext(lines)
        await until(lambda: server.running == 0)
    assert not server.served[0].finished
    assert 1 <= server.served[0].completion_tokens < 12


def answered(asked):
    return Answer(text=f"call {asked.number}")


def test_in_a_process_of_its_own_it_counts_the_same():
    with FaultyServer([Answer(status=429), Answer(text="four")]).in_process() as server:
        statuses = [httpx.post(f"{server.url}/chat/completions", json=ASKED).status_code for _ in range(3)]
        counts, served = server.counts(), server.served()
    assert statuses == [429, 200, 200]
    assert (counts.requests, counts.answered, counts.completion_tokens) == (3, 2, 10)
    assert counts.statuses == {429: 1, 200: 2}
    assert [record.finished for record in served] == [True, True, True]


def test_the_process_ends_when_the_one_that_started_it_is_killed():
    code = (
        "import os, signal\nfrom orchestra.testing import FaultyServer\n"
        "with FaultyServer().in_process() as server:\n"
        "    print(server.url, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    url = killed.stdout.strip()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/models", timeout=1)
        except httpx.ConnectError:
            return
        time.sleep(0.05)
    pytest.fail("the server is still there")
