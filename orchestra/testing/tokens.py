"""The tokenizer of the loopback server: one token for each byte, and two for the marks of a turn.

Text and ids determine each other, so what the server counts, what it sends as ids and what `/tokenize` answers always
agree, and a client that loses or doubles a token is found out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

START, END = 256, 257
"""Ids of the mark that begins a turn and of the one that ends it; every smaller id is a byte."""

_IDS = {"<|im_start|>": START, "<|im_end|>": END}
_TEXTS = {number: text for text, number in _IDS.items()}
_MARKS = re.compile("(" + "|".join(re.escape(text) for text in _IDS) + ")")


def encoded(text: str) -> list[int]:
    """The ids of `text`.

    >>> encoded("hi<|im_end|>")
    [104, 105, 257]
    """
    ids: list[int] = []
    for part in _MARKS.split(text):
        if part in _IDS:
            ids.append(_IDS[part])
        else:
            ids.extend(part.encode())
    return ids


def counted(text: str) -> int:
    """How many tokens `text` has; `len(encoded(text))` without making them.

    >>> counted("é<|im_end|>")
    3
    """
    marks = sum(text.count(mark) * (len(mark) - 1) for mark in _IDS)
    return len(text.encode()) - marks


def decoded(ids: Sequence[int], *, marks: bool = False) -> str:
    """The text of `ids`; the marks of a turn are left out unless asked for.

    >>> decoded([104, 105, 257])
    'hi'
    """
    parts = (bytes((i,)) if i < START else _TEXTS.get(i, "").encode() if marks else b"" for i in ids)
    return b"".join(parts).decode(errors="replace")


def token_text(token_id: int) -> str:
    """One token as text; a byte that is no character by itself is a replacement character."""
    return decoded([token_id], marks=True)


def logprob_of(token_id: int) -> float:
    """The log-probability the server reports for a token: another one for its neighbours, so that a shift shows."""
    return -(token_id % 16 + 1) / 16


def rendered(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = (), *, generate: bool = True
) -> str:
    r"""The messages as the model reads them, in ChatML.

    Args:
        messages: as in a request.
        tools: offered functions, told before the first message.
        generate: whether the turn of the assistant is opened.

    >>> rendered([{"role": "user", "content": "hi"}])
    '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n'
    """
    told = [_turn("system", "".join(f"{json.dumps(tool, ensure_ascii=False)}\n" for tool in tools))] if tools else []
    turns = [_turn(str(m.get("role")), _content(m) + called(_functions(m))) for m in messages]
    return "".join([*told, *turns, "<|im_start|>assistant\n" if generate else ""])


def called(functions: Sequence[tuple[str, str]]) -> str:
    r"""What a model writes to call functions: name and JSON arguments of each.

    >>> called([("clock", "{}")])
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    """
    return "\n".join(
        f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n</tool_call>'
        for name, arguments in functions
    )


def _turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or ())


def _functions(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    calls = message.get("tool_calls") or ()
    return [(str(call["function"]["name"]), str(call["function"]["arguments"])) for call in calls]
