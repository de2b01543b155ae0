"""An answer as it is heard: put together from one document or from the pieces of a stream.

Whatever a server sends, nothing here raises: what cannot be understood is not heard.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestra.traces.episode import ToolCall


@dataclass(slots=True)
class Choice:
    """One of the replies of an answer."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    """Tool calls by their position: `id`, `name` and `arguments`."""
    reasoning: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_ids: list[int] | None = None
    reply_ids: list[int] | None = None
    """`None` means the server sent none."""
    logprobs: list[float] | None = None
    """One per id of the reply, natural log; `None` means the server sent none."""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """What the model wants called, in order."""
        calls = (self.calls[at] for at in sorted(self.calls))
        return tuple(ToolCall(id=call["id"] or None, name=call["name"], arguments=call["arguments"]) for call in calls)


@dataclass(slots=True)
class Heard:
    """An answer so far."""

    response_id: str | None = None
    model: str | None = None
    prompt_ids: list[int] | None = None
    choices: dict[int, Choice] = field(default_factory=dict)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    error: str | None = None
    """What a piece of the stream said had gone wrong."""

    @property
    def complete(self) -> bool:
        """Whether every reply came to its end."""
        return bool(self.choices) and all(choice.finish_reason is not None for choice in self.choices.values())

    def hear(self, document: Mapping[str, Any]) -> None:
        """Take in a whole answer, or the next piece of one."""
        self.response_id = self.response_id or _text(document.get("id"))
        self.model = self.model or _text(document.get("model"))
        self.prompt_ids = self.prompt_ids or _ids(document.get("prompt_token_ids"))
        self._count(document.get("usage"))
        error = document.get("error")
        if error is not None:
            self.error = _text(error.get("message") if isinstance(error, dict) else error) or str(error)
        choices = document.get("choices")
        for at, said in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(said, dict):
                index = said.get("index")
                self._hear_choice(self.choices.setdefault(index if isinstance(index, int) else at, Choice()), said)

    def _count(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        self.input_tokens = _whole(usage.get("prompt_tokens"), self.input_tokens)
        self.output_tokens = _whole(usage.get("completion_tokens"), self.output_tokens)
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            self.cached_input_tokens = _whole(details.get("cached_tokens"), self.cached_input_tokens)

    def _hear_choice(self, choice: Choice, said: Mapping[str, Any]) -> None:
        choice.finish_reason = _text(said.get("finish_reason")) or choice.finish_reason
        message = said.get("message", said.get("delta"))
        message = message if isinstance(message, dict) else {"content": said.get("text")}
        _extend_text(choice.text, message.get("content"))
        _extend_text(choice.reasoning, message.get("reasoning", message.get("reasoning_content")))
        calls = message.get("tool_calls")
        for at, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                _hear_call(choice.calls, call, at)
        choice.prompt_ids = choice.prompt_ids or _ids(said.get("prompt_token_ids"))
        if (ids := _ids(said.get("token_ids"))) is not None:
            choice.reply_ids = (choice.reply_ids or []) + ids
        if (logprobs := _logprobs(said.get("logprobs"))) is not None:
            choice.logprobs = (choice.logprobs or []) + logprobs


def _hear_call(calls: dict[int, dict[str, str]], call: Mapping[str, Any], at: int) -> None:
    index = call.get("index")
    known = calls.setdefault(index if isinstance(index, int) else at, {"id": "", "name": "", "arguments": ""})
    function = call.get("function")
    known["id"] = known["id"] or _text(call.get("id")) or ""
    if isinstance(function, dict):
        known["name"] += _text(function.get("name")) or ""
        known["arguments"] += _text(function.get("arguments")) or ""


def _logprobs(value: object) -> list[float] | None:
    """Of the sampled tokens: chat lists tokens under `content`, plain completion numbers under `token_logprobs`."""
    if not isinstance(value, dict):
        return None
    numbers = value.get("token_logprobs")
    if numbers is None and isinstance(value.get("content"), list):
        numbers = [token.get("logprob") if isinstance(token, dict) else None for token in value["content"]]
    if not isinstance(numbers, list) or not all(isinstance(n, int | float) for n in numbers):
        return None
    return [float(number) for number in numbers]


def _ids(value: object) -> list[int] | None:
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        return None
    return list(value)


def _extend_text(parts: list[str], value: object) -> None:
    if isinstance(value, str) and value:
        parts.append(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: object, known: int | None) -> int | None:
    return value if type(value) is int else known
