"""Requests as an OpenAI-compatible server takes them, and its chunks gathered into a reply."""

from dataclasses import dataclass, field
from typing import Any

from orchestra.models.protocol import FinishReason, Message, Request, ToolCall, Usage

REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
"""Why a reply ended, from the server's word for it; a word not listed counts as `stop`."""
BROKEN_OFF = frozenset({"abort", "error", "network_error"})
"""Words of servers for a reply that did not end, but was given up."""


@dataclass(slots=True)
class Reply:
    """What has arrived so far."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None
    first_seconds: float | None = None

    def add(self, chunk: Any) -> str:
        """Take in one chunk; the text it brought."""
        self.model = self.model or getattr(chunk, "model", None)
        self.response_id = self.response_id or getattr(chunk, "id", None)
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        for call in getattr(choice.delta, "tool_calls", None) or ():
            known = self.calls.setdefault(call.index or 0, {"id": "", "name": "", "arguments": ""})
            known["id"] = known["id"] or call.id or ""
            known["name"] += call.function.name or ""
            known["arguments"] += call.function.arguments or ""
        for token in getattr(getattr(choice, "logprobs", None), "content", None) or ():
            self.logprobs.append(float(token.logprob))
        text: str = choice.delta.content or ""
        self.text.append(text)
        return text

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The functions it wants called, in order."""
        return tuple(ToolCall(**self.calls[index]) for index in sorted(self.calls))


def reported_usage(answer: Any) -> Usage | None:
    """What the server said; LiteLLM sums it up, and makes it up where no chunk carried any."""
    reported = [chunk.usage for chunk in answer.chunks if getattr(chunk, "usage", None) is not None]
    if not reported:
        return None
    details = getattr(reported[-1], "prompt_tokens_details", None)
    return Usage(
        input_tokens=max(int(usage.prompt_tokens or 0) for usage in reported),
        output_tokens=max(int(usage.completion_tokens or 0) for usage in reported),
        cached_input_tokens=int(getattr(details, "cached_tokens", None) or 0),
    )


def wire_messages(request: Request) -> list[dict[str, Any]]:
    """The messages of `request`."""
    return [_wire_message(message) for message in request.messages]


def _wire_message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def wire_tools(request: Request) -> list[dict[str, Any]]:
    """The tools of `request`."""
    return [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
        for t in request.tools
    ]
