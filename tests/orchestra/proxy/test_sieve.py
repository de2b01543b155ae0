import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.proxy.asking import CHAT, TEXT, augmented, read_request, stripped
from orchestra.proxy.hearing import Heard
from orchestra.proxy.sieve import Sieve

FRAME = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def piece(delta, ids=None, logprobs=None, reason=None, **more):
    said = None if logprobs is None else {"content": [{"token": "x", "logprob": one} for one in logprobs]}
    choice = {"index": 0, "delta": delta, "logprobs": said, "finish_reason": reason, "token_ids": ids}
    return {**FRAME, "choices": [choice], **more}


def event(document):
    return b"data: " + json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


CALL = {"tool_calls": [{"index": 0, "id": "t1", "function": {"name": "add"}}]}
MORE = {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}
SENT = [
    piece({"role": "assistant", "content": ""}, prompt_token_ids=[1, 2]),
    piece({"content": "é"}, [5], [-0.1]),
    piece({}, [6], [-0.2]),
    piece(CALL, [7], [-0.3]),
    piece(MORE, [8, 9], [-0.4, -0.5]),
    piece({}, [0], [-0.6], "tool_calls"),
    {**FRAME, "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 6}, "system_fingerprint": "f"},
]
"""As vLLM streams the call of a tool to who asks for ids, log-probabilities and usage."""
PASSED = [
    piece({"role": "assistant", "content": ""}, prompt_token_ids=None),
    piece({"content": "é"}),
    piece(CALL),
    piece(MORE),
    {**piece({}, reason="tool_calls"), "system_fingerprint": "f"},
]
"""As it streams it to who asks for nothing."""
RAW = b"".join(map(event, SENT)) + b"data: [DONE]\n\n"


def asked(**body):
    return read_request(CHAT, json.dumps({"model": "m", "stream": True, **body}).encode())


def sifted(raw, request, cuts=()):
    heard = Heard()
    sieve = Sieve(request, heard, more=True)
    ends = [*sorted(cuts), len(raw)]
    out = [sieve.feed(raw[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    return b"".join(out) + sieve.rest(), heard


@given(st.sets(st.integers(0, len(RAW)), max_size=8))
def test_wherever_a_stream_is_cut_into_chunks_the_same_comes_out(cuts):
    out, heard = sifted(RAW, asked(), cuts)
    assert out == b"".join(map(event, PASSED)) + b"data: [DONE]\n\n"
    (choice,) = heard.choices.values()
    assert (heard.prompt_ids, choice.reply_ids) == ([1, 2], [5, 6, 7, 8, 9, 0])
    assert choice.logprobs == [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6]
    assert [(call.id, call.name, call.arguments) for call in choice.tool_calls] == [("t1", "add", '{"a":1}')]
    assert (heard.input_tokens, heard.output_tokens, heard.complete) == (2, 6, True)


def test_who_asked_for_everything_gets_everything():
    everything = asked(return_token_ids=True, logprobs=True, stream_options={"include_usage": True})
    assert sifted(RAW, everything)[0] == RAW


def test_who_asked_for_log_probabilities_keeps_the_pieces_that_carry_them():
    out, _ = sifted(RAW, asked(logprobs=True))
    assert out.count(b'"logprob":') == 6
    assert b'"token_ids":[' not in out


def test_windows_line_ends_comments_and_foreign_events_pass():
    raw = b": ping\r\n\r\n" + event(SENT[1]) + b"event: x\r\ndata: hello\r\n\r\n" + b"data: [1]\n\n" + b"data: tail"
    out, _ = sifted(raw, asked())
    assert out == b": ping\r\n\r\n" + event(PASSED[1]) + b"event: x\r\ndata: hello\r\n\r\n" + b"data: [1]\n\ndata: tail"


@given(st.binary(max_size=300))
def test_whatever_bytes_come_none_that_are_not_understood_are_lost(raw):
    assert sifted(raw, asked())[0] == raw


def test_what_is_asked_besides_is_added_to_what_was_asked():
    body = json.loads(augmented(asked(stream_options={"x": 1}, temperature=0.5)))
    assert body == {
        "model": "m",
        "stream": True,
        "temperature": 0.5,
        "return_token_ids": True,
        "logprobs": True,
        "stream_options": {"x": 1, "include_usage": True},
    }
    text = read_request(TEXT, b'{"prompt": "x", "logprobs": 0}')
    assert json.loads(augmented(text)) == {"prompt": "x", "logprobs": 0, "return_token_ids": True}
    assert text.logprobs
    assert json.loads(augmented(read_request(TEXT, b'{"prompt": "\\ud83d"}')))["prompt"] == "\ud83d"


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b'{"a"', b"\xff"])
def test_what_is_no_request_is_left_alone(raw):
    assert read_request(CHAT, raw) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "choices", "delta", "message", "usage", "logprobs", "token_ids"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["id", "choices", "usage", "error", "prompt_token_ids"]), JSON))
def test_no_answer_is_odd_enough_to_raise(document):
    heard = Heard()
    heard.hear(document)
    stripped(document, asked())
