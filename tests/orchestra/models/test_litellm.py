import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from email.utils import formatdate
from importlib.util import find_spec

import pytest

if find_spec("litellm") is None:  # importing it here would let it download its price list
    pytest.skip("needs the extra: providers", allow_module_level=True)

from graphs import Sampling
from orchestra.errors import InputError, ModelError, TooLong
from orchestra.ledger import Price
from orchestra.models.litellm import open_litellm
from orchestra.models.litellm_prices import listed_price
from orchestra.models.protocol import Completion, Delta, Message, Request, ToolCall, ToolSchema, Usage
from orchestra.testing import FAULTS, Answer, FaultyServer

# LiteLLM's own use of pydantic, once a chunk; Python's default filters hide it from users.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

HELLO = Request(messages=(Message(role="user", content="Say hello."),))


@contextlib.asynccontextmanager
async def serving(*answers, name="openai/loopback", **settings):
    async with FaultyServer(answers) as server:
        model = open_litellm(name, api_base=server.url, api_key="none", **settings)
        try:
            yield server, model
        finally:
            await model.close()


async def events(model, request=HELLO):
    return [event async for event in model.stream(request)]


async def completion(model, request=HELLO):
    return (await events(model, request))[-1]


async def test_a_reply_streams_and_ends_in_one_completion():
    async with serving(Answer(text="one two three", usage=(11, 3))) as (_server, model):
        *deltas, last = await events(model)
    assert [delta.text for delta in deltas] == ["one", " two", " three"]
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert isinstance(last, Completion)
    assert (last.text, last.finish_reason) == ("one two three", "stop")
    assert last.usage == Usage(input_tokens=11, output_tokens=3)
    assert 0 < last.first_token_seconds <= last.latency_seconds
    assert last.response_id == "chatcmpl-1"


async def test_a_server_that_reports_no_usage_leaves_it_unknown():
    async with serving(Answer(usage=None)) as (_, model):
        assert (await completion(model)).usage is None


async def test_a_reply_that_repeats_itself_is_a_reply():
    said = " ".join(["word"] * 150)
    asked = Request(messages=HELLO.messages, sampling=Sampling(max_tokens=1000))
    async with serving(Answer(text=said)) as (_, model):
        assert (await completion(model, asked)).text == said


async def test_failing_calls_leave_no_thread_and_no_task():
    answers = [FAULTS[name](None) for name in ("429", "500", "cut", "malformed-json", "no-choices")] * 6
    threads = set()
    async with serving(*answers, Answer()) as (server, model):
        for _ in answers:
            with pytest.raises(ModelError):
                await completion(model)
            threads.add(sum(not one.name.startswith(("asyncio_", "AnyIO")) for one in threading.enumerate()))
        await completion(model)
    assert len(server.served) == len(answers) + 1  # and none was tried again behind our back
    assert max(threads) - min(threads) <= 1  # besides the loop's pools, whose threads are used again
    async with asyncio.timeout(10):
        while asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0.01)


async def test_tool_calls_come_back_whole():
    tool = ToolSchema(name="calculator", description="Works out arithmetic.")
    asked = Request(messages=HELLO.messages, tools=(tool,))
    async with serving(Answer(text="", tool_calls=(("calculator", '{"input": "61 * 65"}'),)), tools=True) as (
        server,
        model,
    ):
        last = await completion(model, asked)
    assert last.finish_reason == "tool_calls"
    assert last.tool_calls == (ToolCall(id="call_0", name="calculator", arguments='{"input": "61 * 65"}'),)
    assert server.served[0].body["tools"][0]["function"]["name"] == "calculator"


async def test_a_tool_s_answer_is_sent_back_in_the_provider_s_words():
    call = ToolCall(id="call_0", name="calculator", arguments="{}")
    history = (
        *HELLO.messages,
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="3965", tool_call_id="call_0"),
    )
    async with serving(Answer()) as (server, model):
        await completion(model, Request(messages=history))
    sent = server.served[0].body["messages"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "calculator", "arguments": "{}"}
    assert sent[2] == {"role": "tool", "content": "3965", "tool_call_id": "call_0"}


async def test_the_sampling_reaches_the_server():
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=33, stop=("\n",))
    async with serving(Answer()) as (server, model):
        await completion(model, Request(messages=HELLO.messages, sampling=sampling, seed=5))
        await completion(model, Request(messages=HELLO.messages, sampling=sampling, seed=5, sample_index=1))
    first, second = (served.body for served in server.served)
    assert (first["temperature"], first["top_p"], first["max_tokens"], first["stop"]) == (0.7, 0.9, 33, ["\n"])
    assert first["stream_options"] == {"include_usage": True}
    assert first["seed"] != second["seed"]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
async def test_logprobs_are_kept_only_of_the_distribution_sampled_from(temperature):
    asked = Request(messages=HELLO.messages, sampling=Sampling(temperature=temperature))
    async with serving(Answer(text="ab", logprob=-0.25)) as (_, model):
        assert (await completion(model, asked)).logprobs == ((-0.25, -0.25, -0.25) if temperature == 1.0 else None)


async def test_a_server_that_processes_logprobs_is_believed_at_any_temperature():
    async with serving(Answer(text="ab", logprob=-0.5), processed_logprobs=True) as (_, model):
        assert model.capabilities.logprobs
        assert (await completion(model)).logprobs == (-0.5, -0.5, -0.5)


async def test_being_asked_to_wait_is_retryable_and_says_how_long():
    async with serving(Answer(status=429, headers=(("retry-after", "7"),))) as (server, model):
        with pytest.raises(ModelError, match="HTTP 429") as caught:
            await completion(model)
    assert (caught.value.retryable, caught.value.retry_after_seconds, caught.value.served) == (True, 7.0, False)
    assert len(server.served) == 1  # no retries behind our back


async def test_a_date_to_wait_for_becomes_seconds():
    soon = formatdate(usegmt=True)
    async with serving(Answer(status=503, headers=(("retry-after", soon),))) as (_, model):
        with pytest.raises(ModelError) as caught:
            await completion(model)
    assert 0 <= caught.value.retry_after_seconds <= 1


@pytest.mark.parametrize(
    ("status", "retryable", "served"),
    [
        *((500, True, None), (502, True, None), (504, True, None), (408, True, None)),
        *((503, True, False), (529, True, False), (409, True, False)),
        *((400, False, False), (401, False, False), (404, False, False), (413, False, False), (422, False, False)),
    ],
)
async def test_a_failed_call_is_sent_once_and_says_whether_to_try_again_and_whether_it_is_owed(
    status, retryable, served
):
    async with serving(Answer(status=status)) as (server, model):
        with pytest.raises(ModelError, match="openai/loopback failed") as caught:
            await completion(model)
    assert (caught.value.retryable, caught.value.served) == (retryable, served)
    assert len(server.served) == 1


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 2048 tokens. However, your prompt contains 2060 input tokens",
        "The decoder prompt (length 2060) is longer than the maximum model length of 2048.",  # LiteLLM knows it not
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
    ],
)
async def test_a_server_that_refuses_for_length_finds_the_prompt_too_long(said):
    body = json.dumps({"error": {"message": said, "type": "BadRequestError", "param": None, "code": 400}})
    async with serving(Answer(status=400, body=body)) as (_, model):
        with pytest.raises(TooLong, match="lower max_tokens") as caught:
            await completion(model)
    assert (caught.value.retryable, caught.value.served) == (False, False)


@pytest.mark.parametrize("answer", [Answer(body="<html>not JSON"), Answer(body='{"cut": '), Answer(hang_up_after=2)])
async def test_rubbish_and_a_cut_connection_are_errors_of_the_model(answer):
    async with serving(answer) as (server, model):
        with pytest.raises(ModelError) as caught:
            await completion(model)
    assert caught.value.served is None
    assert len(server.served) == 1


async def test_a_server_that_is_not_there_is_retryable_and_owed_nothing():
    async with FaultyServer() as server:
        url = server.url
    model = open_litellm("openai/loopback", api_base=url, api_key="none")
    with pytest.raises(ModelError) as caught:
        await completion(model)
    assert (caught.value.retryable, caught.value.served) == (True, False)
    await model.close()


async def test_a_deadline_ends_the_call():
    slow = Request(messages=HELLO.messages, deadline_seconds=0.3)
    async with serving(Answer(text="a b c d e f", word_seconds=0.2)) as (_, model):
        with pytest.raises(ModelError, match=r"within 0\.3 s") as caught:
            await completion(model, slow)
    assert (caught.value.retryable, caught.value.served) == (False, None)


async def test_closing_the_stream_hangs_up():
    async with serving(Answer(text="a b c d e f g h", word_seconds=0.05)) as (server, model):
        stream = model.stream(HELLO)
        await anext(stream)
        await stream.aclose()
        for _ in range(200):
            if not server.running:
                break
            await asyncio.sleep(0.01)
        assert server.running == 0
        assert not server.served[0].finished


async def test_many_calls_at_once_each_get_their_own_reply():
    answers = [Answer(text=f"reply {at}") for at in range(8)]
    async with serving(*answers) as (_server, model):
        replies = await asyncio.gather(*(completion(model) for _ in answers))
    assert sorted(reply.text for reply in replies) == [answer.text for answer in answers]


async def test_no_task_is_left_running():
    async with serving(Answer()) as (_, model):
        await completion(model)
    for _ in range(100):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0.01)
    assert left == set()


@pytest.mark.parametrize("extra", [(), (ToolSchema(name="calculator", description="Works out arithmetic."),)])
def test_the_bound_covers_the_bytes_of_the_prompt(extra):
    model = open_litellm("openai/loopback", api_key="none")
    request = Request(messages=(Message(role="user", content="é" * 500),), tools=extra)
    assert model.prompt_tokens_bound(request) >= 1000


@pytest.mark.parametrize(
    ("name", "external", "priced"),
    [
        ("openai/gpt-4.1-mini", True, True),
        ("anthropic/claude-sonnet-4-5", True, True),
        ("openai/not-on-any-list", True, False),
        ("ollama/llama3", False, False),
    ],
)
def test_price_and_external_money_are_stated(name, external, priced):
    model = open_litellm(name)
    assert (model.external, model.price is not None) == (external, priced)


@pytest.mark.parametrize("name", ["hosted_vllm/Qwen/Qwen2.5-7B-Instruct", "hosted_vllm/gpt-4o", "ollama/llama3"])
def test_a_self_hosted_model_without_a_stated_price_is_of_unknown_price_and_not_free(name):
    assert open_litellm(name).price is None


def test_the_list_price_is_exact():
    price = open_litellm("openai/gpt-4.1-mini").price
    assert price == Price.per_million("0.4", "1.6", source=price.source)
    assert "LiteLLM" in price.source


def test_a_long_prompt_and_a_reasoned_reply_are_priced_as_they_are_billed():
    long = open_litellm("gemini/gemini-2.5-pro").price
    assert long.cost(200_000, 1_000) == 250_000_000 + 10_000_000
    assert long.cost(200_001, 1_000) == 500_002_500 + 15_000_000
    assert open_litellm("dashscope/qwen-turbo").price.output_nano_per_million == 500_000_000


def test_a_wrong_entry_of_the_price_list_is_refused_and_the_others_stay():
    with pytest.raises(InputError, match="at least zero"):
        listed_price({"input_cost_per_token": -1e-6, "output_cost_per_token": 1e-6})
    assert listed_price({"output_cost_per_token": 1e-6}) is None
    assert open_litellm("openai/gpt-4.1-mini").price is not None


def test_a_local_server_is_priced_by_its_machine_and_measured_speed():
    model = open_litellm(
        "ollama/llama3", machine_usd_per_hour="0.36", input_tokens_per_second=100, output_tokens_per_second=10
    )
    assert model.price.cost(1_000_000, 0) == 1_000_000_000
    assert model.price.cost(0, 100_000) == 1_000_000_000


def test_an_unknown_provider_is_answered_with_the_closest():
    with pytest.raises(InputError, match="did you mean 'openai'"):
        open_litellm("opnai/gpt-4.1-mini")


async def test_a_setting_the_provider_does_not_take_is_refused_before_anything_is_sent():
    async with serving(Answer()) as (server, model):
        with pytest.raises(ModelError, match="top_k"):
            await completion(model, Request(messages=HELLO.messages, sampling=Sampling(top_k=5)))
    assert server.served == []


WHOLE_LIFE = """
import asyncio, sys, threading, time
def loopback_alone(event, arguments):
    if event == "socket.connect" and arguments[1][0] != "127.0.0.1":
        raise RuntimeError(f"connects to {arguments[1]}")
sys.addaudithook(loopback_alone)
from orchestra.models.litellm import open_litellm
assert threading.active_count() == 1, "importing it starts a thread"
from orchestra.models.protocol import Message, Request
from orchestra.testing import FaultyServer
async def once():
    async with FaultyServer() as server:
        model = open_litellm("openai/loopback", api_base=server.url, api_key="none")
        events = [event async for event in model.stream(Request(messages=(Message(role="user", content="hi"),)))]
        await model.close()
    return events[-1].text
said, give_up = asyncio.run(once()), time.monotonic() + 30
while threading.active_count() > 1 and time.monotonic() < give_up:  # one that is ending may take its time
    time.sleep(0.01)
print(said, threading.active_count())
"""


def test_a_program_that_uses_it_ends_without_a_warning_a_thread_or_a_download():
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", WHOLE_LIFE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello 1\n", "")


OLLAMA = "\n".join(
    [
        '{"model": "llama3", "created_at": "2026-01-01T00:00:00Z", "response": "hel", "done": false}',
        '{"model": "llama3", "created_at": "2026-01-01T00:00:00Z", "response": "lo", "done": false}',
        '{"model": "llama3", "created_at": "2026-01-01T00:00:00Z", "response": "", "done": true, "done_reason": "stop",'
        ' "prompt_eval_count": 5, "eval_count": 2}\n',
    ]
)
ANTHROPIC = "".join(
    f"event: {kind}\ndata: {data}\n\n"
    for kind, data in (
        (
            "message_start",
            '{"type": "message_start", "message": {"id": "m1", "type": "message", "role": "assistant", "content": [],'
            ' "model": "claude-sonnet-4-5", "stop_reason": null, "usage": {"input_tokens": 5, "output_tokens": 1}}}',
        ),
        (
            "content_block_start",
            '{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}',
        ),
        (
            "content_block_delta",
            '{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}',
        ),
        ("content_block_stop", '{"type": "content_block_stop", "index": 0}'),
        (
            "message_delta",
            '{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}',
        ),
        ("message_stop", '{"type": "message_stop"}'),
    )
)


@pytest.mark.parametrize(("name", "body"), [("ollama/llama3", OLLAMA), ("anthropic/claude-sonnet-4-5", ANTHROPIC)])
async def test_other_providers_own_protocols_give_the_same_completion(name, body):
    async with FaultyServer([Answer(body=body)]) as server:
        model = open_litellm(name, api_base=server.url.removesuffix("/v1"), api_key="none")
        last = await completion(model)
        await model.close()
    assert (last.text, last.finish_reason) == ("hello", "stop")
    assert last.usage == Usage(input_tokens=5, output_tokens=2)
    assert len(server.served) == 1


def test_its_address_is_the_base_it_was_given_and_is_not_guessed():
    given = open_litellm("openai/test", api_base="https://models.example/v1", api_key="none")
    assert given.address == ("models.example", 443)
    assert open_litellm("openai/test", api_key="none").address is None
