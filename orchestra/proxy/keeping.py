"""What is kept of a call that went through the proxy: one span in the store, found again by the id of its answer.

Content is written once, by reference: messages, reply, and the token ids with their log-probabilities. Ids are kept
only where they are certain: as many as the server counted, and one log-probability for each, of the distribution it was
drawn from (`orchestra.proxy.certainty`). Headers are never kept.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

from orchestra.proxy.asking import CHAT, Asked
from orchestra.proxy.certainty import doubt
from orchestra.proxy.hearing import Choice, Heard
from orchestra.traces import names
from orchestra.traces.joins import keep_call
from orchestra.traces.messages import output_messages, with_parts
from orchestra.traces.records import Attribute, Record, RunRecord, SpanRecord
from orchestra.traces.redaction import Redactor, redacted
from orchestra.traces.store import Store, StoreFailed

_PARAMETERS = {
    "temperature": names.REQUEST_TEMPERATURE,
    "top_p": names.REQUEST_TOP_P,
    "top_k": names.REQUEST_TOP_K,
    "seed": names.REQUEST_SEED,
    "max_tokens": names.REQUEST_MAX_TOKENS,
    "max_completion_tokens": names.REQUEST_MAX_TOKENS,
}

_ANSWERS = 200_000
"""How many ids of answers are remembered, to notice one that comes again."""


@dataclass(slots=True)
class Call:
    """One request on its way: what was asked, what is heard, and when."""

    asked: Asked
    heard: Heard = field(default_factory=Heard)
    trace_id: str | None = None
    """Of the trace the client says it belongs to; `None` means it says none."""
    parent_id: str | None = None
    episode: str | None = None
    """Name of the episode the client says it belongs to; `None` means it says none."""
    started_ns: int = field(default_factory=time.time_ns)
    first_ns: int | None = None
    """When the first piece of a reply came; `None` for an answer in one piece."""
    status: int | None = None
    """Of the HTTP answer; `None` means there was none."""
    error: str | None = None
    error_type: str | None = None
    kept: bool = False

    def fail(self, error_type: str, error: str) -> None:
        """Note what went wrong; the first cause stays."""
        if self.error is None:
            self.error, self.error_type = error, error_type


class Keeper:
    """Writes calls to a store.

    Args:
        store: open, and not closed here.
        run_id: the run all calls belong to; it begins with the first one.
        upstream: host and port of the server that answers.
        redact: shown every text before it reaches the store.
        processed: whether that server reports log-probabilities after temperature and truncation; asked for each call
            whose request does not make them the same either way.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        upstream: tuple[str, int | None],
        redact: Redactor | None = None,
        processed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.run_id = run_id
        self.calls = 0
        """Calls kept so far, those that failed included."""
        self.lost = 0
        """Calls that could not be written down."""
        self._store = store
        self._upstream = upstream
        self._redact = redact
        self._processed = processed
        self._answers: set[str] = set()

    async def keep(self, call: Call) -> None:
        """Write `call` down; it is durable when this returns."""
        if not call.kept:
            with self._at_any_price():
                await self._store.write(*self._records(call))

    def keep_soon(self, call: Call) -> None:
        """Write `call` down shortly; for calls nobody waits for any more."""
        if not call.kept:
            with self._at_any_price():
                self._store.post(*self._records(call))

    @contextmanager
    def _at_any_price(self) -> Iterator[None]:
        """A store that fails, or content it cannot hold, costs the record of a call and never the call."""
        try:
            yield
        except (StoreFailed, ValueError) as cause:
            self.lost += 1
            logging.getLogger("orchestra.proxy").error("a call was not kept: %s", cause)

    def _records(self, call: Call) -> list[Record]:
        call.kept = True
        span = self._span(call)
        records: list[Record] = [span]
        if not self.calls:
            host, port = self._upstream
            records.insert(0, RunRecord(self.run_id, "proxy", attributes={"upstream": f"{host}:{port or ''}"}))
        self.calls += 1
        if (answer := call.heard.response_id) is not None:
            keep_call(self._store, answer, span, again=answer in self._answers)
            if len(self._answers) >= _ANSWERS:
                self._answers.clear()
            self._answers.add(answer)
        return records

    def _span(self, call: Call) -> SpanRecord:
        model = call.asked.body.get("model")
        return SpanRecord(
            run_id=self.run_id,
            trace_id=call.trace_id or self._trace_id(call.episode),
            span_id=f"{random.getrandbits(64) or 1:016x}",
            parent_id=call.parent_id,
            name=f"{call.asked.operation} {model}" if isinstance(model, str) else call.asked.operation,
            kind="client",
            start_ns=call.started_ns,
            end_ns=time.time_ns(),
            status="unset" if call.error is None else "error",
            status_message=call.error,
            attributes={key: value for key, value in self._attributes(call).items() if value is not None},
            scope="orchestra.proxy",
        )

    def _trace_id(self, episode: str | None) -> str:
        """The same for all calls of an episode; another for every call that is of none."""
        if episode is None:
            return f"{random.getrandbits(128) or 1:032x}"
        return sha256(f"{self.run_id} {episode}".encode()).hexdigest()[:32]

    def _attributes(self, call: Call) -> dict[str, Attribute | None]:
        asked, heard, body = call.asked, call.heard, call.asked.body
        finished = [choice.finish_reason for _, choice in sorted(heard.choices.items()) if choice.finish_reason]
        model = body.get("model")
        stop = body.get("stop")
        found: dict[str, Attribute | None] = {
            names.OPERATION_NAME: asked.operation,
            names.CONVERSATION_ID: call.episode,
            names.REQUEST_MODEL: model if isinstance(model, str) else None,
            names.REQUEST_STREAM: asked.stream or None,
            names.REQUEST_STOP_SEQUENCES: [stop] if isinstance(stop, str) else _texts(stop),
            names.RESPONSE_ID: heard.response_id,
            names.RESPONSE_MODEL: heard.model,
            names.RESPONSE_FINISH_REASONS: finished or None,
            names.FIRST_TOKEN_SECONDS: None if call.first_ns is None else (call.first_ns - call.started_ns) / 1e9,
            names.INPUT_TOKENS: heard.input_tokens,
            names.OUTPUT_TOKENS: heard.output_tokens,
            names.CACHED_INPUT_TOKENS: heard.cached_input_tokens,
            names.SERVER_ADDRESS: self._upstream[0],
            names.SERVER_PORT: self._upstream[1],
            names.STATUS_CODE: call.status,
            names.ERROR_TYPE: call.error_type,
        }
        for key, name in _PARAMETERS.items():
            if isinstance(value := body.get(key), int | float) and not isinstance(value, bool):
                found[name] = value
        if heard.input_tokens is None and (prompt := _prompt_ids(heard)) is not None:
            found[names.INPUT_TOKENS] = len(prompt)
        if heard.output_tokens is None and any(one.reply_ids is not None for one in heard.choices.values()):
            found[names.OUTPUT_TOKENS] = sum(len(one.reply_ids or ()) for one in heard.choices.values())
        self._add_content(call, found)
        return found

    def _add_content(self, call: Call, found: dict[str, Attribute | None]) -> None:
        body = call.asked.body
        said = [
            message
            for _, choice in sorted(call.heard.choices.items())
            for message in output_messages("".join(choice.text), choice.finish_reason, choice.tool_calls)
        ]
        content: dict[str, object] = {
            names.INPUT_MESSAGES: with_parts(_asked_messages(call.asked)) or None,
            names.OUTPUT_MESSAGES: said or None,
            names.TOOL_DEFINITIONS: body.get("tools"),
        }
        ids, missing = _token_ids(call.heard)
        if ids is not None and ids.get("logprobs") is not None:
            ids, doubted = self._of_what_was_drawn(call.asked, ids)
            missing = missing or doubted
        for key, value in content.items():
            clean = value if self._redact is None else redacted(value, self._redact)
            if clean != value:
                found[names.REDACTED] = True
            if clean is not None:
                found[key] = self._store.blob(clean)
        if found.get(names.REDACTED):
            ids, missing = None, None
        if ids is not None:
            found[names.TOKEN_IDS] = self._store.blob(ids)
        found[names.TOKEN_IDS_MISSING] = missing

    def _of_what_was_drawn(self, asked: Asked, ids: dict[str, object]) -> tuple[dict[str, object], str | None]:
        """`ids`, with log-probabilities only where they are of the distribution sampled from, and why not."""
        why = doubt(asked.body)
        if why is None or self._processed():
            return ids, None
        missing = (
            f"{why}, and the server's log-probabilities may be from before that: start vLLM with --logprobs-mode "
            "processed_logprobs, as orchestra serve does, and orchestra proxy with --processed-logprobs"
        )
        return {**ids, "logprobs": None, "sent_logprobs": ids["logprobs"]}, missing


def _asked_messages(asked: Asked) -> list[object]:
    if asked.operation == CHAT:
        messages = asked.body.get("messages")
        return messages if isinstance(messages, list) else []
    prompt = asked.body.get("prompt")
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    texts = _texts(prompt)
    return [{"role": "user", "content": text} for text in texts] if texts else []


def _token_ids(heard: Heard) -> tuple[dict[str, object] | None, str | None]:
    """The ids as `orchestra.token_ids` holds them, and why something of them is missing."""
    choices = [choice for _, choice in sorted(heard.choices.items())]
    prompt = _prompt_ids(heard)
    if prompt is None and all(choice.reply_ids is None for choice in choices):
        return None, None
    if len(choices) != 1:
        rows = [{"prompt": one.prompt_ids, "reply": one.reply_ids, "logprobs": _certain(one)} for one in choices]
        return {"prompt": prompt, "reply": None, "logprobs": None, "choices": rows}, "several replies to one request"
    (choice,) = choices
    reply, counted = choice.reply_ids, heard.output_tokens
    if reply is not None and counted is not None and counted != len(reply):
        why = f"the server counts {counted} tokens of the reply and sent {len(reply)} ids"
        return {"prompt": prompt, "reply": None, "logprobs": None, "sent": reply}, why
    if prompt is not None and heard.input_tokens is not None and heard.input_tokens != len(prompt):
        why = f"the server counts {heard.input_tokens} tokens of the prompt and sent {len(prompt)} ids"
        return {"prompt": None, "reply": reply, "logprobs": _certain(choice), "sent_prompt": prompt}, why
    return {"prompt": prompt, "reply": reply, "logprobs": _certain(choice)}, None


def _prompt_ids(heard: Heard) -> list[int] | None:
    if heard.prompt_ids is not None or len(heard.choices) != 1:
        return heard.prompt_ids
    return next(iter(heard.choices.values())).prompt_ids


def _certain(choice: Choice) -> list[float] | None:
    """Log-probabilities, where there is one for each id."""
    ids, logprobs = choice.reply_ids, choice.logprobs
    return logprobs if ids is not None and logprobs is not None and len(ids) == len(logprobs) else None


def _texts(value: object) -> list[str] | None:
    return list(value) if isinstance(value, list) and value and all(isinstance(one, str) for one in value) else None


def trace_parent(headers: Mapping[bytes, bytes]) -> tuple[str | None, str | None]:
    """Trace and span id of a W3C `traceparent` header; `(None, None)` without one."""
    parts = headers.get(b"traceparent", b"").decode("latin-1").split("-")
    if len(parts) < 4 or (len(parts[1]), len(parts[2])) != (32, 16):
        return None, None
    try:
        known = int(parts[1], 16) and int(parts[2], 16)
    except ValueError:
        return None, None
    return (parts[1].lower(), parts[2].lower()) if known else (None, None)
