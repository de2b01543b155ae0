"""Requests as vLLM's OpenAI-compatible server takes them, and what it sends back gathered into a reply.

Every setting that shapes the draw is sent, neutral ones too, because a server otherwise takes them from the model's own
`generation_config.json` and the log-probabilities would be of another distribution.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from orchestra.models.litellm_wire import REASONS, wire_messages, wire_tools
from orchestra.models.protocol import Completion, FinishReason, Request, ToolCall, ToolSchema, Usage
from orchestra.models.vllm_errors import failure, malformed

TOKEN = "token_id:"
"""How a server told to write tokens as ids writes them."""

_OURS = ToolSchema(name="ours", description="").parameters
_UNSTREAMED = {"stream": False}
_STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


def drawing(request: Request) -> dict[str, Any]:
    """How the reply to `request` is drawn."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    if sampling.temperature > 0:
        body["top_p"], body["top_k"] = sampling.top_p, sampling.top_k
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.seed is not None:
        drawn = hashlib.sha256(f"{request.seed}/{request.sample_index}".encode()).digest()
        body["seed"] = int.from_bytes(drawn[:8], "big") >> 1
    return body


def chat_body(request: Request, model: str, *, stream: bool, logprobs: bool) -> bytes:
    """The body of `/v1/chat/completions`: messages, which the server renders."""
    body = {"model": model, "messages": wire_messages(request), **drawing(request)}
    body.update(_STREAMED if stream else _UNSTREAMED)
    if request.tools:
        body["tools"] = [
            # The grammar of a call is then enforced while it is drawn, which small models need; strangers' schemas may
            # hold what the server's grammar does not know.
            {**wire, "function": {**wire["function"], "strict": True}} if tool.parameters == _OURS else wire
            for tool, wire in zip(request.tools, wire_tools(request), strict=True)
        ]
    if logprobs:
        body["logprobs"] = True
    return encoded(body)


def ids_body(request: Request, prompt_ids: tuple[int, ...], model: str, *, stream: bool, logprobs: bool) -> bytes:
    """The body of `/v1/completions`: the ids of a prompt, and ids wanted back."""
    body = {"model": model, "prompt": list(prompt_ids), **drawing(request), "return_token_ids": True}
    body.update(_STREAMED if stream else _UNSTREAMED)
    if logprobs:
        body["logprobs"] = 0  # of the token drawn alone, without alternatives
    return encoded(body)


def encoded(body: dict[str, Any]) -> bytes:
    """JSON, as short as it can be."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


class Events:
    """Server-sent events cut out of a body as it comes in; only their data matters here."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every line that `chunk` completes; comments and empty lines are left out."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


@dataclass(slots=True)
class Reply:
    """What has arrived so far, on either way."""

    name: str
    """Of the model, for errors."""
    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    token_ids: list[int] = field(default_factory=list)
    prompt_token_ids: list[int] | None = None
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None
    first_seconds: float | None = None

    def add(self, data: bytes) -> tuple[str, list[int]]:
        """Take in one JSON document, a chunk of a stream or a whole answer; the text and ids it brought.

        Raises:
            ModelError: it is no part of a reply, or reports a failure.
        """
        try:
            chunk = json.loads(data)
            if "error" in chunk:
                raise failure(self.name, chunk["error"])
            return self._add(chunk)
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as cause:
            raise malformed(self.name, data) from cause

    def _add(self, chunk: dict[str, Any]) -> tuple[str, list[int]]:
        if self.response_id is None:
            self.response_id, self.model = chunk.get("id"), chunk.get("model")
        if chunk.get("usage") is not None:
            self.usage = usage_of(chunk["usage"]) or self.usage
        if not chunk["choices"]:
            return "", []
        choice = chunk["choices"][0]
        said = choice.get("delta") or choice.get("message")
        text = (choice.get("text") if said is None else said.get("content")) or ""
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        for place, call in enumerate((said or {}).get("tool_calls") or ()):
            self._call(call, place)
        ids: list[int] = choice.get("token_ids") or []
        self.token_ids.extend(ids)
        prompt_ids = choice.get("prompt_token_ids") or chunk.get("prompt_token_ids")
        if prompt_ids is not None:
            self.prompt_token_ids = prompt_ids
        logprobs = choice.get("logprobs")
        if logprobs is not None:
            listed = logprobs.get("token_logprobs")
            self.logprobs.extend(
                listed if listed is not None else [token["logprob"] for token in logprobs["content"] or ()]
            )
        self.text.append(text)
        return text, ids

    def _call(self, call: dict[str, Any], place: int) -> None:
        # A whole answer's calls carry no index.
        index = call.get("index")
        known = self.calls.setdefault(place if index is None else index, {"id": "", "name": "", "arguments": ""})
        function = call.get("function") or {}
        known["id"] = known["id"] or call.get("id") or ""
        known["name"] += function.get("name") or ""
        known["arguments"] += function.get("arguments") or ""

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The functions it wants called, in order."""
        return tuple(ToolCall(**self.calls[index]) for index in sorted(self.calls))

    def believed_usage(self) -> Usage | None:
        """What the server says it used, where what it sent does not show that it used more.

        A count below the ids that were sent is corrected to them; a reply of no tokens that has text is not believed.
        """
        usage = self.usage
        if usage is None:
            return None
        if usage.output_tokens == 0 and (any(self.text) or self.calls) and not self.token_ids:
            return None
        return Usage(
            input_tokens=max(usage.input_tokens, len(self.prompt_token_ids or ())),
            output_tokens=max(usage.output_tokens, len(self.token_ids)),
            cached_input_tokens=usage.cached_input_tokens,
        )

    def reason(self) -> FinishReason:
        """Why it ended, in our words."""
        return "tool_calls" if self.calls else REASONS.get(self.finish_reason or "", "stop")


def usage_of(reported: Any) -> Usage | None:
    """Counts as a server reports them; `None` when they are no counts."""
    counts = (reported.get("prompt_tokens"), reported.get("completion_tokens"))
    if not all(type(count) is int and count >= 0 for count in counts):
        return None
    details = reported.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=counts[0], output_tokens=counts[1], cached_input_tokens=int(details.get("cached_tokens") or 0)
    )


def completion(
    reply: Reply, prompt_ids: tuple[int, ...] | None, *, latency_seconds: float, adapter: str | None, logprobs: bool
) -> Completion:
    """The finished reply.

    Args:
        reply: everything that arrived.
        prompt_ids: that were sent; `None` when the server rendered messages.
        latency_seconds: from the request to the end.
        adapter: that answered.
        logprobs: whether those that arrived are of the distribution sampled from.
    """
    by_ids = prompt_ids is not None
    return Completion(
        text="".join(reply.text),
        finish_reason=reply.reason(),
        model=reply.model or reply.name,
        usage=reply.believed_usage(),
        tool_calls=reply.tool_calls(),
        prompt_token_ids=prompt_ids,
        token_ids=tuple(reply.token_ids) if by_ids else None,
        # A greedy token of certainty is reported as a hair above zero by some kernels.
        logprobs=tuple(min(0.0, float(value)) for value in reply.logprobs) if logprobs and reply.logprobs else None,
        adapter=adapter,
        response_id=reply.response_id,
        latency_seconds=latency_seconds,
        first_token_seconds=reply.first_seconds,
    )
