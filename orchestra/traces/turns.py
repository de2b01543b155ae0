"""One span to one record: a chat span is a turn, a tool span the use of a tool.

Everything is read by the names of `orchestra.traces.names`, so a span of any application that follows the conventions
will do; what it does not say stays `None`.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from orchestra.ledger import usd
from orchestra.traces import names
from orchestra.traces.content import is_digest
from orchestra.traces.episode import FailedAttempt, Message, ToolCall, ToolUse, Turn, TurnSampling, Usage
from orchestra.traces.messages import instructions_from, messages_from, parsed
from orchestra.traces.records import SpanRecord

Blobs = Callable[[str], object]
"""The content behind a digest; raises `KeyError` when there is none."""

CHATS = frozenset({"chat", "generate_content", "text_completion"})
"""Operations that ask a model for a reply."""


class Contents:
    """The content that spans refer to, each blob read once.

    Args:
        blobs: reads one.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._read: dict[str, object] = {}

    def of(self, span: SpanRecord, key: str) -> Any:
        """The content under `key`: by reference, or written out as JSON or text; `None` when there is none."""
        value = span.attributes.get(key)
        if not isinstance(value, str):
            return value
        if not is_digest(value):
            return parsed(value)
        if value not in self._read:
            try:
                self._read[value] = self._blobs(value)
            except KeyError:
                self._read[value] = None
        return self._read[value]

    def conversation(self, span: SpanRecord, key: str) -> Any:
        """As `of`; some applications put messages on an event of the span instead."""
        if key in span.attributes:
            return self.of(span, key)
        for event in span.events:
            attributes = event.get("attributes")
            if isinstance(attributes, Mapping) and key in attributes:
                value = attributes[key]
                return parsed(value) if isinstance(value, str) else value
        return None


def operation(span: SpanRecord) -> str:
    """The operation a span is about: as it says, else the first word of its name."""
    return str(span.attributes.get(names.OPERATION_NAME) or span.name.split(" ", 1)[0])


def turn_from(span: SpanRecord, contents: Contents, reward: float | None = None) -> Turn:
    """The turn a chat span records."""
    said = messages_from(contents.conversation(span, names.OUTPUT_MESSAGES))
    ids = contents.of(span, names.TOKEN_IDS)
    ids = ids if isinstance(ids, dict) else {}
    read = _Reader(span)
    return Turn(
        span_id=span.span_id,
        messages=_asked(span, contents),
        reply="\n".join(message.content for message in said) if said else None,
        tool_calls=tuple(call for message in said for call in message.tool_calls),
        prompt_token_ids=_numbers(ids.get("prompt")),
        reply_token_ids=_numbers(ids.get("reply")),
        logprobs=_numbers(ids.get("logprobs")),
        sampling=_sampling(read),
        sample_index=read.whole(names.SAMPLE_INDEX),
        model=read.text(names.RESPONSE_MODEL) or read.text(names.REQUEST_MODEL),
        provider=read.text(names.PROVIDER_NAME),
        adapter=read.text(names.ADAPTER),
        finish_reason=read.text(names.RESPONSE_FINISH_REASONS),
        response_id=read.text(names.RESPONSE_ID),
        usage=Usage(
            input_tokens=read.whole(names.INPUT_TOKENS),
            output_tokens=read.whole(names.OUTPUT_TOKENS),
            cached_input_tokens=read.whole(names.CACHED_INPUT_TOKENS),
        ),
        usage_doubt=read.text(names.USAGE_DOUBT),
        failed_attempts=_attempts(contents.of(span, names.FAILED_ATTEMPTS)),
        paid_usd=read.money(names.PAID_NANO),
        list_usd=read.money(names.LIST_NANO),
        cached=read.flag(names.CACHED),
        started_ns=span.start_ns,
        latency_seconds=(span.end_ns - span.start_ns) / 1e9,
        first_token_seconds=read.number(names.FIRST_TOKEN_SECONDS),
        round=read.whole(names.ROUND),
        step=read.whole(names.STEP),
        state_key=read.text(names.STATE_KEY),
        reward=reward,
        redacted=read.flag(names.REDACTED) or False,
        error=failure(span),
    )


def tool_use_from(span: SpanRecord, contents: Contents) -> ToolUse:
    """The use of a tool that a tool span records."""
    read = _Reader(span)
    return ToolUse(
        span_id=span.span_id,
        name=read.text(names.TOOL_NAME) or span.name.partition(" ")[2] or span.name,
        call_id=read.text(names.TOOL_CALL_ID),
        arguments=contents.of(span, names.TOOL_CALL_ARGUMENTS),
        result=contents.of(span, names.TOOL_CALL_RESULT),
        started_ns=span.start_ns,
        latency_seconds=(span.end_ns - span.start_ns) / 1e9,
        round=read.whole(names.ROUND),
        error=failure(span),
    )


def completed(uses: Sequence[ToolUse], turns: Sequence[Turn]) -> tuple[ToolUse, ...]:
    """`uses` of tools with what their spans leave out, where a turn says it of the very same call."""
    calls: dict[str | None, ToolCall] = {
        call.id: call for turn in turns for call in turn.tool_calls if call.id is not None
    }
    answers: dict[str | None, str] = {
        one.tool_call_id: one.content for turn in turns for one in turn.messages if one.tool_call_id is not None
    }
    return tuple(_completed(use, calls.get(use.call_id), answers.get(use.call_id)) for use in uses)


def _completed(use: ToolUse, call: ToolCall | None, answer: str | None) -> ToolUse:
    known: dict[str, Any] = {}
    if use.arguments is None and call is not None:
        known["arguments"] = parsed(call.arguments)
    if use.result is None and answer is not None and use.error is None:
        known["result"] = answer
    return use.model_copy(update=known) if known else use


def failure(span: SpanRecord) -> str | None:
    """What a failed span says went wrong; `None` when it did not fail."""
    if span.status != "error":
        return None
    return span.status_message or str(span.attributes.get(names.ERROR_TYPE) or "failed")


class _Reader:
    def __init__(self, span: SpanRecord) -> None:
        self._attributes = span.attributes

    def text(self, key: str) -> str | None:
        value = self._attributes.get(key)
        if isinstance(value, list | tuple):
            value = value[0] if value else None
        return None if value is None else str(value)

    def texts(self, key: str) -> tuple[str, ...] | None:
        value = self._attributes.get(key)
        return tuple(map(str, value)) if isinstance(value, list | tuple) else None

    def number(self, key: str) -> float | None:
        value = self._attributes.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def whole(self, key: str) -> int | None:
        value = self.number(key)
        return None if value is None else int(value)

    def flag(self, key: str) -> bool | None:
        value = self._attributes.get(key)
        return value if isinstance(value, bool) else None

    def money(self, key: str) -> Decimal | None:
        value = self._attributes.get(key)
        return usd(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _asked(span: SpanRecord, contents: Contents) -> tuple[Message, ...]:
    messages = messages_from(contents.conversation(span, names.INPUT_MESSAGES))
    if any(message.role == "system" for message in messages):
        return messages
    return (*instructions_from(contents.conversation(span, names.SYSTEM_INSTRUCTIONS)), *messages)


def _sampling(read: _Reader) -> TurnSampling:
    return TurnSampling(
        temperature=read.number(names.REQUEST_TEMPERATURE),
        top_p=read.number(names.REQUEST_TOP_P),
        top_k=read.whole(names.REQUEST_TOP_K),
        max_tokens=read.whole(names.REQUEST_MAX_TOKENS),
        stop=read.texts(names.REQUEST_STOP_SEQUENCES),
        seed=read.whole(names.REQUEST_SEED),
    )


def _attempts(told: object) -> tuple[FailedAttempt, ...]:
    return tuple(
        FailedAttempt(
            error=str(one.get("error")),
            booked_usd=None if one.get("booked_nano") is None else usd(one["booked_nano"]),
            served=one.get("served"),
            retry_after_seconds=one.get("retry_after_seconds"),
        )
        for one in (told if isinstance(told, list) else ())
        if isinstance(one, dict)
    )


def _numbers(values: object) -> tuple[Any, ...] | None:
    return tuple(values) if isinstance(values, list | tuple) else None
