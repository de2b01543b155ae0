"""The loopback server against a client that is not ours."""

import asyncio

import httpx
import pytest

from orchestra.testing import Answer, LoopbackServer

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def post(url, body=ASKED):
    async with httpx.AsyncClient() as client:
        return await client.post(f"{url}/chat/completions", json=body)


async def test_it_answers_in_order_and_repeats_the_last():
    async with LoopbackServer([Answer(text="one"), Answer(text="two")]) as server:
        replies = [(await post(server.url)).json()["choices"][0]["message"]["content"] for _ in range(3)]
    assert replies == ["one", "two", "two"]
    assert [served.path for served in server.served] == ["/v1/chat/completions"] * 3
    assert all(served.finished for served in server.served)


async def test_it_streams_events_that_end_in_done():
    async with LoopbackServer([Answer(text="a b")]) as server:
        reply = await post(server.url, {**ASKED, "stream": True, "stream_options": {"include_usage": True}})
    lines = [line for line in reply.text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert '"usage"' in lines[-2]
    assert reply.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_it_refuses_with_the_status_and_headers_it_was_told(status):
    async with LoopbackServer([Answer(status=status, headers=(("retry-after", "3"),))]) as server:
        reply = await post(server.url)
    assert (reply.status_code, reply.headers["retry-after"]) == (status, "3")


async def test_it_hangs_up_in_mid_stream():
    async with LoopbackServer([Answer(text="a b c", hang_up_after=2)]) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await post(server.url, {**ASKED, "stream": True})
        assert not server.served[0].finished


async def test_one_connection_carries_several_requests():
    async with LoopbackServer() as server, httpx.AsyncClient() as client:
        for _ in range(3):
            assert (await client.post(f"{server.url}/chat/completions", json=ASKED)).status_code == 200
    assert len(server.served) == 3


async def test_it_counts_how_many_are_answered_at_once():
    async with LoopbackServer([Answer(delay_seconds=0.1)]) as server:
        await asyncio.gather(*(post(server.url) for _ in range(5)))
    assert server.running_most == 5
    assert server.running == 0


async def test_closing_it_frees_the_port():
    async with LoopbackServer() as server:
        url = server.url
    with pytest.raises(httpx.ConnectError):
        await post(url)
