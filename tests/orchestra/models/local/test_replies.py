from hypothesis import given
from hypothesis import strategies as st

from orchestra.models.local.replies import ReplyText


def decode(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def written(text, *stop):
    reply = ReplyText(decode, tuple(stop))
    told = []
    for byte in text.encode():
        told.append(reply.push(byte))
        if reply.stopped:
            break
    told.append(reply.finish())
    return reply, told


@given(st.text(max_size=40))
def test_what_was_told_is_the_reply(text):
    reply, told = written(text)
    assert "".join(told) == reply.text == text


@given(st.text(max_size=40), st.text(min_size=1, max_size=3))
def test_a_reply_ends_before_its_first_stop_string(text, stop):
    reply, told = written(text, stop)
    assert "".join(told) == reply.text == text.split(stop)[0]
    assert reply.stopped == (stop in text)


def test_half_a_character_is_not_told():
    reply = ReplyText(decode)
    assert [reply.push(byte) for byte in "é!".encode()] == ["", "é", "!"]


def test_the_beginning_of_a_stop_string_is_held_back():
    reply = ReplyText(decode, ("END",))
    assert [reply.push(byte) for byte in b"aENx"] == ["a", "", "", "ENx"]


def test_bytes_that_never_become_a_character_are_shown_as_such():
    reply = ReplyText(decode)
    assert reply.push(0xC3) == ""
    assert reply.finish() == reply.text == "\ufffd"
