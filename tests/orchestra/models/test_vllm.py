"""The direct client of vLLM, against a real HTTP server on loopback that speaks its protocol."""

import asyncio
import json

import pytest

from graphs import Sampling
from orchestra.errors import InputError, ModelError
from orchestra.models import Completion, Delta, Message, Request, ToolSchema, open_model
from orchestra.models.vllm import open_vllm
from orchestra.testing import Answer, FaultyServer, check_model
from orchestra.testing.tokens import END, encoded

ASKED = Request(messages=(Message(role="user", content="hello there"),), sampling=Sampling(max_tokens=64), seed=7)


@pytest.fixture
async def model_on():
    """Opens models on servers and closes them."""
    opened = []

    def open_on(server, **settings):
        opened.append(open_vllm(f"{server.model}@{server.url}", **settings))
        return opened[-1]

    yield open_on
    for model in opened:
        await model.close()


async def completed(model, request=ASKED):
    events = [event async for event in model.stream(request)]
    assert isinstance(events[-1], Completion)
    return events[-1]


def after(request, reply, text):
    turn = Message(
        role="assistant", content=reply.text, prompt_token_ids=reply.prompt_token_ids, token_ids=reply.token_ids
    )
    messages = (*request.messages, turn, Message(role="user", content=text))
    return Request(messages=messages, sampling=request.sampling, seed=request.seed)


@pytest.mark.parametrize("settings", [{}, {"stream": False}, {"token_ids": False}])
async def test_it_keeps_every_promise_of_a_model(settings):
    with FaultyServer([Answer(text="hello to everybody")]).in_process() as server:
        model = open_vllm(f"loopback@{server.url}", processed_logprobs=True, **settings)
        await check_model(model, max_tokens=64)
        await model.close()


async def test_by_ids_the_prompt_is_sent_as_ids_and_the_reply_brings_its_own(model_on):
    async with FaultyServer([Answer(text="all is well")]) as server:
        reply = await completed(model_on(server))
        body = server.served[0].body
    assert server.served[0].path == "/v1/completions"
    assert tuple(body["prompt"]) == reply.prompt_token_ids
    assert reply.token_ids == (*encoded("all is well"), END)
    assert len(reply.logprobs) == len(reply.token_ids)
    assert reply.text == "all is well"


async def test_a_transcript_is_extended_by_appending_and_its_end_of_turn_is_not_doubled(model_on):
    async with FaultyServer([Answer(text="all is well")]) as server:
        model = model_on(server)
        first = await completed(model)
        second = await completed(model, after(ASKED, first, "and then?"))
    before = first.prompt_token_ids + first.token_ids
    assert second.prompt_token_ids[: len(before)] == before
    assert second.prompt_token_ids[len(before) :] == tuple(
        encoded("\n<|im_start|>user\nand then?<|im_end|>\n<|im_start|>assistant\n")
    )


async def test_a_reply_that_was_cut_gets_the_end_of_turn_it_lacks(model_on):
    short = Request(messages=ASKED.messages, sampling=Sampling(max_tokens=3))
    async with FaultyServer([Answer(text="all is well")]) as server:
        model = model_on(server)
        first = await completed(model, short)
        second = await completed(model, after(short, first, "go on"))
    assert first.finish_reason == "length"
    assert second.prompt_token_ids[len(first.prompt_token_ids) + len(first.token_ids)] == END


async def test_three_samples_of_one_prompt_have_it_tokenised_once(model_on):
    async with FaultyServer() as server:
        model = model_on(server)
        for index in range(3):
            await completed(model, Request(messages=ASKED.messages, seed=7, sample_index=index))
    assert [aside.path for aside in server.asides].count("/tokenize") == 1
    assert len({served.body["seed"] for served in server.served}) == 3


async def test_every_setting_that_shapes_the_draw_is_sent(model_on):
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=5, max_tokens=9, stop=("END",))
    async with FaultyServer() as server:
        await completed(model_on(server, processed_logprobs=True), Request(messages=ASKED.messages, sampling=sampling))
    sent = server.served[0].body
    assert (sent["temperature"], sent["top_p"], sent["top_k"], sent["max_tokens"], sent["stop"]) == (
        0.7,
        0.9,
        5,
        9,
        ["END"],
    )
    assert (sent["repetition_penalty"], sent["min_p"]) == (1.0, 0.0)  # else the model's own defaults count


async def test_greedy_requests_are_not_truncated_too(model_on):
    async with FaultyServer() as server:
        request = Request(messages=ASKED.messages, sampling=Sampling(temperature=0, top_p=0.5, top_k=3))
        await completed(model_on(server), request)
    assert (server.served[0].body["top_p"], server.served[0].body["top_k"]) == (1.0, 0)


async def test_messages_go_to_the_chat_endpoint_and_tool_calls_come_back(model_on):
    tool = ToolSchema(name="add", description="adds")
    async with FaultyServer([Answer(text="", tool_calls=(("add", '{"input": "1+1"}'),))]) as server:
        model = model_on(server, token_ids=False, tools=True)
        reply = await completed(model, Request(messages=ASKED.messages, tools=(tool,)))
    assert server.served[0].path == "/v1/chat/completions"
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("add", '{"input": "1+1"}')]
    assert (reply.finish_reason, reply.token_ids, reply.prompt_token_ids) == ("tool_calls", None, None)


async def test_by_ids_it_claims_no_tools_and_refuses_them(model_on):
    async with FaultyServer() as server:
        with pytest.raises(ModelError, match="token_ids=False"):
            await completed(
                model_on(server), Request(messages=ASKED.messages, tools=(ToolSchema(name="a", description="b"),))
            )
    assert server.served == []


async def test_log_probabilities_before_temperature_are_not_passed_on(model_on):
    warm = Request(messages=ASKED.messages, sampling=Sampling(temperature=0.7))
    async with FaultyServer() as server:  # says the same at every temperature, as a server of raw ones does
        model = model_on(server)
        assert (await completed(model, warm)).logprobs is None
        assert (await completed(model)).logprobs is not None  # greedy: the same either way
    assert [served.body["temperature"] for served in server.served[:2]] == [0.2, 2.0]


async def test_deltas_arrive_one_by_one_with_their_ids(model_on):
    async with FaultyServer([Answer(text="one two three")]) as server:
        events = [event async for event in model_on(server).stream(ASKED)]
    deltas = [event for event in events if isinstance(event, Delta)]
    assert [delta.text for delta in deltas] == ["one", " two", " three", ""]
    assert sum((delta.token_ids for delta in deltas), ()) == events[-1].token_ids
    assert 0 < events[-1].first_token_seconds <= events[-1].latency_seconds


async def test_no_usage_is_said_to_be_none(model_on):
    async with FaultyServer([Answer(usage=None)]) as server:
        assert (await completed(model_on(server))).usage is None


async def test_a_count_below_the_ids_that_came_is_corrected_to_them(model_on):
    async with FaultyServer([Answer(usage=(0, 0), text="four")]) as server:
        reply = await completed(model_on(server))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (len(reply.prompt_token_ids), 5)


async def test_closing_the_stream_closes_the_request(model_on):
    async with FaultyServer([Answer(text="one two three four five", word_seconds=0.05)]) as server:
        stream = model_on(server).stream(ASKED)
        await anext(stream)
        await stream.aclose()
        async with asyncio.timeout(5):
            while server.running:
                await asyncio.sleep(0.01)
    assert not server.served[0].finished


async def test_a_deadline_ends_a_call_that_hangs(model_on):
    async with FaultyServer([Answer(delay_seconds=60)]) as server:
        with pytest.raises(ModelError, match=r"did not finish within 0\.2 s"):
            await completed(model_on(server), Request(messages=ASKED.messages, deadline_seconds=0.2))


@pytest.mark.parametrize(
    ("answer", "retryable", "served", "words"),
    [
        (Answer(status=429, headers=(("retry-after", "7"),)), True, False, "HTTP 429"),
        (Answer(status=500), True, None, "HTTP 500"),
        (Answer(status=400), False, False, "HTTP 400"),
        (Answer(text="one two three", malformed=True), True, None, "no reply"),
        (Answer(text="one two three", hang_up_after=2), True, None, "broke"),
        (Answer(choices=False), True, None, "without saying why"),
        (Answer(text="one two three", finish_reason="abort"), True, None, "as .abort."),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_says_whether_to_try_again_and_whether_it_was_served(
    model_on, answer, retryable, served, words, stream
):
    async with FaultyServer([answer]) as server:
        with pytest.raises(ModelError, match=words) as caught:
            await completed(model_on(server, stream=stream))
    assert (caught.value.retryable, caught.value.served) == (retryable, served)
    assert caught.value.retry_after_seconds == (7 if answer.headers else None)
    assert len(server.served) == 1


async def test_a_server_that_is_not_there_was_never_served_and_the_message_says_how_to_start_one():
    model = open_vllm("tiny@http://127.0.0.1:9", token_ids=False)
    with pytest.raises(ModelError, match="orchestra serve") as caught:
        await completed(model)
    assert (caught.value.retryable, caught.value.served) == (True, False)
    await model.close()


async def test_a_model_the_server_has_not_is_named_with_those_it_has():
    async with FaultyServer() as server:
        model = open_vllm(f"other@{server.url}")
        with pytest.raises(ModelError, match="has no model 'other'; it has loopback"):
            await completed(model)
        await model.close()


async def test_an_adapter_is_asked_by_name_and_version(model_on):
    async with FaultyServer() as server:
        server.adapters["critic@1f"] = "somewhere"
        model = open_vllm(f"loopback+critic@{server.url}")
        reply = await completed(model)
        assert (reply.adapter, server.served[0].body["model"]) == ("critic@1f", "critic@1f")
        server.adapters["critic@2a"] = "elsewhere"
        other = Request(messages=ASKED.messages, adapter="critic@2a")
        assert (await completed(model, other)).adapter == "critic@2a"  # loaded since: the server is asked again
        with pytest.raises(ModelError, match="several versions"):
            await completed(second := open_vllm(f"loopback+critic@{server.url}"))
        await second.close()
        with pytest.raises(ModelError, match="no adapter 'poet' is loaded; there is critic@1f, critic@2a"):
            await completed(model, Request(messages=ASKED.messages, adapter="poet"))
        await model.close()


async def test_an_adapter_without_version_stays_the_one_that_was_first_found(model_on):
    async with FaultyServer() as server:
        server.adapters["critic@1f"] = "somewhere"
        model = open_vllm(f"loopback+critic@{server.url}")
        await model.meet()
        before = model.fingerprint
        assert "critic@1f" in before
        server.adapters["critic@2a"] = "elsewhere"
        assert (await completed(model)).adapter == "critic@1f"
        del server.adapters["critic@1f"]
        await completed(model, Request(messages=ASKED.messages, adapter="critic@2a"))
        with pytest.raises(ModelError, match="'critic@1f', which it began with, is not loaded any more"):
            await completed(model)
        with pytest.raises(ModelError, match="says no version; ask for 'critic@2a'"):
            await completed(model, Request(messages=ASKED.messages, adapter="critic"))
        await model.close()


async def test_replies_kept_for_another_way_of_asking_are_not_taken(model_on):
    async with FaultyServer() as server:
        ways = ({}, {"token_ids": False}, {"logprobs": False}, {"token_ids": False, "tools": True})
        models = [model_on(server, **settings) for settings in ways]
        for model in models:
            await model.meet()
        assert len({model.fingerprint for model in models}) == len(ways)


async def test_a_prompt_that_leaves_no_room_is_refused_before_it_is_sent():
    async with FaultyServer(max_model_len=100) as server:
        model = open_vllm(f"loopback@{server.url}")
        with pytest.raises(ModelError, match="at most 100 tokens"):
            await completed(model, Request(messages=ASKED.messages, sampling=Sampling(max_tokens=90)))
        await model.close()
    assert server.served == []


def test_the_price_follows_from_two_speeds_and_is_unknown_otherwise():
    priced = open_vllm(
        "tiny@http://127.0.0.1:9", machine_usd_per_hour="0.36", input_tokens_per_second=100, output_tokens_per_second=10
    )
    assert (priced.price.cost(1_000_000, 0), priced.price.cost(0, 1_000_000)) == (10**9, 10**10)
    assert open_vllm("tiny@http://127.0.0.1:9").price is None
    assert not priced.external
    assert open_vllm("tiny@http://10.0.0.7:8000").external


def test_open_model_finds_it_by_its_prefix():
    assert open_model("vllm/tiny@http://127.0.0.1:9/v1").name == "vllm/tiny@http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny", "orchestra serve tiny"),
        ("@http://127.0.0.1:9", "names no model"),
        ("tiny+@http://127.0.0.1:9", "names no model"),
        ("tiny@http://", "no address of a server"),
        ("tiny@http://127.0.0.1:9?tokenids=1", "did you mean 'token_ids'"),
        ("tiny@http://127.0.0.1:9?tools=maybe", "true or false"),
    ],
)
def test_a_name_that_means_nothing_is_refused_with_the_way_to_write_it(name, words, monkeypatch, tmp_path):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        open_vllm(name)


async def test_one_model_serves_loop_after_loop():
    with FaultyServer().in_process() as server:
        model = open_vllm(f"loopback@{server.url}")
        await completed(model)
        await model.close()
        assert (await asyncio.to_thread(asyncio.run, _asked_once(model))).text == "hello"


async def _asked_once(model):
    try:
        return await completed(model)
    finally:
        await model.close()


async def test_the_bytes_sent_are_one_json_document(model_on):
    async with FaultyServer() as server:
        await completed(model_on(server, token_ids=False), Request(messages=(Message(role="user", content='é\n"q"'),)))
    assert json.loads(json.dumps(server.served[0].body))["messages"] == [{"role": "user", "content": 'é\n"q"'}]
