import json

import pytest

from orchestra.proxy.asking import CHAT, TEXT, read_request
from orchestra.proxy.keeping import Call, Keeper
from orchestra.traces import names
from orchestra.traces.joins import joined
from orchestra.traces.summary import run_episodes


def call(answer, operation=CHAT, **body):
    told = Call(read_request(operation, json.dumps({"model": "m", **body}).encode()))
    told.heard.hear(answer)
    return told


def choice(index=0, text="four", ids=(4, 0), logprobs=(-0.5, -0.25)):
    said = {"content": [{"token": "x", "logprob": one} for one in logprobs]}
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "finish_reason": "stop", "token_ids": list(ids), "logprobs": said}


def answer(*choices, prompt=(1, 2, 3), counted=(3, 2), name="r1"):
    usage = {"prompt_tokens": counted[0], "completion_tokens": counted[1]}
    return {"id": name, "model": "m", "choices": list(choices), "prompt_token_ids": list(prompt), "usage": usage}


@pytest.fixture
def keeper(store):
    return Keeper(store, "r", ("localhost", 8000), processed=lambda: True)


async def kept(keeper, store, *calls):
    for one in calls:
        await keeper.keep(one)
    return store.spans("r"), [turn for episode in run_episodes(store, "r") for turn in episode.turns]


async def test_a_call_is_kept_whole(keeper, store):
    (span,), (turn,) = await kept(
        keeper, store, call(answer(choice()), messages=[{"role": "user", "content": "2 + 2?"}])
    )
    assert (turn.prompt_token_ids, turn.reply_token_ids, turn.logprobs) == ((1, 2, 3), (4, 0), (-0.5, -0.25))
    assert (span.attributes[names.SERVER_ADDRESS], span.attributes[names.SERVER_PORT]) == ("localhost", 8000)
    assert store.runs()[0].command == "proxy"


async def test_a_call_is_kept_once(keeper, store):
    one = call(answer(choice()))
    await keeper.keep(one)
    keeper.keep_soon(one)
    assert len(store.spans("r")) == keeper.calls == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (answer(choice(), counted=(3, 9)), "counts 9 tokens of the reply"),
        (answer(choice(), counted=(9, 2)), "counts 9 tokens of the prompt"),
        (answer(choice(), choice(1)), "several replies"),
    ],
)
async def test_ids_that_are_not_certain_are_kept_and_not_taken_for_the_turns(keeper, store, given, why):
    (span,), (turn,) = await kept(keeper, store, call(given))
    assert not turn.trainable
    assert why in span.attributes[names.TOKEN_IDS_MISSING]
    content = json.dumps(store.blob_value(span.attributes[names.TOKEN_IDS]))
    assert "[4, 0]" in content
    assert "[1, 2, 3]" in content


async def test_log_probabilities_that_are_not_one_for_each_id_are_none(keeper, store):
    _, (turn,) = await kept(keeper, store, call(answer(choice(logprobs=(-0.5,)))))
    assert (turn.reply_token_ids, turn.logprobs) == ((4, 0), None)


NEUTRAL = {"temperature": 1, "top_p": 1.0, "top_k": -1, "min_p": 0, "repetition_penalty": 1.0}
GREEDY = {"temperature": 0, "repetition_penalty": 1.0}
DOUBTED = [
    ({}, "temperature is left out"),
    ({**NEUTRAL, "temperature": 0.7}, "temperature is 0.7"),
    ({**NEUTRAL, "top_k": 20}, "top_k is 20"),
    ({**NEUTRAL, "top_p": None}, "top_p is left out"),
    ({"temperature": 0}, "repetition_penalty is left out"),
    ({**GREEDY, "logit_bias": {"3": 5}}, "logit_bias is given"),
    ({**GREEDY, "guided_regex": "a"}, "guided_regex is given"),
    ({**GREEDY, "tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "a tool is strict"),
    ({**GREEDY, "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}, "tool_choice"),
]


@pytest.mark.parametrize(("body", "why"), DOUBTED, ids=[why for _, why in DOUBTED])
async def test_log_probabilities_that_may_be_of_another_distribution_are_set_aside(store, body, why):
    raw = Keeper(store, "r", ("localhost", 8000))
    (span,), (turn,) = await kept(raw, store, call(answer(choice()), **body))
    assert (turn.prompt_token_ids, turn.reply_token_ids, turn.logprobs) == ((1, 2, 3), (4, 0), None)
    missing = span.attributes[names.TOKEN_IDS_MISSING]
    assert missing.startswith(why)
    assert "--processed-logprobs" in missing
    assert store.blob_value(span.attributes[names.TOKEN_IDS])["sent_logprobs"] == [-0.5, -0.25]


@pytest.mark.parametrize("body", [NEUTRAL, GREEDY, {**GREEDY, "max_tokens": 9, "seed": 1, "tool_choice": "auto"}])
async def test_log_probabilities_that_nothing_moves_are_kept_of_any_server(store, body):
    raw = Keeper(store, "r", ("localhost", 8000))
    (span,), (turn,) = await kept(raw, store, call(answer(choice()), **body))
    assert turn.logprobs == (-0.5, -0.25)
    assert names.TOKEN_IDS_MISSING not in span.attributes


async def test_a_server_that_sends_no_ids_leaves_none(keeper, store):
    plain = {"id": "r1", "choices": [{"message": {"content": "four"}, "finish_reason": "stop"}]}
    (span,), (turn,) = await kept(keeper, store, call(plain))
    assert (turn.reply, turn.trainable, turn.usage.output_tokens) == ("four", False, None)
    assert names.TOKEN_IDS_MISSING not in span.attributes


async def test_tokens_are_counted_by_their_ids_where_the_server_does_not(keeper, store):
    uncounted = {key: value for key, value in answer(choice()).items() if key != "usage"}
    _, (turn,) = await kept(keeper, store, call(uncounted))
    assert (turn.usage.input_tokens, turn.usage.output_tokens) == (3, 2)


async def test_messages_of_every_shape_are_kept(keeper, store):
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    asked = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "t", "content": "done"},
    ]
    (span,), (turn,) = await kept(keeper, store, call(answer(choice()), messages=asked))
    assert [message.role for message in turn.messages] == ["system", "user", "assistant", "tool"]
    assert image in store.blob_value(span.attributes[names.INPUT_MESSAGES])[1]["parts"]
    assert (turn.messages[2].tool_calls[0].name, turn.messages[3].tool_call_id) == ("f", "t")


async def test_a_prompt_of_ids_or_text_is_kept(keeper, store):
    said = {"index": 0, "text": "b", "finish_reason": "stop", "prompt_token_ids": [7], "token_ids": [8]}
    told = {"id": "r1", "choices": [said]}
    other = {**told, "id": "r2"}
    _, (first, second) = await kept(keeper, store, call(told, TEXT, prompt=[7]), call(other, TEXT, prompt="a"))
    assert (first.messages, first.prompt_token_ids, first.reply) == ((), (7,), "b")
    assert second.messages[0].content == "a"


async def test_an_answer_is_found_by_its_id_unless_it_answers_twice(keeper, store):
    (span,), _ = await kept(keeper, store, call(answer(choice())))
    found = joined(store, "r1", span)
    assert found.attributes[names.TOKEN_IDS] == span.attributes[names.TOKEN_IDS]
    assert joined(store, "other", span) is None
    await keeper.keep(call(answer(choice())))
    assert joined(store, "r1", span) is None
