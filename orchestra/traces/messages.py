"""Messages as the GenAI conventions write them (a role and parts), to and from our flat records.

Spans hold the conventions' shape, so that any tool that knows it can show them. Reading is lenient: applications also
write plain `role` and `content`, and whatever cannot be made sense of is kept as JSON text, never dropped.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from orchestra.traces.content import canonical_json
from orchestra.traces.episode import Message, Role, ToolCall

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}


class _Call(Protocol):
    @property
    def id(self) -> str | None: ...
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


class _Message(Protocol):
    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[_Call]: ...
    @property
    def tool_call_id(self) -> str | None: ...


def input_messages(messages: Iterable[_Message]) -> list[dict[str, object]]:
    """The content of `gen_ai.input.messages` for a request's messages."""
    return [{"role": message.role, "parts": _parts(message)} for message in messages]


def output_messages(
    text: str, finish_reason: str | None = None, tool_calls: Sequence[_Call] = ()
) -> list[dict[str, object]]:
    """The content of `gen_ai.output.messages` for one reply."""
    parts = _said(text, tool_calls)
    return [{"role": "assistant", "parts": parts, "finish_reason": finish_reason or "unknown"}]


def with_parts(messages: Iterable[object]) -> list[dict[str, object]]:
    """Messages with plain `role` and `content`, as clients of a model write them, in the conventions' shape."""
    shaped: list[dict[str, object]] = []
    for item in messages:
        if not isinstance(item, Mapping):
            shaped.append({"role": "user", "parts": [_text_part(item)]})
            continue
        role = str(item.get("role", "user"))
        parts = _parts_of_plain(item, _ROLES.get(role.lower(), "user"))
        shaped.append({"role": role, "parts": [_text_part(part) if isinstance(part, str) else part for part in parts]})
    return shaped


def _text_part(text: object) -> dict[str, object]:
    return {"type": "text", "content": text}


def messages_from(content: object) -> tuple[Message, ...]:
    """The messages an attribute of a chat span holds, whoever wrote it; empty when there are none."""
    if isinstance(content, str):
        return (Message(role="user", content=content),)
    if isinstance(content, Mapping):
        content = content.get("messages", [content])
    if not isinstance(content, Sequence):
        return ()
    return tuple(message for item in content for message in _message_from(item))


def instructions_from(content: object) -> tuple[Message, ...]:
    """The system prompt an attribute holds, as a message; empty when there is none."""
    parts = content if isinstance(content, list) else [content] if content else []
    text = "\n".join(_text_of(part) for part in parts)
    return (Message(role="system", content=text),) if text else ()


def _parts(message: _Message) -> list[dict[str, object]]:
    if message.role == "tool":
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.content}]
    return _said(message.content, message.tool_calls)


def _said(text: str, tool_calls: Sequence[_Call]) -> list[dict[str, object]]:
    parts: list[dict[str, object]] = [{"type": "text", "content": text}] if text or not tool_calls else []
    for call in tool_calls:
        parts.append({"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments})
    return parts


def _message_from(item: object) -> Iterable[Message]:
    if not isinstance(item, Mapping):
        yield Message(role="user", content=_text_of(item))
        return
    role = _ROLES.get(str(item.get("role", "user")).lower(), "user")
    parts = item.get("parts")
    if not isinstance(parts, list):
        parts = _parts_of_plain(item, role)
    answers = [part for part in parts if isinstance(part, Mapping) and part.get("type") == "tool_call_response"]
    calls = [part for part in parts if isinstance(part, Mapping) and part.get("type") == "tool_call"]
    rest = [part for part in parts if part not in answers and part not in calls]
    for answer in answers:
        result = answer.get("response", answer.get("result"))
        yield Message(role="tool", content=_text_of(result), tool_call_id=_optional_text(answer.get("id")))
    if rest or calls or not answers:
        text = "\n".join(filter(None, map(_text_of, rest)))
        yield Message(role=role, content=text, tool_calls=tuple(map(_call_from, calls)))


def _parts_of_plain(item: Mapping[str, object], role: Role) -> list[object]:
    content = item.get("content")
    if role == "tool":
        return [{"type": "tool_call_response", "id": item.get("tool_call_id"), "response": content}]
    parts: list[object] = list(content) if isinstance(content, list) else [] if content is None else [content]
    calls = item.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        if isinstance(call, Mapping):
            inner = call.get("function")
            named = inner if isinstance(inner, Mapping) else call
            parts.append({**named, "type": "tool_call", "id": call.get("id")})
    return parts


def _call_from(part: Mapping[str, object]) -> ToolCall:
    arguments = part.get("arguments", part.get("args", ""))
    return ToolCall(id=_optional_text(part.get("id")), name=str(part.get("name", "")), arguments=_text_of(arguments))


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)


def _text_of(value: object) -> str:
    """Text as it stands; a text part by its content; anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        inner = value.get("content", value.get("text"))
        if isinstance(inner, str):
            return inner
    try:
        return canonical_json(value)
    except ValueError:
        return str(value)


def _no_json(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


def parsed(text: str) -> object:
    """`text` as JSON where it is JSON, else as it stands, as where it holds NaN, which is none."""
    try:
        return json.loads(text, parse_constant=_no_json)
    except ValueError:
        return text
