import collections
import datetime
import enum
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from orchestra.execution.checkpoint_values import CHUNK, digests, packed, unpacked
from orchestra.traces.content import digest

SERIALISER = JsonPlusSerializer()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=40,
)


class Colour(enum.StrEnum):
    RED = "red"


class Point(BaseModel):
    x: int


class Bodies(dict[str, bytes]):
    def blob(self, content: object) -> str:
        assert isinstance(content, bytes)
        self[digest(content)] = content
        return digest(content)


def there_and_back(value: object, **settings: bool) -> object:
    bodies = Bodies()
    kept = json.loads(json.dumps(packed(value, bodies, SERIALISER, **settings)))
    assert set(digests(kept)) <= set(bodies)
    return unpacked(kept, {name: bodies[name] for name in digests(kept)}, SERIALISER)


@given(JSON)
def test_any_json_comes_back(value):
    assert repr(there_and_back(value)) == repr(value)  # equal, of the same types, in the same order


@pytest.mark.parametrize(
    "value",
    [
        b"\x00\xff",
        bytearray(b"ab"),
        {1: "one", None: "none"},
        {"a", "b"},
        datetime.datetime(2026, 8, 1, 9, 30, tzinfo=datetime.UTC),
        Point(x=3),
        Colour.RED,
        [HumanMessage("hello"), AIMessage("there", id="7")],
        [HumanMessage(str(number)) for number in range(3 * CHUNK + 1)],
        {"messages": [HumanMessage("hello" * 100)], "note": "plain"},
        ["["] * 5,
        ["j", "x"],
        "sha256:" + "a" * 64,
        "lone \ud800 surrogate",
        2**70,
        {"text": "x" * 10_000, "n": [1.5, None]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_say_comes_back_too(value):
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", [(1, ("a", None)), collections.OrderedDict(b=1, a=2), [(1, 2)], {"a": {1, 2}}])
def test_what_langgraphs_serialiser_changes_is_changed_no_further(value):
    theirs = SERIALISER.loads_typed(SERIALISER.dumps_typed(value))
    assert repr(there_and_back(value)) == repr(theirs)


def test_not_even_a_plain_value_is_kept_in_the_clear_when_a_serialiser_is_to_have_it():
    bodies = Bodies()
    kept = packed({"secret": "s" * 1000}, bodies, SERIALISER, plain=False)
    assert kept[0] == "m"
    assert there_and_back({"secret": "s" * 1000}, plain=False) == {"secret": "s" * 1000}


def test_a_list_that_grows_is_not_kept_anew():
    bodies = Bodies()
    sizes = []
    for length in range(1, 1000):
        before = sum(map(len, bodies.values()))
        packed([f"message {number} {'x' * 100}" for number in range(length)], bodies, SERIALISER)
        sizes.append(sum(map(len, bodies.values())) - before)
    assert max(sizes) <= CHUNK * 120
    assert sum(sizes[-200:]) <= 1.5 * sum(sizes[:200])


def test_content_that_was_changed_by_hand_is_refused():
    with pytest.raises(ValueError, match="not a value of a checkpoint"):
        unpacked(["?", 1], {}, SERIALISER)
