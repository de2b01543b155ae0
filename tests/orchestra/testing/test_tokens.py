import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.testing import tokens

MARKED = st.lists(st.one_of(st.text(), st.sampled_from(["<|im_start|>", "<|im_end|>", "<|im_", "|>"]))).map("".join)


@given(MARKED)
def test_text_and_ids_determine_each_other(text):
    ids = tokens.encoded(text)
    assert tokens.decoded(ids, marks=True) == text
    assert tokens.counted(text) == len(ids)


@given(MARKED)
def test_every_token_has_a_logprob_below_zero(text):
    assert all(tokens.logprob_of(i) < 0 for i in tokens.encoded(text))


@pytest.mark.parametrize("content", ["hi", [{"type": "text", "text": "hi"}], None])
def test_a_message_is_rendered_however_its_content_is_written(content):
    said = tokens.rendered([{"role": "user", "content": content}], generate=False)
    assert said == f"<|im_start|>user\n{'hi' if content else ''}<|im_end|>\n"


def test_a_call_is_rendered_as_the_model_wrote_it():
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    said = tokens.rendered([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert tokens.called([("clock", "{}")]) in said


def test_the_examples_are_true():
    assert doctest.testmod(tokens).failed == 0
