"""What other instrumentations write, under the names of `orchestra.traces.names`: one table, and nothing is taken away.

Read: the GenAI conventions as they were before v0.1.0 (`gen_ai.system`, prompts and completions as attributes, as
numbered attributes and as events), and the names of frameworks that have their own for what the conventions name.
Present names win over older ones.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from orchestra.traces import names
from orchestra.traces.messages import with_parts
from orchestra.traces.turns import CHATS

RENAMED: Final[Mapping[str, str]] = {
    "gen_ai.system": names.PROVIDER_NAME,
    "gen_ai.usage.prompt_tokens": names.INPUT_TOKENS,
    "gen_ai.usage.completion_tokens": names.OUTPUT_TOKENS,
    "gen_ai.prompt": names.INPUT_MESSAGES,
    "gen_ai.completion": names.OUTPUT_MESSAGES,
    "gen_ai.openai.request.seed": names.REQUEST_SEED,
    "gen_ai.request.stop": names.REQUEST_STOP_SEQUENCES,
    "gen_ai.workflow.name": names.AGENT_NAME,
    "gen_ai.thread.id": names.CONVERSATION_ID,
    "langgraph.thread_id": names.CONVERSATION_ID,
    "traceloop.association.properties.thread_id": names.CONVERSATION_ID,
}
"""Older or other name -> the present one."""

_NUMBERED: Final = re.compile(r"gen_ai\.(prompt|completion)\.(\d+)\.(.+)")
"""One attribute for each field of each message."""

_SAID_IN_EVENTS: Final[Mapping[str, str]] = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_CONTENT_EVENTS: Final[Mapping[str, str]] = {
    "gen_ai.content.prompt": "gen_ai.prompt",
    "gen_ai.content.completion": "gen_ai.completion",
}
_ANSWER_EVENT: Final = "gen_ai.choice"


def present_names(
    name: str, attributes: Mapping[str, Any], events: Iterable[Mapping[str, Any]], read: Callable[[str], object]
) -> dict[str, Any]:
    """What `attributes` and `events` of a span say under older names, under the present ones.

    Args:
        name: of the span.
        attributes: as they came.
        events: as they came.
        read: from a text to what it says, as JSON where it is JSON.
    """
    found: dict[str, Any] = {}
    flat = {**_from_events(events, read), **attributes}
    for old, new in RENAMED.items():
        if old in flat and new not in attributes:
            found.setdefault(new, flat[old])
    found.update(_from_events_messages(events, read, attributes))
    found.update(_from_numbered(attributes, read))
    if names.OPERATION_NAME not in attributes and attributes.get("llm.request.type") in CHATS:
        found[names.OPERATION_NAME] = attributes["llm.request.type"]
    return found


def _from_events(events: Iterable[Mapping[str, Any]], read: Callable[[str], object]) -> dict[str, Any]:
    """Prompt and completion, where each is an attribute of an event of its own."""
    found = {}
    for event in events:
        key = _CONTENT_EVENTS.get(str(event.get("name")))
        details = event.get("attributes")
        if key is not None and isinstance(details, Mapping) and key in details:
            found[key] = details[key]
    return found


def _from_events_messages(
    events: Iterable[Mapping[str, Any]], read: Callable[[str], object], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Messages, where each is an event."""
    asked: list[object] = []
    said: list[object] = []
    for event in events:
        kind, details = str(event.get("name")), event.get("attributes")
        if not isinstance(details, Mapping):
            continue
        if kind in _SAID_IN_EVENTS:
            asked.append(_message(details, _SAID_IN_EVENTS[kind], read))
        elif kind == _ANSWER_EVENT:
            inner = _read(details.get("message"), read)
            said.append(_message(inner if isinstance(inner, Mapping) else details, "assistant", read))
    return _where_absent({names.INPUT_MESSAGES: asked, names.OUTPUT_MESSAGES: said}, attributes)


def _message(details: Mapping[str, Any], role: str, read: Callable[[str], object]) -> dict[str, object]:
    """One message; an event of a tool names the call it answers `id`."""
    message: dict[str, object] = {"role": details.get("role", role), "content": details.get("content")}
    calls = _read(details.get("tool_calls"), read)
    if isinstance(calls, list):
        message["tool_calls"] = calls
    if role == "tool":
        message["tool_call_id"] = details.get("tool_call_id", details.get("id"))
    return message


def _from_numbered(attributes: Mapping[str, Any], read: Callable[[str], object]) -> dict[str, Any]:
    """Messages, where each field of each is an attribute: `gen_ai.prompt.0.role`."""
    rows: dict[str, dict[int, dict[str, Any]]] = {"prompt": {}, "completion": {}}
    for key, value in attributes.items():
        if (match := _NUMBERED.fullmatch(key)) is not None:
            rows[match[1]].setdefault(int(match[2]), {})[match[3]] = value
    asked = [_numbered(rows["prompt"][at], "user", read) for at in sorted(rows["prompt"])]
    said = [_numbered(rows["completion"][at], "assistant", read) for at in sorted(rows["completion"])]
    return _where_absent({names.INPUT_MESSAGES: asked, names.OUTPUT_MESSAGES: said}, attributes)


def _numbered(fields: Mapping[str, Any], role: str, read: Callable[[str], object]) -> dict[str, object]:
    calls: dict[int, dict[str, Any]] = {}
    for key, value in fields.items():
        if (match := re.fullmatch(r"tool_calls\.(\d+)\.(.+)", key)) is not None:
            calls.setdefault(int(match[1]), {})[match[2]] = value
    message = _message({"role": role, **fields}, str(fields.get("role", role)), read)
    if calls:
        message["tool_calls"] = [calls[at] for at in sorted(calls)]
    return message


def _where_absent(messages: Mapping[str, Sequence[object]], attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: with_parts(said) for key, said in messages.items() if said and key not in attributes}


def _read(value: object, read: Callable[[str], object]) -> object:
    return read(value) if isinstance(value, str) else value
