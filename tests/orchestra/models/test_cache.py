import json
import re
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import Sampling
from orchestra.models.cache import completion_key, from_record, to_record
from orchestra.models.protocol import Completion, Message, Request, ToolCall, ToolSchema, Usage
from orchestra.testing import ScriptedModel

MODEL = ScriptedModel(["x"], fingerprint="weights-1")

ids = st.none() | st.lists(st.integers(0, 10**6), max_size=4).map(tuple)
calls = st.lists(
    st.builds(ToolCall, id=st.text(max_size=3), name=st.text(max_size=3), arguments=st.text(max_size=5)), max_size=2
).map(tuple)
messages = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=st.text(max_size=8),
        tool_calls=calls,
        tool_call_id=st.none() | st.text(max_size=3),
        prompt_token_ids=ids,
        token_ids=ids,
    ),
    max_size=3,
).map(tuple)
samplings = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    top_p=st.floats(0.1, 1),
    top_k=st.integers(0, 50),
    max_tokens=st.integers(1, 512),
    stop=st.lists(st.text(max_size=3), max_size=2).map(tuple),
)
values = {
    "messages": messages,
    "sampling": samplings,
    "tools": st.lists(st.builds(ToolSchema, name=st.text(max_size=3), description=st.text(max_size=3)), max_size=2).map(
        tuple
    ),
    "seed": st.none() | st.integers(0, 10**9),
    "sample_index": st.integers(0, 10**6),
    "adapter": st.none() | st.text(max_size=5),
}
requests = st.builds(Request, **values)
completions = st.builds(
    Completion,
    text=st.text(max_size=20),
    finish_reason=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    model=st.text(max_size=5),
    usage=st.none()
    | st.builds(
        Usage,
        input_tokens=st.integers(0, 10**6),
        output_tokens=st.integers(0, 10**6),
        cached_input_tokens=st.integers(0, 10**6),
    ),
    tool_calls=calls,
    prompt_token_ids=ids,
    token_ids=ids,
    logprobs=st.none() | st.lists(st.floats(-100, 0), max_size=4).map(tuple),
    adapter=st.none() | st.text(max_size=3),
    response_id=st.none() | st.text(max_size=3),
    latency_seconds=st.floats(0, 100),
    first_token_seconds=st.none() | st.floats(0, 100),
)


@given(requests, st.sampled_from(sorted(values)), st.data())
def test_changing_any_field_of_a_request_changes_its_key(request, name, data):
    other = replace(request, **{name: data.draw(values[name])})
    same = json.dumps(repr(request)) == json.dumps(repr(other))
    assert (completion_key(MODEL, request) == completion_key(MODEL, other)) is same


def test_every_field_of_a_request_but_the_deadline_is_drawn_above():
    assert {field.name for field in fields(Request)} - set(values) == {"deadline_seconds"}


@given(requests)
def test_the_deadline_is_not_part_of_the_key(request):
    assert completion_key(MODEL, replace(request, deadline_seconds=3.0)) == completion_key(MODEL, request)


def test_each_sample_has_a_key_of_its_own():
    request = Request(messages=(Message(role="user", content="hi"),), seed=1)
    assert len({completion_key(MODEL, replace(request, sample_index=k)) for k in range(8)}) == 8


@pytest.mark.parametrize("change", [{"fingerprint": "weights-2"}, {"name": "scripted/other"}])
def test_another_model_or_other_weights_change_the_key(change):
    request = Request(messages=(Message(role="user", content="hi"),))
    other = ScriptedModel(["x"], **{"fingerprint": "weights-1", **change})
    assert completion_key(MODEL, request) != completion_key(other, request)


def test_a_key_is_a_sha256():
    assert re.fullmatch("[0-9a-f]{64}", completion_key(MODEL, Request(messages=())))


@given(completions)
def test_a_completion_survives_its_record_as_json(completion):
    assert from_record(json.loads(json.dumps(to_record(completion)))) == completion


def test_not_measured_stays_apart_from_zero():
    empty = Completion(text="", finish_reason="stop", model="m", usage=None, token_ids=())
    record = to_record(empty)
    assert record["usage"] is None
    assert from_record(record).logprobs is None
    assert from_record(record).token_ids == ()


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"colour": "red"}])
def test_a_record_of_another_kind_is_refused(change):
    record = to_record(Completion(text="", finish_reason="stop", model="m", usage=None))
    with pytest.raises(ValueError, match="cached completion"):
        from_record({**record, **change})
