import asyncio
import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import Sampling
from orchestra.errors import InputError, ModelError
from orchestra.models.protocol import Capabilities, Completion, Message, Request, ToolCall, Usage
from orchestra.testing import ScriptedModel, ScriptExhausted, open_scripted
from orchestra.testing.scripted import pieces

ALL = Capabilities(stream=True, token_ids=True, logprobs=True)


def asked(text="hi", **fields):
    return Request(messages=(Message(role="user", content=text),), **fields)


async def completion(model, request=None):
    return [event async for event in model.stream(request or asked())][-1]


async def test_replies_come_in_the_order_of_the_calls():
    model = ScriptedModel(["one", "two"])
    assert [(await completion(model)).text, (await completion(model)).text] == ["one", "two"]


async def test_a_call_without_a_reply_names_the_call_and_its_prompt():
    model = ScriptedModel(["one"])
    await completion(model)
    with pytest.raises(ScriptExhausted, match=r"call 2 of scripted/test .*'what now\?'"):
        await completion(model, asked("what now?"))


async def test_every_request_is_recorded():
    model = ScriptedModel(["a", "b"])
    await completion(model, asked("first"))
    await completion(model, asked("second"))
    assert model.prompts == ["first", "second"]
    assert (model.finished, model.cancelled, model.running) == (2, 0, 0)


async def test_a_function_answers_by_the_request():
    model = ScriptedModel(lambda request: f"sample {request.sample_index}")
    assert (await completion(model, asked(sample_index=3))).text == "sample 3"


async def test_a_scripted_error_is_raised_and_the_next_call_goes_on():
    model = ScriptedModel([ModelError("down", retryable=True), "up"])
    with pytest.raises(ModelError, match="down"):
        await completion(model)
    assert (await completion(model)).text == "up"


async def test_an_unknown_usage_stays_unknown():
    unknown = Completion(text="x", finish_reason="stop", model="m", usage=None)
    assert (await completion(ScriptedModel([unknown]))).usage is None


async def test_a_tool_call_is_a_reply():
    call = ToolCall(id="c1", name="calculator", arguments='{"input": "1+1"}')
    last = await completion(ScriptedModel([call]))
    assert (last.finish_reason, last.tool_calls, last.text) == ("tool_calls", (call,), "")


@given(st.text(max_size=60), st.integers(1, 8))
async def test_max_tokens_is_honoured(text, most):
    last = await completion(ScriptedModel([text]), asked(sampling=Sampling(max_tokens=most)))
    assert last.usage.output_tokens <= most
    assert text.startswith(last.text)
    assert last.finish_reason == ("stop" if len(pieces(text)) <= most else "length")


@given(st.text(max_size=60))
def test_tokens_are_the_text_cut_in_pieces(text):
    assert "".join(pieces(text)) == text


async def test_a_stop_string_ends_the_reply_and_is_not_part_of_it():
    model = ScriptedModel(["one two STOP three"])
    assert (await completion(model, asked(sampling=Sampling(stop=("three", " STOP"))))).text == "one two"


async def test_the_same_text_has_the_same_ids_and_logprobs():
    first, second = [await completion(ScriptedModel(["a b a"], capabilities=ALL)) for _ in range(2)]
    assert (first.token_ids, first.logprobs) == (second.token_ids, second.logprobs)
    assert len(first.token_ids) == len(first.logprobs) == first.usage.output_tokens == 3


async def test_what_is_not_claimed_is_not_given():
    last = await completion(ScriptedModel(["a"]))
    assert (last.token_ids, last.prompt_token_ids, last.logprobs) == (None, None, None)


async def test_a_delay_longer_than_the_deadline_fails_at_the_deadline():
    with pytest.raises(ModelError, match=r"within 0\.01 s") as caught:
        await completion(ScriptedModel(["late"], delay_seconds=30), asked(deadline_seconds=0.01))
    assert caught.value.retryable


async def test_calls_at_once_overlap_in_their_delay():
    model = ScriptedModel(["x"] * 20, delay_seconds=0.05)
    await asyncio.gather(*(completion(model) for _ in range(20)))
    assert model.running_most == 20


async def test_a_closed_stream_counts_as_cancelled():
    model = ScriptedModel(["one two"])
    stream = model.stream(asked())
    await anext(stream)
    await stream.aclose()
    assert (model.finished, model.cancelled, model.running) == (0, 1, 0)


def test_another_script_has_another_fingerprint():
    scripts = [["a"], ["b"], lambda r: "a", lambda r: "b"]
    prints = {ScriptedModel(script).fingerprint for script in scripts}
    assert len(prints) == len(scripts)
    assert ScriptedModel(["a"]).fingerprint in prints


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ScriptExhausted("call 2")))
    assert (str(error), error.retryable) == ("call 2", False)


async def test_echo_repeats_the_last_user_message():
    request = replace(asked(), messages=(*asked("first").messages, *asked("second").messages))
    assert (await completion(open_scripted("echo"), request)).text == "second"


async def test_a_text_file_is_one_reply_a_line(tmp_path):
    (tmp_path / "replies.txt").write_text("one\n\ntwo\\nlines\n")
    model = open_scripted(f"scripted/{tmp_path}/replies.txt")
    assert [(await completion(model)).text for _ in range(2)] == ["one", "two\nlines"]


RULES = """
rules:
  - {match: '(\\d+) and (\\d+)', reply: '\\2 then \\1'}
  - {match: guess, reply: [heads, tails]}
  - {match: boom, error: fell over, retryable: true}
"""


async def test_the_first_rule_that_matches_answers(tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    model = open_scripted(str(tmp_path / "rules.yaml"))
    assert (await completion(model, asked("1 and 2, guess"))).text == "2 then 1"
    assert [(await completion(model, asked("guess", sample_index=k))).text for k in range(3)] == [
        "heads",
        "tails",
        "heads",
    ]
    with pytest.raises(ModelError, match="fell over") as caught:
        await completion(model, asked("boom"))
    assert caught.value.retryable
    with pytest.raises(ScriptExhausted, match="no rule of"):
        await completion(model, asked("else"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "is empty"),
        ('{"rulez": []}', "needs the key 'rules'"),
        ('[{"match": "(", "reply": "x"}]', "rule 1: match '\\('"),
        ('[{"match": "a", "reply": "\\\\2"}]', "quotes a group"),
        ('[{"mach": "a", "reply": "x"}]', "did you mean 'match'"),
        ('[{"match": "a"}]', "either 'reply' or 'error'"),
        ('[{"match": "a", "reply": []}]', "empty list"),
        ('["a", 3]', "expected a mapping"),
    ],
)
def test_a_malformed_script_says_what_is_wrong(tmp_path, content, said):
    (tmp_path / "script.json").write_text(content)
    with pytest.raises(InputError, match=said):
        open_scripted(str(tmp_path / "script.json"))


def test_a_missing_script_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="cannot read the script"):
        open_scripted(str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="scripted/echo"):
        open_scripted("scripted/")


async def test_a_list_of_texts_in_json_is_a_script(tmp_path):
    (tmp_path / "script.json").write_text(json.dumps(["one", "two"]))
    model = open_scripted(str(tmp_path / "script.json"))
    assert (await completion(model)).usage == Usage(input_tokens=3, output_tokens=1)
