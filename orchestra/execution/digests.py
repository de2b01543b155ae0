"""What a call asks, in a few digits: the journal and a recording answer only the call they were written for.

Of a request everything counts that decides its reply and that every attempt knows beforehand: the model's name, what
was said, tools, sampling, seed, sample index, adapter. Token ids are left out, because they belong to replies that are
compared by their text; so are deadlines, which decide whether a reply comes, not which.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphs import Tool
from orchestra.agents.tools import source_hash
from orchestra.errors import InputError
from orchestra.models.protocol import Message, Request

DIGITS = 32
"""Hexadecimal digits of a digest."""


def digest(value: object) -> str:
    """A digest of anything JSON can say."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def request_parts(model_name: str, request: Request) -> dict[str, Any]:
    """What `request` asks, part by part, with a digest in place of every text."""
    return {
        "model": model_name,
        "adapter": request.adapter,
        "tools": digest([[tool.name, tool.description, tool.parameters] for tool in request.tools]),
        "messages": [[message.role, digest(_said(message))] for message in request.messages],
        "sampling": request.sampling.model_dump(mode="json"),
        "seed": request.seed,
        "sample_index": request.sample_index,
    }


def request_digest(model_name: str, request: Request) -> str:
    """A digest of what `request` asks."""
    parts = [
        model_name,
        request.adapter,
        [[tool.name, tool.description, tool.parameters] for tool in request.tools],
        [_said(message) for message in request.messages],
        request.sampling.model_dump(mode="json"),
        request.seed,
        request.sample_index,
    ]
    return digest(parts)


def tool_digest(tool: Tool, text: str) -> str:
    """A digest of what a tool is asked."""
    return digest([tool.call, text])


def code_digest(tool: Tool, folder: Path | None) -> str | None:
    """A digest of the tool's code; `None` where it cannot be told."""
    try:
        return source_hash(tool, folder)[:DIGITS]
    except (InputError, OSError):
        return None  # calling it says why


def first_difference(recorded: Mapping[str, Any], now: Mapping[str, Any], request: Request) -> str | None:
    """What of `now` is not as it was recorded, in words; `None` when nothing differs.

    Args:
        recorded: the parts of the recorded request.
        now: the parts of this one.
        request: this one, to quote from.
    """
    for part in ("model", "adapter", "sampling", "seed", "sample_index", "tools"):
        if recorded.get(part) != now[part]:
            was = "" if part == "tools" else f"; recorded {recorded.get(part)!r}, now {now[part]!r}"
            return f"its {part} differ{'' if part == 'tools' else 's'}{was}"
    before = recorded.get("messages", [])
    for number, (message, was_said) in enumerate(zip(request.messages, now["messages"], strict=True), 1):
        if number > len(before):
            return f"it has {len(request.messages)} messages, recorded {len(before)}"
        if before[number - 1] != was_said:
            return f"message {number} ({message.role}) was another one; now it begins {message.content[:80]!r}"
    if len(before) > len(request.messages):
        return f"it has {len(request.messages)} messages, recorded {len(before)}"
    return None


def _said(message: Message) -> list[Any]:
    calls = [[call.id, call.name, call.arguments] for call in message.tool_calls]
    return [message.role, message.content, calls, message.tool_call_id]
