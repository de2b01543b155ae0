"""The direct client against the real engine: ids, log-probabilities, transcripts, tools, cancellation, money."""

import asyncio
import json
import os
import re
import subprocess
import sys

import httpx
import pytest

from graphs import Sampling
from orchestra.models import Completion, Message, Request
from orchestra.models.vllm import open_vllm
from orchestra.models.vllm_truth import PROBING
from orchestra.models.vllm_wire import Events, Reply
from orchestra.testing import check_model

pytestmark = pytest.mark.live

ASKED = Request(
    messages=(Message(role="user", content="Name three animals that live in the sea."),),
    sampling=Sampling(temperature=0.5, max_tokens=24),
    seed=11,
)
HEAT = 0.5


@pytest.fixture
async def model(vllm):
    opened = open_vllm(vllm.name.removeprefix("vllm/"))
    yield opened
    await opened.close()


async def completed(model, request=ASKED):
    events = [event async for event in model.stream(request)]
    assert isinstance(events[-1], Completion)
    return events[-1]


@pytest.mark.parametrize("switches", ["", "?stream=false", "?token_ids=false", "?token_ids=false&stream=false"])
async def test_it_keeps_every_promise_of_a_model(vllm, switches):
    model = open_vllm(f"{vllm.model}@{vllm.url}{switches}")
    await check_model(model)
    await model.close()


async def test_it_says_what_the_server_is_and_can(vllm, model):
    await model.meet()
    can = model.capabilities
    assert (can.token_ids, can.logprobs, can.seed, can.stream) == (True, True, True, True)
    assert can.context_tokens == 8192
    assert re.fullmatch(r"vllm:[0-9a-f]{64}:bfloat16:0\.32\.0:no adapter:token_ids:logprobs", model.fingerprint)
    assert not model.external


async def test_seeded_prompts_that_fill_more_than_a_step_are_all_answered(vllm, model):
    """Read in pieces, they were the death of vLLM 0.32 on a CPU."""
    words = [" ".join(f"word{at}x{place}" for place in range(100)) for at in range(24)]
    asked = [
        Request(messages=(Message(role="user", content=text),), sampling=Sampling(max_tokens=4), seed=at)
        for at, text in enumerate(words)
    ]
    replies = await asyncio.gather(*(completed(model, one) for one in asked))
    assert sum(len(reply.prompt_token_ids) for reply in replies) > 8192


async def test_a_server_nobody_left_a_record_of_is_asked_how_it_counts(vllm, monkeypatch, tmp_path):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path))  # as on another machine
    model = open_vllm(f"{vllm.model}@{vllm.url}")
    assert (await completed(model)).logprobs is not None
    assert model.capabilities.logprobs
    await model.close()


async def test_the_ids_are_those_the_server_says(vllm, model):
    reply = await completed(model)
    body = {"model": vllm.model, "prompt": list(reply.prompt_token_ids), "return_token_ids": True, "max_tokens": 24}
    body |= {"temperature": HEAT, "seed": sent_seed(ASKED)}
    async with httpx.AsyncClient(base_url=vllm.url, timeout=60) as client:
        said = (await client.post("/v1/completions", json=body)).json()
        choice = said["choices"][0]
        told = {"model": vllm.model, "messages": [{"role": "user", "content": ASKED.messages[0].content}]}
        rendered = (await client.post("/tokenize", json=told)).json()["tokens"]
    assert choice["token_ids"] == list(reply.token_ids)
    assert choice["prompt_token_ids"] == rendered == list(reply.prompt_token_ids)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (len(rendered), len(choice["token_ids"]))
    assert choice["text"] == reply.text


def sent_seed(request):
    import hashlib

    digest = hashlib.sha256(f"{request.seed}/{request.sample_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


async def test_log_probabilities_are_of_the_distribution_sampled_from(model, network):
    reply = await completed(model)
    warm = network.logprobs(reply.prompt_token_ids, reply.token_ids, temperature=HEAT)
    raw = network.logprobs(reply.prompt_token_ids, reply.token_ids, temperature=1.0)
    gap, wrong = difference(reply.logprobs, warm), difference(reply.logprobs, raw)
    assert gap < 0.1  # bfloat16 on both sides
    assert wrong > 3 * gap


def difference(left, right):
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)


async def test_a_transcript_is_extended_by_ids_and_never_rendered_again(model):
    messages, before = ASKED.messages, ()
    for question in ("Which of them is the largest?", "And the smallest?", "Thank you."):
        reply = await completed(model, Request(messages=messages, sampling=ASKED.sampling, seed=3))
        assert reply.prompt_token_ids[: len(before)] == before
        before = reply.prompt_token_ids + reply.token_ids
        turn = Message(
            role="assistant", content=reply.text, prompt_token_ids=reply.prompt_token_ids, token_ids=reply.token_ids
        )
        messages = (*messages, turn, Message(role="user", content=question))


async def test_a_transcript_that_ends_its_turns_itself_is_what_the_template_renders(vllm, model):
    brief = Sampling(temperature=0, max_tokens=60)
    first = await completed(model, Request(messages=(Message(role="user", content="Say only: yes"),), sampling=brief))
    assert first.finish_reason == "stop"
    turn = Message(
        role="assistant", content=first.text, prompt_token_ids=first.prompt_token_ids, token_ids=first.token_ids
    )
    messages = (Message(role="user", content="Say only: yes"), turn, Message(role="user", content="Again"))
    by_ids = await completed(model, Request(messages=messages, sampling=brief))
    plain = tuple(Message(role=message.role, content=message.content) for message in messages)
    rendered = await completed(model, Request(messages=plain, sampling=brief))
    assert by_ids.prompt_token_ids == rendered.prompt_token_ids  # one end of turn, the newline, the new turn


async def test_samples_of_one_seed_differ_and_each_repeats(model):
    warm = Sampling(temperature=1.0, max_tokens=12)
    samples = [Request(messages=ASKED.messages, sampling=warm, seed=5, sample_index=i) for i in (0, 1, 0)]
    first, second, again = [await completed(model, sample) for sample in samples]
    assert first.token_ids == again.token_ids != second.token_ids


async def test_a_prompt_read_before_is_counted_as_cached(model):
    long = Request(messages=(Message(role="user", content="the sea " * 200),), sampling=Sampling(max_tokens=1))
    await completed(model, long)
    usage = (await completed(model, long)).usage
    assert 0 < usage.cached_input_tokens < usage.input_tokens


async def test_the_bound_the_ledger_reserves_by_holds(model):
    texts = ["", "é" * 50, "hello " * 100, "😀" * 20, "\n" * 30, "x" * 500]
    for text in texts:
        asked = Request(messages=(Message(role="user", content=text),), sampling=Sampling(max_tokens=1))
        assert (await completed(model, asked)).usage.input_tokens <= model.prompt_tokens_bound(asked)


async def test_closing_the_stream_frees_the_server(vllm, model):
    endless = Request(messages=ASKED.messages, sampling=Sampling(temperature=1.0, max_tokens=4000))
    stream = model.stream(endless)
    await anext(stream)
    await stream.aclose()
    async with httpx.AsyncClient(base_url=vllm.url) as client, asyncio.timeout(20):
        while running(await client.get("/metrics")):
            await asyncio.sleep(0.05)


def running(metrics):
    return float(re.search(r"^vllm:num_requests_running\{.*\} (\S+)$", metrics.text, re.MULTILINE).group(1))


async def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(model):
    from orchestra.errors import ModelError

    asked = Request(messages=(Message(role="user", content="sea " * 8000),), sampling=Sampling(max_tokens=500))
    with pytest.raises(ModelError, match=r"at most 8192 tokens: the prompt has \d+ and max_tokens is 500") as caught:
        await completed(model, asked)
    assert caught.value.served is False


@pytest.mark.parametrize("stream", [True, False])
async def test_a_tool_call_of_the_server_is_understood(vllm, stream):
    """A model of this size calls no tool of its own accord, so the server is told to make it."""
    tool = {
        "type": "function",
        "function": {"name": "add", "description": "adds", "strict": True, "parameters": PARAMETERS},
    }
    body = {
        "model": vllm.model,
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "temperature": 0,
        "max_tokens": 64,
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    }
    reply, events = Reply("test"), Events()
    async with httpx.AsyncClient(base_url=vllm.url, timeout=60) as client:
        data = (await client.post("/v1/chat/completions", json=body)).content
    for piece in events.feed(data) if stream else [data]:
        if piece != b"[DONE]":
            reply.add(piece)
    (call,) = reply.tool_calls()
    assert call.name == "add"
    assert call.id
    assert json.loads(call.arguments) == {"input": "2 + 2"}
    assert reply.usage.output_tokens > 0


PARAMETERS = {"type": "object", "properties": {"input": {"enum": ["2 + 2"]}}, "required": ["input"]}
"""One value alone, since the model's own words would not end."""


async def test_tools_are_offered_when_messages_are_sent(vllm):
    from orchestra.models import ToolSchema

    model = open_vllm(f"{vllm.model}@{vllm.url}?token_ids=false")
    assert model.capabilities.tools  # by the word of who started the server
    asked = Request(
        messages=(Message(role="user", content="Say hello."),),
        tools=(ToolSchema(name="add", description="adds numbers"),),
        sampling=Sampling(max_tokens=8),
    )
    reply = await completed(model, asked)
    assert reply.usage.input_tokens <= model.prompt_tokens_bound(asked)
    await model.close()


TEAM = """
schema_version: 1
nodes:
- id: writer
  kind: agent
  role: You answer in one short sentence.
- id: critic
  kind: agent
  role: You improve the sentence you are given.
channels:
- source: writer
  target: critic
output: critic
sampling:
  max_tokens: 20
"""


def elsewhere(folder):
    """The environment of a machine where nobody measured this server."""
    return {**os.environ, "ORCHESTRA_CACHE": str(folder)}


def test_a_team_of_two_runs_on_it_and_the_ledger_has_its_figures(vllm, tmp_path):
    (tmp_path / "team.yaml").write_text(TEAM)
    store = ["--store", str(tmp_path / "store.sqlite")]
    command = [sys.executable, "-m", "orchestra"]
    asked = [*command, "run", str(tmp_path / "team.yaml"), "Where do whales live?", "--model", vllm.name, "--json"]
    priced = [*asked, "--price", "1,2", "--max-cost", "0.01", *store]
    done = subprocess.run(priced, capture_output=True, text=True, timeout=120, env=elsewhere(tmp_path))
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        [*command, "traces", "list", "--json", *store], capture_output=True, text=True, timeout=60, check=True
    )
    (run,) = json.loads(listed.stdout)
    figures = run["figures"]
    assert figures["calls"] == 2
    # Nobody here knows how the server counts log-probabilities: it is asked, and paid for that too.
    read, written = (figures[f"{side}_tokens"] + getattr(PROBING, f"{side}_tokens") for side in ("input", "output"))
    assert figures["paid_nano"] == read * 1_000 + written * 2_000
    assert 0 < figures["output_tokens"] <= 40


def test_under_a_cap_a_server_without_a_price_is_refused_with_the_fix(vllm, tmp_path):
    (tmp_path / "team.yaml").write_text(TEAM)
    command = [sys.executable, "-m", "orchestra", "run", str(tmp_path / "team.yaml"), "hello", "--model", vllm.name]
    more = ["--max-cost", "0.01", "--store", str(tmp_path / "store.sqlite")]
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=120, env=elsewhere(tmp_path))
    assert done.returncode == 2
    assert "--price" in done.stderr
