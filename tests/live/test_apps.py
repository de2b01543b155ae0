"""Agents somebody already has, unchanged, through the proxy on the real server: nothing is lost, nothing is changed.

Each application runs in its own environment, which has no Orchestra in it, and is told where to send its calls and its
spans by environment variables alone.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from orchestra.proxy import Proxy, proxying
from orchestra.traces import continuity
from orchestra.traces.episode import Episode
from orchestra.traces.store import Store
from orchestra.traces.summary import run_episodes

pytestmark = pytest.mark.live

APPS = Path(__file__).parent / "apps"
PATIENCE_SECONDS = 120
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


@pytest.fixture(scope="session")
def apps_bin() -> Path:
    """Where the programs of the applications' environment lie."""
    python = os.environ.get("ORCHESTRA_APPS_PYTHON")
    if not python:
        pytest.fail("ORCHESTRA_APPS_PYTHON names no interpreter; run `make test-vllm`")
    return Path(python).parent


@dataclass(frozen=True)
class Played:
    episode: Episode
    proxy: Proxy
    store: Path
    said: str


async def play(app: str, arguments: tuple[str, ...], vllm, apps_bin: Path, folder: Path) -> Played:
    """Run an application once, unchanged."""
    path = folder / "store.sqlite"
    with Store.open(path) as store:
        async with proxying(vllm.url, store=store) as proxy:
            told = {
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "MODEL": vllm.model,
                "OPENAI_BASE_URL": proxy.url,
                "OPENAI_API_KEY": "none",
                "OTEL_EXPORTER_OTLP_ENDPOINT": proxy.otlp_url,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
                "OTEL_SERVICE_NAME": app,
            }
            command = (str(apps_bin / "opentelemetry-instrument"), str(apps_bin / "python"), str(APPS / f"{app}.py"))
            child = await asyncio.create_subprocess_exec(
                *command, *arguments, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                said, complained = await asyncio.wait_for(child.communicate(), PATIENCE_SECONDS)
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
            assert child.returncode == 0, complained.decode()
        outcome = proxy.importer.imported()
        assert (outcome.calls, outcome.joined, outcome.unplaced) == (2, 2, 0)
        (episode,) = run_episodes(store, outcome.run_id)
    return Played(episode, proxy, path, said.decode())


@pytest.fixture(params=["langgraph_app", "langgraph_app --stream", "autogen_app", "autogen_app --stream"])
async def played(request: pytest.FixtureRequest, vllm, apps_bin: Path, tmp_path: Path) -> Played:
    app, *arguments = request.param.split()
    return await play(app, tuple(arguments), vllm, apps_bin, tmp_path)


async def test_an_unchanged_application_becomes_an_episode_that_can_be_trained_on(played: Played, vllm):
    episode = played.episode
    first, second = episode.transcripts
    assert (first.node, second.node) == ("calculator", "writer")
    assert (episode.input, episode.error, len(episode.seats)) == ("How much is 17 and 25?", None, 1)
    assert episode.output.strip() in played.said
    assert [(use.name, use.error) for use in first.tool_uses] == [("add", None)]
    assert first.tool_uses[0].call_id == first.turns[0].tool_calls[0].id
    for turn in episode.turns:
        assert turn.trainable
        assert turn.usage.input_tokens == len(turn.prompt_token_ids)
        assert turn.usage.output_tokens == len(turn.reply_token_ids) == len(turn.logprobs)
        assert turn.model == vllm.model
        assert turn.sampling.temperature == 0.7
    with Store.open(played.store, read_only=True) as store:
        calls = {turn.response_id: turn for one in run_episodes(store, played.proxy.run_id) for turn in one.turns}
    assert sorted(calls) == sorted(turn.response_id for turn in episode.turns)
    for turn in episode.turns:
        kept = calls[turn.response_id]
        assert (kept.prompt_token_ids, kept.reply_token_ids) == (turn.prompt_token_ids, turn.reply_token_ids)
        assert await decoded(vllm, turn.reply_token_ids) == (turn.reply or await called(vllm, turn))
        assert await encoded(vllm, turn) == list(turn.prompt_token_ids)
    told = continuity(first)
    assert (told.unbroken, told.stretches) == (True, ((0,),))
    shown = orchestra("traces", "show", episode.run_id, "--store", str(played.store))
    assert "calculator" in shown
    assert "writer" in shown
    assert f"{episode.turns[0].usage.input_tokens}" in shown


async def decoded(vllm, ids):
    """What the server says its own ids mean, without the mark that ends a turn."""
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{vllm.url}/detokenize", json={"model": vllm.model, "tokens": list(ids)})
    return answer.json()["prompt"].removesuffix("<|im_end|>")


async def called(vllm, turn):
    """The text of a reply that is nothing but the call of a tool, which a parser took out of it."""
    text = await decoded(vllm, turn.reply_token_ids)
    inner = re.fullmatch(r"\s*(?:<tool_call>)?\s*(\{.*\})\s*(?:</tool_call>)?\s*", text, re.DOTALL)
    said = json.loads(inner[1])
    arguments = said.get("arguments", said)
    assert arguments == json.loads(turn.tool_calls[0].arguments)
    return text


async def encoded(vllm, turn):
    """How the server renders and encodes the messages of a turn."""
    plain = [plain_message(message) for message in turn.messages]
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{vllm.url}/tokenize", json={"model": vllm.model, "messages": plain})
    return answer.json()["tokens"]


def plain_message(message):
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    told = {"role": message.role, "content": message.content}
    if calls:
        told["tool_calls"] = calls
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    return told


def orchestra(*words):
    done = subprocess.run([sys.executable, "-m", "orchestra", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


ASKED = {
    "whole": {},
    "stream": {"stream": True},
    "tools": {"tools": [TOOL], "tool_choice": "required"},
    "streamed tools": {"tools": [TOOL], "tool_choice": "required", "stream": True},
    "log-probabilities": {"logprobs": True, "top_logprobs": 2},
    "counted stream": {"stream": True, "stream_options": {"include_usage": True}},
    "ids": {"return_token_ids": True, "stream": True},
    "nonsense": {"max_tokens": -1},
}


@pytest.mark.parametrize("more", ASKED.values(), ids=ASKED)
async def test_through_the_proxy_the_real_servers_answer_is_the_same_byte_for_byte(vllm, tmp_path, more):
    asked = {
        "model": vllm.model,
        "messages": [{"role": "user", "content": "Say hi"}],
        "temperature": 0,
        "max_tokens": 50,
        **more,
    }
    async with (
        proxying(vllm.url, store=tmp_path / "store.sqlite") as proxy,
        httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client,
    ):
        through = await client.post(f"{proxy.url}/chat/completions", json=asked)
        without = await client.post(f"{vllm.url}/v1/chat/completions", json=asked)
    assert through.status_code == without.status_code
    assert anonymous(through.text) == anonymous(without.text)


def anonymous(text):
    """An answer without what is new in every answer."""
    return re.sub(r'chatcmpl-(tool-)?[0-9a-f]+|"created":\d+|call_[0-9a-f]+', "X", text)


async def test_a_client_that_leaves_ends_the_real_servers_work(vllm, tmp_path):
    asked = {
        "model": vllm.model,
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "max_tokens": 1500,
        "ignore_eos": True,
        "stream": True,
    }
    async with proxying(vllm.url, store=tmp_path / "store.sqlite") as proxy, httpx.AsyncClient(timeout=60) as client:
        async with client.stream("POST", f"{proxy.url}/chat/completions", json=asked) as answer:
            heard = [line async for line in _first(answer.aiter_lines(), 20)]
        async with asyncio.timeout(30):
            while await running(vllm) or not proxy.keeper.calls:
                await asyncio.sleep(0.05)
    assert len(heard) == 20
    with Store.open(tmp_path / "store.sqlite", read_only=True) as store:
        ((turn,),) = (one.turns for one in run_episodes(store, proxy.run_id))
    assert turn.error == "the client left before the answer was complete"
    assert 0 < len(turn.reply_token_ids) < 1500


async def _first(lines, count):
    async for line in lines:
        yield line
        count -= 1
        if not count:
            return


async def running(vllm):
    """How many requests the server works on."""
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{vllm.url}/metrics")).text
    (line,) = re.findall(r"^vllm:num_requests_running\{.*\} ([0-9.]+)$", metrics, re.MULTILINE)
    return float(line)


async def test_a_conversation_of_several_turns_says_how_its_ids_go_on(vllm, tmp_path):
    """The first reply is cut by its limit, and templates close what a client sends back: the ids are other ones."""
    messages = [{"role": "user", "content": "Tell me a story."}]
    async with (
        proxying(vllm.url, store=tmp_path / "store.sqlite") as proxy,
        httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client,
    ):
        for _ in range(3):
            asked = {"model": vllm.model, "messages": messages, "temperature": 0, "max_tokens": 12}
            answer = (await client.post(f"{proxy.url}/chat/completions", json=asked)).json()
            messages = [*messages, answer["choices"][0]["message"], {"role": "user", "content": "Go on."}]
            messages[-2] = {"role": "assistant", "content": messages[-2]["content"]}
    with Store.open(tmp_path / "store.sqlite", read_only=True) as store:
        turns = [turn for one in run_episodes(store, proxy.run_id) for turn in one.turns]
    told = continuity(turns)
    assert len(told.steps) == 2
    assert told.count("unknown") == told.count("departs") == 0
    for step in told.steps:
        earlier, later = turns[step.turn - 1], turns[step.turn]
        whole = earlier.prompt_token_ids + earlier.reply_token_ids
        assert (later.prompt_token_ids[: len(whole)] == whole) == (step.kind == "continues")
