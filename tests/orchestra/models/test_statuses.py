import json
import pickle
from email.utils import formatdate

import pytest

from orchestra.errors import TooLong
from orchestra.models.statuses import asked_wait_seconds, status_error
from orchestra.models.vllm_errors import refusal
from orchestra.testing import REFUSING


@pytest.mark.parametrize("status", range(400, 600))
def test_what_the_server_double_counts_as_refused_is_what_is_given_back(status):
    error = status_error("m", status, "no")
    assert error.served is (False if status in REFUSING else None)
    assert f"HTTP {status}" in str(error)


def test_a_429_for_want_of_credit_is_final():
    assert not status_error("m", 429, "You exceeded your current quota").retryable
    assert status_error("m", 429, "slow down").retryable


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("inf", None), ("nan", None)]
)
def test_a_wait_is_understood_or_left_out(said, seconds):
    assert asked_wait_seconds({"retry-after": said}) == seconds


def test_a_date_is_seconds_from_now_and_a_past_one_none():
    assert asked_wait_seconds({"retry-after": formatdate(0, usegmt=True)}) == 0.0
    assert asked_wait_seconds(None) is None


def test_an_error_survives_being_sent_to_another_process():
    error = pickle.loads(pickle.dumps(status_error("m", 429, "slow", headers={"retry-after": "2"})))
    assert (error.retryable, error.retry_after_seconds, error.served) == (True, 2.0, False)


VLLM = (
    "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, "
    "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
    "(parameter=input_tokens, value=2049)",
    "This model's maximum context length is 2048 tokens. However, your prompt contains 99000 characters (more than "
    "94208 characters, which is the upper bound for 2048 input tokens). Please reduce the length of the input prompt.",
    "This model's maximum context length is 6048 tokens. However, you requested 6616 tokens (568 in the messages, 6048 "
    "in the completion). Please reduce the length of the messages or completion.",
    "'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum context length is 4096 tokens "
    "and your request has 2778 input tokens (8000 > 4096 - 2778). None",
    "Input length (2060) exceeds model's maximum context length (2048).",
    "The decoder prompt (length 2060) is longer than the maximum model length of 2048. Make sure that `max_model_len` "
    "is no smaller than the number of text tokens.",
)
"""As vLLM's servers say it, older ones and 0.32."""
OTHERS = (
    (400, "the request exceeds the available context size. try increasing the context size or enable context shift"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens"),
    (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
)
"""Of llama.cpp, text-generation-inference, Anthropic and Gemini."""


@pytest.mark.parametrize("said", VLLM)
@pytest.mark.parametrize("shape", [lambda error: error, lambda error: {"error": error}], ids=["old", "new"])
def test_a_vllm_server_that_refuses_for_length_finds_it_too_long(said, shape):
    body = json.dumps(shape({"message": said, "type": "BadRequestError", "param": None, "code": 400})).encode()
    error = refusal("vllm/mine", 400, {}, body)
    assert isinstance(error, TooLong)
    assert (error.retryable, error.served, error.busy) == (False, False, False)
    assert "shorten the prompt or lower max_tokens" in str(error)


@pytest.mark.parametrize(("status", "said"), OTHERS)
def test_others_refuse_for_length_in_their_own_words(status, said):
    assert isinstance(status_error("m", status, said), TooLong)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "Invalid 'user': string too long. Expected a string with maximum length 64 (string_above_max_length)"),
        (400, "temperature must be non-negative, got -1."),
        (413, "Request too large for model in organization on tokens per minute (TPM): limit 6000, requested 9000"),
        (429, VLLM[0]),
        (500, VLLM[0]),
    ],
)
def test_what_is_refused_or_fails_for_another_reason_is_not_too_long(status, said):
    assert not isinstance(status_error("m", status, said), TooLong)


def test_too_long_survives_being_sent_to_another_process():
    error = pickle.loads(pickle.dumps(status_error("m", 400, VLLM[0])))
    assert (type(error), error.served) == (TooLong, False)
