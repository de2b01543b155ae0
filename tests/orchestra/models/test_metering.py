from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.models.metering import LONGEST_TOKEN_BYTES, MOST_TOKENS, believed
from orchestra.models.protocol import Completion, Message, Request, ToolCall, Usage
from orchestra.testing import ScriptedModel
from orchestra.testing.tokens import encoded, rendered

MODEL = ScriptedModel(["unused"])
ASKED = Request(messages=(Message(role="user", content="How many legs has a spider?"),))
SAID = Completion(text="Eight.", finish_reason="stop", model="m", usage=None)


def judged(usage, *, request=ASKED, **changes):
    counted = usage if usage is None else Usage(input_tokens=usage[0], output_tokens=usage[1])
    return believed(MODEL, request, replace(SAID, usage=counted, **changes))


def test_a_count_that_can_be_true_is_believed_even_above_what_was_allowed():
    usage, doubt = judged((9, 2_000))
    assert (usage, doubt) == (Usage(input_tokens=9, output_tokens=2_000), None)


def test_no_count_is_no_doubt():
    assert judged(None) == (None, None)


@pytest.mark.parametrize("counts", [(-1, 5), (5, -1), (0, 5), (5, 0), (0, 0), (MOST_TOKENS + 1, 1), (1, 10**15)])
def test_a_count_that_cannot_be_true_is_dropped_and_quoted(counts):
    usage, doubt = judged(counts)
    assert usage is None
    assert f"{counts[0]} prompt and {counts[1]} reply tokens" in doubt


def test_nothing_said_may_cost_nothing():
    assert judged((9, 0), text="")[0] == Usage(input_tokens=9, output_tokens=0)


def test_a_function_called_is_something_said():
    call = ToolCall(id="1", name="clock", arguments="{}")
    assert judged((9, 0), text="", tool_calls=(call,))[0] is None


@given(st.text(min_size=1, max_size=2000))
def test_no_count_below_what_the_longest_tokens_would_make_is_believed(text):
    least = -(-len(text.encode()) // LONGEST_TOKEN_BYTES)
    assert judged((9, least - 1), text=text)[0] is None
    assert judged((9, least), text=text)[0] is not None
    asked = Request(messages=(Message(role="user", content=text),))
    assert judged((least - 1, 9), request=asked)[0] is None


@given(st.text(), st.text())
def test_a_true_count_is_never_doubted(prompt, reply):
    asked = Request(messages=(Message(role="user", content=prompt),))
    counts = (len(encoded(rendered([{"role": "user", "content": prompt}]))), len(encoded(reply)) + 1)
    assert judged(counts, request=asked, text=reply)[1] is None


def test_token_ids_are_the_truth_where_the_count_is_below_them():
    ids = {"prompt_token_ids": (1, 2, 3), "token_ids": (4, 5)}
    assert judged((3, 2), **ids) == (Usage(input_tokens=3, output_tokens=2), None)
    usage, doubt = judged((1, 1), **ids)
    assert usage == Usage(input_tokens=3, output_tokens=2)
    assert "3 and 2 token ids" in doubt
